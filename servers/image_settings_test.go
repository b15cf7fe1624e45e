package servers_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/ec2credentials"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/tokens"
	"github.com/gophercloud/gophercloud/v2/openstack/image/v2/imagedata"
	"github.com/gophercloud/gophercloud/v2/openstack/image/v2/images"
	"github.com/gophercloud/gophercloud/v2/openstack/objectstorage/v1/objects"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	nacreservers "github.com/nacre-cloud/nacre/servers"
	"github.com/nacre-cloud/nacre/servers/kit"
	"github.com/nacre-cloud/nacre/servers/parts"
)

// writeImageSettings is the file that an operator writes.
func writeImageSettings(t *testing.T, c kit.Config, text string) {
	t.Helper()
	require.NoError(t, os.MkdirAll(c.StateDir, 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(c.StateDir, "image.yaml"), []byte(text), 0o600))
}

// account is one of the clouds in clouds.yaml.
func account(t *testing.T, cloud *nacreservers.Local, name string) gophercloud.AuthOptions {
	var doc struct {
		Clouds map[string]struct{ Auth map[string]string }
	}
	data, err := os.ReadFile(cloud.Credentials)
	require.NoError(t, err)
	require.NoError(t, yaml.Unmarshal(data, &doc))
	a := doc.Clouds[name].Auth
	return gophercloud.AuthOptions{Username: a["username"], Password: a["password"], TenantName: a["project_name"], DomainID: "default"}
}

func client(t *testing.T, cloud *nacreservers.Local, name string) *gophercloud.ProviderClient {
	p, err := cloud.Client(t.Context(), account(t, cloud, name))
	require.NoError(t, err)
	return p
}

func imageClient(t *testing.T, cloud *nacreservers.Local, name string) *gophercloud.ServiceClient {
	c, err := openstack.NewImageV2(client(t, cloud, name), cloud.Endpoint())
	require.NoError(t, err)
	return c
}

func newImage(t *testing.T, c *gophercloud.ServiceClient, properties map[string]string) string {
	im, err := images.Create(t.Context(), c, images.CreateOpts{Name: "x", DiskFormat: "raw", ContainerFormat: "bare", Properties: properties}).Extract()
	require.NoError(t, err)
	return im.ID
}

func becomes(t *testing.T, c *gophercloud.ServiceClient, id string, want func(*images.Image) bool) *images.Image {
	t.Helper()
	var im *images.Image
	require.Eventually(t, func() bool {
		got, err := images.Get(context.Background(), c, id).Extract()
		if !assert.NoError(t, err) {
			return true
		}
		im = got
		return want(im)
	}, time.Minute, 10*time.Millisecond)
	require.True(t, want(im))
	return im
}

// serve gives a handler that comes later an address.
func serve(t *testing.T) (*httptest.Server, *atomic.Pointer[http.Handler]) {
	var h atomic.Pointer[http.Handler]
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if h := h.Load(); h != nil {
			(*h).ServeHTTP(w, r)
			return
		}
		http.Error(w, "not yet", http.StatusServiceUnavailable)
	}))
	t.Cleanup(http.DefaultTransport.(*http.Transport).CloseIdleConnections)
	t.Cleanup(srv.Close)
	return srv, &h
}

// TestImageStores keeps images in files, in a bucket and in an object store, which
// are the cloud's own: so it starts before they can be reached.
func TestImageStores(t *testing.T) {
	main, mainHandler := serve(t)
	bucket, bucketHandler := serve(t)
	c := config(t)
	c.URL = main.URL
	openServed := func() *nacreservers.Local {
		cloud := open(t, c)
		h, o := cloud.Handler(), cloud.ObjectHandler()
		mainHandler.Store(&h)
		bucketHandler.Store(&o)
		return cloud
	}
	cloud := openServed()
	admin := account(t, cloud, "nacre-admin")
	p := client(t, cloud, "nacre-admin")
	who, err := p.GetAuthResult().(tokens.CreateResult).ExtractUser()
	require.NoError(t, err)
	project, err := p.GetAuthResult().(tokens.CreateResult).ExtractProject()
	require.NoError(t, err)
	identity, err := openstack.NewIdentityV3(p, cloud.Endpoint())
	require.NoError(t, err)
	key, err := ec2credentials.Create(t.Context(), identity, who.ID, ec2credentials.CreateOpts{TenantID: project.ID}).Extract()
	require.NoError(t, err)
	require.NoError(t, cloud.Close())

	flash := filepath.Join(t.TempDir(), "flash")
	writeImageSettings(t, c, fmt.Sprintf(`
stores:
  - {name: bucket, type: s3, s3_store_host: "%s", s3_store_access_key: %s, s3_store_secret_key: %s, s3_store_bucket: images, s3_store_create_bucket_on_put: true}
  - {name: objects, type: swift, store_description: ours, swift_store_auth_address: "%s/identity/v3", swift_store_user: "admin:admin", swift_store_key_file: key, swift_store_container: glance,
     swift_store_create_container_on_put: true, swift_store_large_object_chunk_size: 1}
  - {name: flash, type: file, weight: 7, filesystem_store_datadir: %s}
  - {name: default, type: file}
  - {name: web, type: http}
glance_store: {default_backend: flash}
`, bucket.URL, key.Access, key.Secret, main.URL, flash))
	require.NoError(t, os.WriteFile(filepath.Join(c.StateDir, "key"), []byte(admin.Password+"\n"), 0o600))
	cloud = openServed()
	im := imageClient(t, cloud, "nacre-admin")

	data := bytes.Repeat([]byte("0123456789"), 300_000)
	var ids []string
	for _, store := range []string{"", "bucket", "objects", "default"} {
		id := newImage(t, im, nil)
		headers := map[string]string{"Content-Type": "application/octet-stream"}
		if store != "" {
			headers["X-Image-Meta-Store"] = store
		}
		res, err := im.Put(t.Context(), im.ServiceURL("images", id, "file"), nil, nil, &gophercloud.RequestOpts{RawBody: bytes.NewReader(data), MoreHeaders: headers, OkCodes: []int{204}})
		require.NoError(t, err, store)
		require.NoError(t, res.Body.Close())
		ids = append(ids, id)
		got, err := images.Get(t.Context(), im, id).Extract()
		require.NoError(t, err)
		if store == "" {
			store = "flash"
		}
		require.Equal(t, store, got.Properties["stores"])
		body, err := imagedata.Download(t.Context(), im, id).Extract()
		require.NoError(t, err)
		back, err := io.ReadAll(body)
		require.NoError(t, err)
		require.NoError(t, body.Close())
		require.True(t, bytes.Equal(data, back), store)
	}
	// Copies of one in all, and where they really are.
	res, err := im.Post(t.Context(), im.ServiceURL("images", ids[0], "import"), map[string]any{"method": map[string]string{"name": "copy-image"}, "all_stores": true}, nil, &gophercloud.RequestOpts{OkCodes: []int{202}})
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	becomes(t, im, ids[0], func(i *images.Image) bool {
		stores, _ := i.Properties["stores"].(string)
		return len(strings.Split(stores, ",")) == 4
	})
	swift, err := openstack.NewObjectStorageV1(im.ProviderClient, cloud.Endpoint())
	require.NoError(t, err)
	for _, container := range []string{"glance", "images"} {
		pages, err := objects.List(swift, container, objects.ListOpts{}).AllPages(t.Context())
		require.NoError(t, err)
		names, err := objects.ExtractNames(pages)
		require.NoError(t, err)
		require.Len(t, names, 2, container)
	}
	var shown struct {
		Stores []struct {
			ID, Type, Description string
			Weight                int
			Default, ReadOnly     any
		}
	}
	res, err = im.Get(t.Context(), im.ServiceURL("info", "stores", "detail"), &shown, nil)
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	var types []string
	for _, s := range shown.Stores {
		types = append(types, s.ID+" "+s.Type)
	}
	require.Equal(t, []string{"flash file", "bucket s3", "objects swift", "default file", "web http"}, types)
	require.Equal(t, "ours", shown.Stores[2].Description)
	require.Equal(t, 7, shown.Stores[0].Weight)

	for _, id := range ids {
		require.NoError(t, images.Delete(t.Context(), im, id).ExtractErr())
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	require.NoError(t, cloud.Rest(ctx))
	findings, err := cloud.Audit(ctx)
	require.NoError(t, err)
	require.Empty(t, findings)
	for _, container := range []string{"glance", "glance_segments", "images"} {
		pages, err := objects.List(swift, container, objects.ListOpts{}).AllPages(ctx)
		require.NoError(t, err)
		names, err := objects.ExtractNames(pages)
		require.NoError(t, err)
		require.Empty(t, names, container)
	}
	left, err := filepath.Glob(filepath.Join(flash, "*", "*"))
	require.NoError(t, err)
	require.Empty(t, left)
	require.NoError(t, cloud.Close())
}

// TestImageSettings holds a cloud to what its operator wrote.
func TestImageSettings(t *testing.T) {
	c := config(t)
	key, certs := signer(t)
	writeImageSettings(t, c, fmt.Sprintf(`
default:
  image_size_cap: 200000
  image_tag_quota: 1
  limit_param_default: 1
  api_limit_max: 2
  enabled_import_methods: [glance-direct, copy-image]
  property_protection_file: protections
  metadata_source_path: defs
  image_cache_dir: cache
  image_cache_on_download: true
  upload_timeout: 1
image_format: {disk_formats: [raw, iso]}
os_glance_staging_store: {filesystem_store_datadir: staging}
image_import_opts: {image_import_plugins: [image_decompression, inject_image_metadata]}
inject_metadata_properties: {inject: {checked: "yes"}}
key_manager: {backend: file, directory: "%s"}
`, certs))
	defs := filepath.Join(c.StateDir, "defs")
	require.NoError(t, os.Mkdir(defs, 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(defs, "one.json"), []byte(`{"namespace":"Our::Things","properties":{"colour":{"title":"Colour","type":"string"}}}`), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(c.StateDir, "protections"), []byte("[^boss_.*]\ncreate = admin\nread = @\nupdate = admin\ndelete = admin\n[.*]\ncreate = @\nread = @\nupdate = @\ndelete = @\n"), 0o600))
	cloud := open(t, c)
	im := imageClient(t, cloud, "nacre")
	code := func(err error) int {
		var e gophercloud.ErrUnexpectedResponseCode
		require.ErrorAs(t, err, &e)
		return e.Actual
	}
	_, err := images.Create(t.Context(), im, images.CreateOpts{Name: "x", DiskFormat: "qcow2"}).Extract()
	require.Equal(t, 400, code(err), "a format that is not offered")
	_, err = images.Create(t.Context(), im, images.CreateOpts{Name: "x", Tags: []string{"a", "b"}}).Extract()
	require.Equal(t, 413, code(err), "too many tags")
	_, err = images.Create(t.Context(), im, images.CreateOpts{Name: "x", Properties: map[string]string{"boss_x": "1"}}).Extract()
	require.Equal(t, 403, code(err), "a protected property")
	id := newImage(t, im, nil)
	require.Equal(t, 413, code(imagedata.Upload(t.Context(), im, id, bytes.NewReader(make([]byte, 200_001))).ExtractErr()))
	for range 2 {
		newImage(t, im, nil)
	}
	var doc map[string]any
	for limit, want := range map[string]int{"": 1, "?limit=9": 2} {
		res, err := im.Get(t.Context(), im.ServiceURL("images")+limit, &doc, nil)
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
		require.Len(t, doc["images"], want)
		require.Contains(t, doc, "next")
	}
	for path, want := range map[string]string{"info/import": "[copy-image glance-direct]", "schemas/image": "raw iso", "metadefs/namespaces/Our::Things": "colour"} {
		res, err := im.Get(t.Context(), im.ServiceURL(strings.Split(path, "/")...), &doc, nil)
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
		require.Contains(t, strings.ReplaceAll(fmt.Sprint(doc), "[glance-direct copy-image]", "[copy-image glance-direct]"), want)
	}

	// Staged bytes are where they shall be, and are unpacked within the bound.
	pack := func(n int) []byte {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		_, err := z.Write(bytes.Repeat([]byte("n"), n))
		require.NoError(t, err)
		require.NoError(t, z.Close())
		return b.Bytes()
	}
	files := func(dir string) int {
		names, err := filepath.Glob(filepath.Join(c.StateDir, dir, "*", "*"))
		require.NoError(t, err)
		return len(names)
	}
	for n, want := range map[int]images.ImageStatus{150_000: images.ImageStatusActive, 300_000: images.ImageStatusQueued} {
		id := newImage(t, im, nil)
		require.NoError(t, imagedata.Stage(t.Context(), im, id, bytes.NewReader(pack(n))).ExtractErr())
		require.NotZero(t, files("staging"))
		res, err := im.Post(t.Context(), im.ServiceURL("images", id, "import"), map[string]any{"method": map[string]string{"name": "glance-direct"}}, nil, &gophercloud.RequestOpts{OkCodes: []int{202}})
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
		got := becomes(t, im, id, func(i *images.Image) bool { return i.Status == want })
		if want == images.ImageStatusActive {
			require.EqualValues(t, n, got.SizeBytes)
			require.Equal(t, "yes", got.Properties["checked"])
		}
	}

	// Signed images, rightly and wrongly.
	data := bytes.Repeat([]byte("signed"), 1000)
	sum := sha256.Sum256(data)
	signature, err := rsa.SignPSS(rand.Reader, key, crypto.SHA256, sum[:], &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthAuto})
	require.NoError(t, err)
	signed := map[string]string{"img_signature": base64.StdEncoding.EncodeToString(signature), "img_signature_hash_method": "SHA-256", "img_signature_key_type": "RSA-PSS", "img_signature_certificate_uuid": "the-signer"}
	good, bad, unknown := newImage(t, im, signed), newImage(t, im, signed), ""
	signed["img_signature_certificate_uuid"] = "../the-signer"
	unknown = newImage(t, im, signed)
	require.NoError(t, imagedata.Upload(t.Context(), im, good, bytes.NewReader(data)).ExtractErr())
	for id, upload := range map[string][]byte{bad: append([]byte("!"), data[1:]...), unknown: data} {
		err = imagedata.Upload(t.Context(), im, id, bytes.NewReader(upload)).ExtractErr()
		require.Equal(t, 400, code(err))
		require.Contains(t, err.Error(), "Signature verification failed for image "+id)
		got, err := images.Get(t.Context(), im, id).Extract()
		require.NoError(t, err)
		require.Equal(t, images.ImageStatusQueued, got.Status, "as in glance, it can be tried again")
	}

	body, err := imagedata.Download(t.Context(), im, good).Extract()
	require.NoError(t, err)
	require.NoError(t, body.Close())
	require.Eventually(t, func() bool { return files("cache") == 1 }, time.Minute, 10*time.Millisecond, "what is downloaded is cached")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	require.NoError(t, cloud.Rest(ctx))
	require.Zero(t, files("staging"))
	require.NoError(t, cloud.Close())
	findings, err := nacreservers.AuditLocal(t.Context(), c, parts.All)
	require.NoError(t, err)
	require.Empty(t, findings)
	require.NoError(t, open(t, c).Close(), "a second start finds the definitions there")
}

// signer makes a key and a directory with its certificate.
func signer(t *testing.T) (*rsa.PrivateKey, string) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	x := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "signer"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, x, x, key.Public(), key)
	require.NoError(t, err)
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "the-signer.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	return key, dir
}

// TestBadImageSettings is an error at the start that says where.
func TestBadImageSettings(t *testing.T) {
	for text, want := range map[string]string{
		"stores: [{name: a, type: tape}]":                                                                 `the store a for images: images: there is no "tape" here, only file, rbd, s3, swift`,
		"stores: [{name: a, type: file, s3_store_host: x}]":                                               "s3_store_host",
		"stores: [{name: a, type: file, filesystem_store_datadir: /dev/null/x}]":                          "not a directory",
		"stores: [{name: a, type: file}, {name: a, type: file}]":                                          `two stores are called "a"`,
		"stores: [{name: a b, type: file}]":                                                               `"a b" is no store id`,
		"stores: [{name: ../a, type: file}]":                                                              "can't be a store's name",
		"stores: [{name: a, type: http}]":                                                                 "read-only",
		"stores: [{name: a, type: http, port: 1}]":                                                        "port",
		"stores: [{name: a, type: s3}]":                                                                   "s3_store_host is missing",
		"stores: [{name: a, type: s3, s3_store_host: 's3.test'}]":                                         "the bucket, the access key or the secret key is missing",
		"stores: [{name: a, type: s3, s3_store_host: 'ftp://s3.test'}]":                                   "neither http nor https",
		"stores: [{name: a, type: s3, s3_store_host: s3.test, s3_store_secret_key_file: gone}]":           "no such file",
		"stores: [{name: a, type: swift}]":                                                                "swift_store_auth_address is missing",
		"stores: [{name: a, type: swift, swift_store_auth_address: 'http://x', swift_store_user: x}]":     "project:user",
		"stores: [{name: a, type: swift, swift_store_auth_address: 'http://x', swift_store_user: 'x:y'}]": "swift_store_key is missing",
		"image_format: {disk_formats: [floppy]}":                                                          `"floppy" is no disk format`,
		"default: {metadata_source_path: bad}":                                                            "metadata definitions: one.json",
		"image: {}":                                                                                       "image.yaml",
	} {
		c := config(t)
		writeImageSettings(t, c, text)
		require.NoError(t, os.Mkdir(filepath.Join(c.StateDir, "bad"), 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(c.StateDir, "bad", "one.json"), []byte("{"), 0o600))
		_, err := nacreservers.OpenLocal(t.Context(), c, parts.All, slog.New(slog.DiscardHandler))
		require.ErrorContains(t, err, want, text)
		state, err := kit.OpenState(c.StateDir)
		require.NoError(t, err, "a failed start lets go of everything")
		require.NoError(t, state.Close())
	}
	c := config(t)
	c.ImageConfig = filepath.Join(c.StateDir, "gone.yaml")
	_, err := nacreservers.OpenLocal(t.Context(), c, parts.All, slog.New(slog.DiscardHandler))
	require.ErrorContains(t, err, "gone.yaml", "a file that is named must be there")
	c = config(t)
	c.ImageStores = []string{"second"}
	writeImageSettings(t, c, "stores: [{name: a, type: file}]")
	_, err = nacreservers.OpenLocal(t.Context(), c, parts.All, slog.New(slog.DiscardHandler))
	require.ErrorContains(t, err, "exclude each other")
}
