package metadata

import (
	"bytes"
	"cmp"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"
)

// The versions of the EC2 face.
var ec2Versions = []string{
	"1.0", "2007-01-19", "2007-03-01", "2007-08-29", "2007-10-10", "2007-12-15", "2008-02-01", "2008-09-01", "2009-04-04",
}

// The versions of the OpenStack face, named by what each of them brought.
const (
	folsom   = "2012-08-10"
	grizzly  = "2013-04-04" // random_seed, password
	havana   = "2013-10-17" // vendor_data.json
	liberty  = "2015-10-15" // network_data.json, project_id
	newton1  = "2016-06-30" // devices
	newton2  = "2016-10-06" // vendor_data2.json
	ocata    = "2017-02-22" // vlan of devices
	rocky    = "2018-08-27" // vf_trusted of devices
	victoria = "2020-10-14" // dedicated_cpus
	epoxy    = "2025-04-04" // shares among devices
)

var openstackVersions = []string{folsom, grizzly, havana, liberty, newton1, newton2, ocata, rocky, victoria, epoxy}

// document is one answer: its bytes and their type.
type document struct {
	body []byte
	mime string
	// password marks the one path that also takes a POST.
	password bool
}

const (
	plain  = "text/plain"
	asJSON = "application/json"
)

func text(s string) document            { return document{body: []byte(s), mime: plain} }
func listing(names ...string) document  { return text(strings.Join(names, "\n")) }
func (in *Instance) hostname() string   { return join(in.Hostname, in.Domain) }
func (in *Instance) rootDevice() string { return cmp.Or(in.RootDevice, "/dev/vda") }

func join(host, domain string) string {
	if domain == "" {
		return host
	}
	return host + "." + domain
}

// face is what a lookup is for: the config drive shows the admin password and
// injected files, the service doesn't.
type face struct {
	in    *Instance
	drive bool
}

// lookup finds the document of a path, or reports that there is none. now hides
// versions of the future from the list, as Nova does.
func (f face) lookup(p string, now time.Time) (document, bool) {
	tokens := strings.Split(strings.TrimPrefix(path.Clean("/"+p), "/"), "/")
	if tokens[0] == "" {
		tokens = nil
	}
	if len(tokens) == 0 || tokens[0] != "ec2" && tokens[0] != "openstack" {
		tokens = append([]string{"ec2"}, tokens...)
	}
	if len(tokens) == 1 {
		if tokens[0] == "ec2" {
			return listing(append(slices.Clone(ec2Versions), "latest")...), true
		}
		var names []string
		for _, v := range openstackVersions {
			if v <= now.UTC().Format(time.DateOnly) {
				names = append(names, v)
			}
		}
		return listing(append(names, "latest")...), true
	}
	if tokens[0] == "ec2" {
		return f.ec2(tokens[1], tokens[2:])
	}
	return f.openstack(tokens[1], strings.Join(tokens[2:], "/"))
}

func (f face) openstack(version, name string) (document, bool) {
	if version == "content" {
		for i, file := range f.injected() {
			if name == fmt.Sprintf("%04d", i) {
				return document{body: file.Content, mime: plain}, true
			}
		}
		return document{}, false
	}
	if version == "latest" {
		version = openstackVersions[len(openstackVersions)-1]
	}
	if !slices.Contains(openstackVersions, version) {
		return document{}, false
	}
	switch in := f.in; {
	case name == "":
		names := []string{"meta_data.json"}
		if in.UserData != nil {
			names = append(names, "user_data")
		}
		for _, n := range []struct{ since, name string }{
			{grizzly, "password"}, {havana, "vendor_data.json"}, {liberty, "network_data.json"}, {newton2, "vendor_data2.json"},
		} {
			if version >= n.since {
				names = append(names, n.name)
			}
		}
		return listing(names...), true
	case name == "meta_data.json":
		return document{body: encode(f.metaData(version)), mime: asJSON}, true
	case name == "user_data" && in.UserData != nil:
		return document{body: in.UserData, mime: plain}, true
	case name == "password" && version >= grizzly:
		return document{body: []byte(in.Password), mime: plain, password: true}, true
	case name == "network_data.json":
		// Nova serves this one in every version, and as text.
		return document{body: encode(networkData(in.Links)), mime: plain}, true
	case name == "vendor_data.json" && version >= havana:
		return document{body: encode(in.vendorData()), mime: asJSON}, true
	case name == "vendor_data2.json" && version >= newton2:
		return document{body: encode(map[string]any{"static": in.vendorData()}), mime: asJSON}, true
	}
	return document{}, false
}

func (f face) injected() []InjectedFile {
	if !f.drive {
		return nil
	}
	return f.in.Injected
}

func (in *Instance) vendorData() json.RawMessage {
	if len(in.VendorData) == 0 {
		return json.RawMessage("{}")
	}
	return in.VendorData
}

type fileRef struct {
	Path        string `json:"path"`
	ContentPath string `json:"content_path"`
}

type keyView struct {
	Name string `json:"name"`
	Type string `json:"type"`
	Data string `json:"data"`
}

// metaData is meta_data.json; fields that a version does not have stay nil.
type metaData struct {
	UUID             string            `json:"uuid"`
	Meta             map[string]string `json:"meta,omitempty"`
	Files            []fileRef         `json:"files,omitempty"`
	AdminPass        string            `json:"admin_pass,omitempty"`
	PublicKeys       map[string]string `json:"public_keys,omitempty"`
	Keys             []keyView         `json:"keys,omitempty"`
	Hostname         string            `json:"hostname"`
	Name             string            `json:"name"`
	LaunchIndex      int               `json:"launch_index"`
	AvailabilityZone string            `json:"availability_zone"`
	RandomSeed       []byte            `json:"random_seed,omitempty"`
	ProjectID        string            `json:"project_id,omitempty"`
	Devices          *[]map[string]any `json:"devices,omitempty"`
	DedicatedCPUs    *[]int            `json:"dedicated_cpus,omitempty"`
}

func (f face) metaData(version string) metaData {
	in := f.in
	m := metaData{UUID: in.UUID, Meta: in.Meta, Hostname: in.hostname(), Name: in.Name,
		LaunchIndex: in.LaunchIndex, AvailabilityZone: in.AvailabilityZone}
	for i, file := range f.injected() {
		m.Files = append(m.Files, fileRef{file.Path, fmt.Sprintf("/content/%04d", i)})
	}
	if f.drive {
		m.AdminPass = in.AdminPass
	}
	if len(in.Keys) > 0 {
		k := in.Keys[0]
		m.PublicKeys = map[string]string{k.Name: k.Data}
		m.Keys = []keyView{{k.Name, cmp.Or(k.Type, "ssh"), k.Data}}
	}
	if version >= grizzly {
		if m.RandomSeed = in.RandomSeed; m.RandomSeed == nil {
			m.RandomSeed = make([]byte, 512)
			rand.Read(m.RandomSeed)
		}
	}
	if version >= liberty {
		m.ProjectID = in.ProjectID
	}
	if version >= newton1 {
		devices := in.devices(version)
		m.Devices = &devices
	}
	if version >= victoria {
		m.DedicatedCPUs = &[]int{}
	}
	return m
}

func (in *Instance) devices(version string) []map[string]any {
	list := []map[string]any{}
	for _, d := range in.Devices {
		m := map[string]any{"type": d.Type, "bus": cmp.Or(d.Bus, "none"), "address": cmp.Or(d.Address, "none")}
		switch d.Type {
		case "nic":
			m["mac"] = d.MAC
			if version >= ocata && d.VLAN != 0 {
				m["vlan"] = d.VLAN
			}
			if version >= rocky {
				m["vf_trusted"] = false
			}
		case "disk":
			if d.Serial != "" {
				m["serial"] = d.Serial
			}
			if d.Path != "" {
				m["path"] = d.Path
			}
		}
		if d.Tags != nil {
			m["tags"] = d.Tags
		}
		list = append(list, m)
	}
	return list
}

// encode renders JSON with Python's spacing, for guests that read it with grep,
// and without HTML escapes.
func encode(v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		// Only vendor data that is no JSON gets here; Files refuses it earlier.
		return []byte("{}")
	}
	return spaced(bytes.TrimSuffix(b.Bytes(), []byte("\n")))
}

func spaced(compact []byte) []byte {
	out := make([]byte, 0, len(compact)+len(compact)/8)
	quoted := false
	for i := 0; i < len(compact); i++ {
		c := compact[i]
		out = append(out, c)
		switch {
		case quoted && c == '\\':
			i++
			out = append(out, compact[i])
		case c == '"':
			quoted = !quoted
		case !quoted && (c == ',' || c == ':'):
			out = append(out, ' ')
		}
	}
	return out
}
