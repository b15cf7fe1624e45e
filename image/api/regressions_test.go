package api_test

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"github.com/gophercloud/gophercloud/v2/openstack/image/v2/images"
	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre/image"
	"github.com/nacre-cloud/nacre/image/backend/mem"
)

const jsonType = "application/json"

// located is full with a store that reads URLs.
func located(t *testing.T, test func(w *world)) {
	onEachWith(t, func(c *image.Config) {
		c.Stores = []image.Store{{ID: "own", Driver: c.Backend}, {ID: "http", Driver: pages{&mem.Driver{}}, ReadOnly: true}}
		c.ShowLocations, c.Fetcher = true, fetcher{}
	}, test)
}

// CVE-2014-9493, CVE-2015-1195: a location names a file, or credentials, of the
// server's. By both locations APIs and by each import that takes a URL.
func TestForeignLocations(t *testing.T) {
	located(t, func(w *world) {
		for _, url := range []string{"file:///etc/passwd", "filesystem:///etc/passwd", "swift+config://x/y", "cinder://x", "rbd://x", "mem://x", "http://127.0.0.1/", "http://other.test/", "", "ok.test/x"} {
			im := w.create("one", images.CreateOpts{Name: "a", DiskFormat: "raw", ContainerFormat: "bare"})
			at := "/v2/images/" + im.ID
			body := fmt.Sprintf(`{"url":%q}`, url)
			w.want(403, "one", "POST", at+"/locations", body, "Content-Type", jsonType)
			w.want(400, "admin", "POST", at+"/locations", body, "Content-Type", jsonType)
			for _, who := range []string{"one", "admin"} {
				w.want(400, who, "PATCH", at, fmt.Sprintf(`[{"op":"add","path":"/locations/-","value":{"url":%q,"metadata":{}}}]`, url), "Content-Type", patch)
				w.want(400, who, "PATCH", at, fmt.Sprintf(`[{"op":"replace","path":"/locations","value":[{"url":%q,"metadata":{}}]}]`, url), "Content-Type", patch)
				w.want(400, who, "POST", at+"/import", fmt.Sprintf(`{"method":{"name":"web-download","uri":%q}}`, url), "Content-Type", jsonType)
			}
			w.want(400, "admin", "POST", "/v2/tasks", fmt.Sprintf(`{"type":"import","input":{"import_from":%q,"import_from_format":"raw","image_properties":{}}}`, url), "Content-Type", jsonType)
			require.Equal(w, "queued", w.json("one", at)["status"])
		}
	})
}

// The old locations API as it may be used; CVE-2016-0757: the last location of an
// active image is removed or replaced, and the image with it.
func TestLocations(t *testing.T) {
	located(t, func(w *world) {
		im := w.create("one", images.CreateOpts{Name: "a", DiskFormat: "raw", ContainerFormat: "bare"})
		at := "/v2/images/" + im.ID
		change := func(status int, who, body string) { w.want(status, who, "PATCH", at, body, "Content-Type", patch) }
		const one, two = `{"url":"http://ok.test/1","metadata":{"a":"b"}}`, `{"url":"http://ok.test/2","metadata":{}}`
		change(404, "two", `[{"op":"add","path":"/locations/-","value":`+one+`}]`)
		change(400, "one", `[{"op":"add","path":"/locations/x","value":`+one+`}]`)
		change(400, "one", `[{"op":"add","path":"/locations","value":`+one+`}]`)
		change(403, "one", `[{"op":"replace","path":"/locations","value":[]}]`)
		change(200, "one", `[{"op":"add","path":"/locations/-","value":`+one+`}]`)
		got := w.json("one", at)
		require.Equal(w, "active", got["status"])
		require.Equal(w, "http", got["stores"])
		require.EqualValues(w, 5000, got["size"])
		require.Equal(w, strings.Repeat("z", 5000), w.want(200, "one", "GET", at+"/file", ""))
		require.Equal(w, "zzzz", w.want(206, "one", "GET", at+"/file", "", "Range", "bytes=10-13"))
		change(400, "one", `[{"op":"add","path":"/locations/-","value":`+one+`}]`)
		change(400, "one", `[{"op":"replace","path":"/locations","value":[`+two+`]}]`)
		change(403, "one", `[{"op":"replace","path":"/locations","value":[]}]`)
		change(403, "admin", `[{"op":"remove","path":"/locations/0"}]`)
		change(200, "one", `[{"op":"add","path":"/locations/0","value":`+two+`}]`)
		change(403, "one", `[{"op":"remove","path":"/locations/0"}]`)
		change(400, "admin", `[{"op":"remove","path":"/locations/2"}]`)
		change(200, "admin", `[{"op":"remove","path":"/locations/0"}]`)
		require.Len(w, w.json("one", at)["locations"], 1)
		require.Equal(w, "active", w.json("one", at)["status"])
		w.want(403, "one", "GET", at+"/locations", "")
		require.Contains(w, w.want(200, "admin", "GET", at+"/locations", ""), "http://ok.test/1")

		// Hashes that don't fit.
		bad := w.create("one", images.CreateOpts{Name: "b", DiskFormat: "raw", ContainerFormat: "bare"})
		for body, status := range map[string]int{
			`{"url":"http://ok.test/1","validation_data":{"os_hash_algo":"sha256"}}`:                      400,
			`{"url":"http://ok.test/1","validation_data":{"os_hash_algo":"crc32","os_hash_value":"00"}}`:  400,
			`{"url":"http://ok.test/1","validation_data":{"os_hash_algo":"sha256","os_hash_value":"zz"}}`: 400,
			`{"url":"http://ok.test/1","validation_data":{"os_hash_algo":"sha256","os_hash_value":"00"}}`: 400,
			`{"validation_data":{}}`: 400,
		} {
			w.want(status, "one", "POST", "/v2/images/"+bad.ID+"/locations", body, "Content-Type", jsonType)
		}
		w.want(409, "one", "POST", at+"/locations", `{"url":"http://ok.test/1"}`, "Content-Type", jsonType)
	})
}

// CVE-2015-5251 and its kin: what is the service's own is set by a user.
func TestOwnAttributes(t *testing.T) {
	located(t, func(w *world) {
		im := w.create("one", images.CreateOpts{Name: "a", DiskFormat: "raw", ContainerFormat: "bare"})
		for _, who := range []string{"one", "admin"} {
			for _, name := range []string{"status", "size", "checksum", "os_hash_value", "os_hash_algo", "virtual_size", "created_at", "updated_at", "id", "self", "file", "schema", "direct_url", "stores",
				"os_glance_import_task", "os_glance_importing_to_stores", "os_glance_failed_import", "os_glance_stage_host", "deleted", "location"} {
				for _, op := range []string{"add", "replace"} {
					w.want(403, who, "PATCH", "/v2/images/"+im.ID, fmt.Sprintf(`[{"op":%q,"path":"/%s","value":"active"}]`, op, name), "Content-Type", patch)
					w.want(403, who, "PATCH", "/v2/images/"+im.ID, fmt.Sprintf(`[{%q:"/%s","value":"active"}]`, op, name), "Content-Type", "application/openstack-images-v2.0-json-patch")
				}
				if name != "id" {
					w.want(403, who, "POST", "/v2/images", fmt.Sprintf(`{%q:"active"}`, name), "Content-Type", jsonType)
				}
			}
		}
		w.want(204, "one", "PUT", "/v2/images/"+im.ID+"/file", "x", "Content-Type", octets, "X-Image-Meta-Status", "queued")
		require.Equal(w, "active", w.json("one", "/v2/images/"+im.ID)["status"])
		w.want(409, "one", "PUT", "/v2/images/"+im.ID+"/file", "y", "Content-Type", octets)
		w.want(409, "one", "PUT", "/v2/images/"+im.ID+"/stage", "y", "Content-Type", octets)
	})
}

// CVE-2022-47951, CVE-2024-32498, CVE-2024-40767: an image that names other files of
// the host, whatever it is declared to be and whichever way it comes.
func TestCraftedImages(t *testing.T) {
	qcow2 := func(feature uint64, backing string) string {
		b := make([]byte, 1<<16)
		copy(b, "QFI\xfb")
		binary.BigEndian.PutUint32(b[4:], 3)
		if backing != "" {
			binary.BigEndian.PutUint64(b[8:], 512)
			binary.BigEndian.PutUint32(b[16:], uint32(len(backing)))
			copy(b[512:], backing)
		}
		binary.BigEndian.PutUint32(b[20:], 16)
		binary.BigEndian.PutUint64(b[24:], 1<<30)
		binary.BigEndian.PutUint64(b[72:], feature)
		binary.BigEndian.PutUint32(b[96:], 4)
		binary.BigEndian.PutUint32(b[100:], 104)
		return string(b)
	}
	descriptor := "# Disk DescriptorFile\nversion=1\nCID=fffffffe\nparentCID=ffffffff\ncreateType=\"monolithicFlat\"\nRW 2048 FLAT \"/etc/shadow\" 0\n" + strings.Repeat("\n", 1024)
	located(t, func(w *world) {
		for name, data := range map[string]string{"backing file": qcow2(0, "/etc/shadow"), "data file": qcow2(4, ""), "unknown feature": qcow2(1<<40, ""), "vmdk descriptor": descriptor} {
			for _, format := range []string{"raw", "qcow2", "vmdk", "vdi", "iso", "vhd", "ami", "ploop"} {
				for _, container := range []string{"bare", "ovf", "docker"} {
					im := w.create("one", images.CreateOpts{Name: name, DiskFormat: format, ContainerFormat: container})
					w.want(415, "one", "PUT", "/v2/images/"+im.ID+"/file", data, "Content-Type", octets)
					require.Equal(w, "queued", w.json("one", "/v2/images/"+im.ID)["status"], "%s as %s", name, format)
				}
			}
		}
	})
}
