package metadata

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/nacre-cloud/nacre"
)

// Files is the config drive's content by path: each dated OpenStack version and
// "latest", the EC2 documents of 2009-04-04 and latest (Nova leaves the older
// ones out by default), and injected files.
func Files(in *Instance) (map[string][]byte, error) {
	if len(in.VendorData) > 0 && !json.Valid(in.VendorData) {
		return nil, nacre.Errorf(nacre.Invalid, "vendor_data", "The vendor data is not JSON.")
	}
	f := face{in: in, drive: true}
	files := map[string][]byte{}
	add := func(p string) {
		if d, ok := f.lookup("/"+p, time.Time{}); ok {
			files[p] = d.body
		}
	}
	for _, v := range append([]string{"latest"}, openstackVersions...) {
		dated := v
		if v == "latest" {
			dated = openstackVersions[len(openstackVersions)-1]
		}
		dir := "openstack/" + v + "/"
		add(dir + "meta_data.json")
		add(dir + "user_data")
		add(dir + "vendor_data.json")
		add(dir + "vendor_data2.json")
		if dated >= liberty {
			add(dir + "network_data.json")
		}
	}
	for i, file := range in.Injected {
		files[fmt.Sprintf("openstack/content/%04d", i)] = file.Content
	}
	newest := ec2Versions[len(ec2Versions)-1]
	for _, v := range []string{newest, "latest"} {
		files["ec2/"+v+"/meta-data.json"] = encode(in.ec2Tree(newest))
		if in.UserData != nil {
			files["ec2/"+v+"/user-data"] = in.UserData
		}
	}
	return files, nil
}
