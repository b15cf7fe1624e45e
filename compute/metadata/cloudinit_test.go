//go:build realtest

package metadata_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre/compute/metadata"
	"github.com/nacre-cloud/nacre/internal/configdrive"
)

// These tests let Debian's own cloud-init judge what we serve. They need the
// packages cloud-init, xorriso and util-linux, and fail without them.

// identify runs ds-identify on a machine that it believes to be the one whose
// DMI product name and block devices are given, and gives its verdict: the
// configuration that it writes, or nothing if no source was found.
func identify(t *testing.T, product string, datasources string, drive string) string {
	root := t.TempDir()
	put := func(name, data string, mode os.FileMode) {
		path := filepath.Join(root, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(data), mode))
	}
	put("sys/class/dmi/id/product_name", product+"\n", 0o644)
	put("sys/class/dmi/id/chassis_asset_tag", "\n", 0o644)
	put("sys/class/dmi/id/sys_vendor", "OpenStack Foundation\n", 0o644)
	put("proc/1/environ", "", 0o644)
	put("proc/cmdline", "root=/dev/vda1\n", 0o644)
	put("proc/uptime", "1.00 1.00\n", 0o644)
	put("etc/cloud/cloud.cfg", "datasource_list: [ "+datasources+" ]\n", 0o644)
	put("run/x", "", 0o644)
	// The only devices are ours: blkid is asked about the image file itself.
	script := "#!/bin/sh\nexit 0\n"
	if drive != "" {
		script = "#!/bin/sh\necho DEVNAME=/dev/vdb\n/usr/sbin/blkid -c /dev/null -o export '" + drive + "' | grep -v ^DEVNAME\n"
	}
	put("bin/blkid", script, 0o755)
	put("bin/systemd-detect-virt", "#!/bin/sh\n[ \"$1\" = --container ] || [ \"$1\" = -c ] && { echo none; exit 1; }\necho kvm\n", 0o755)
	cmd := exec.Command("/usr/lib/cloud-init/ds-identify", "--force")
	cmd.Env = []string{"PATH=" + root + "/bin:/usr/sbin:/usr/bin:/sbin:/bin", "PATH_ROOT=" + root, "DEBUG_LEVEL=2", "DI_LOG=stderr"}
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState.ExitCode() == 1 && strings.Contains(string(out), "No ds found") {
		return ""
	}
	require.NoError(t, err, string(out))
	cfg, err := os.ReadFile(filepath.Join(root, "run/cloud-init/cloud.cfg"))
	require.NoError(t, err, string(out))
	return string(cfg)
}

// python runs a script with cloud-init's modules and reads the JSON it prints.
func python(t *testing.T, script string, args ...string) map[string]any {
	cmd := exec.Command("/usr/bin/python3", append([]string{"-c", script}, args...)...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoError(t, err, stderr.String())
	var m map[string]any
	require.NoError(t, json.Unmarshal(out, &m), string(out))
	return m
}

const tell = `
import json, sys
def tell(r, oshelp):
    net = oshelp.convert_net_json(r["networkdata"], known_macs={"fa:16:3e:00:00:05": "eth0", "fa:16:3e:00:00:06": "eth1"})
    print(json.dumps({"uuid": r["metadata"]["uuid"], "hostname": r["metadata"]["hostname"], "version": r["version"],
        "keys": list(r["metadata"]["public_keys"].values()), "userdata": r["userdata"].decode(), "ec2": r["ec2-metadata"].get("instance-id"),
        "admin_pass": r["metadata"].get("admin_pass"), "seed": len(r["metadata"]["random_seed"]),
        "files": {k: v.decode() for k, v in (r.get("files") or {}).items()}, "net": net["config"]}))
`

func requireUnderstood(t *testing.T, got map[string]any) {
	require.Equal(t, uuid, got["uuid"])
	require.Equal(t, "web-1.novalocal", got["hostname"])
	require.Equal(t, 2.0, got["version"])
	require.Equal(t, []any{pubkey}, got["keys"])
	require.Equal(t, "#!/bin/sh\necho hi\n", got["userdata"])
	require.Equal(t, "i-0000002a", got["ec2"])
	require.Equal(t, 512.0, got["seed"])
	names := map[string]any{}
	for _, c := range got["net"].([]any) {
		if m := c.(map[string]any); m["type"] == "physical" {
			names[m["name"].(string)] = m
		}
	}
	require.Contains(t, names, "eth0")
	require.Contains(t, names, "eth1")
	eth0 := names["eth0"].(map[string]any)
	require.Equal(t, "dhcp4", eth0["subnets"].([]any)[0].(map[string]any)["type"])
	eth1 := names["eth1"].(map[string]any)
	require.Equal(t, 1400.0, eth1["mtu"])
	require.Equal(t, "10.1.0.5", eth1["subnets"].([]any)[0].(map[string]any)["address"])
}

func TestCloudInitFindsConfigDrive(t *testing.T) {
	files, err := metadata.Files(sample())
	require.NoError(t, err)
	dir := t.TempDir()
	drive := filepath.Join(dir, "disk.config")
	require.NoError(t, configdrive.Write(drive, files))
	cfg := identify(t, "Standard PC", "NoCloud, ConfigDrive, OpenStack, None", drive)
	require.Regexp(t, `datasource_list: \[ ConfigDrive, None \]`, cfg)
	cfg = identify(t, "Standard PC", "NoCloud, ConfigDrive, OpenStack, None", "")
	require.NotContains(t, cfg, "ConfigDrive", "the test can fail")

	tree := filepath.Join(dir, "tree")
	out, err := exec.Command("xorriso", "-osirrox", "on", "-indev", drive, "-extract", "/", tree).CombinedOutput()
	require.NoError(t, err, string(out))
	got := python(t, tell+`
from cloudinit.sources.helpers import openstack as oshelp
tell(oshelp.ConfigDriveReader(sys.argv[1]).read_v2(), oshelp)
`, tree)
	requireUnderstood(t, got)
	require.Equal(t, "topsecret", got["admin_pass"])
	require.Equal(t, map[string]any{"/etc/motd": "hello"}, got["files"])
}

func TestCloudInitFindsService(t *testing.T) {
	require.Regexp(t, `datasource_list: \[ OpenStack, None \]`, identify(t, "OpenStack Nova", "ConfigDrive, OpenStack, None", ""))
	require.NotContains(t, identify(t, "Standard PC", "NoCloud, OpenStack, None", ""), "OpenStack,", "the product name is what is looked for")

	h := service(sample())
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Header = headers(uuid, project) // the proxy's part
		h.ServeHTTP(w, r)
	}))
	defer server.Close()
	got := python(t, tell+`
from cloudinit.sources.helpers import openstack as oshelp
import functools
# The reader asks the well-known address for its EC2 part; here it is ours.
oshelp.ec2.get_instance_metadata = functools.partial(oshelp.ec2.get_instance_metadata, metadata_address=sys.argv[1])
r = oshelp.MetadataReader(sys.argv[1], ssl_details={}, timeout=5, retries=0)
tell(r.read_v2(), oshelp)
`, server.URL)
	requireUnderstood(t, got)
	require.Nil(t, got["admin_pass"])

	ec2 := python(t, `
import json, sys
from cloudinit.sources.helpers import ec2
md = ec2.get_instance_metadata(metadata_address=sys.argv[1], api_version="2009-04-04", retries=0)
ud = ec2.get_instance_userdata(metadata_address=sys.argv[1], api_version="2009-04-04", retries=0)
print(json.dumps({"md": md, "ud": ud.decode()}))
`, server.URL)
	md := ec2["md"].(map[string]any)
	require.Equal(t, "i-0000002a", md["instance-id"])
	require.Equal(t, "nova", md["placement"].(map[string]any)["availability-zone"])
	require.Equal(t, strings.TrimSpace(pubkey), strings.TrimSpace(md["public-keys"].(map[string]any)["mine"].([]any)[0].(string)))
	require.Equal(t, "#!/bin/sh\necho hi\n", ec2["ud"])
}
