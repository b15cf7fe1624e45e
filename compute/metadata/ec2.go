package metadata

import (
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// node is a branch of the EC2 tree: its values are strings, []string or node.
type node map[string]any

// nameKey holds how a branch is shown in its parent's listing, as Nova has it
// for public keys ("0=mykey").
const nameKey = "_name"

// ec2Tree is meta-data in one version.
func (in *Instance) ec2Tree(version string) node {
	local, public := "", ""
	for _, l := range in.Links {
		for _, s := range l.Subnets {
			for _, a := range s.Addresses {
				if local == "" && a.Is4() {
					local = a.String()
				}
			}
		}
	}
	if i := slices.IndexFunc(in.PublicIPv4s, netip.Addr.Is4); i >= 0 {
		public = in.PublicIPv4s[i].String()
	}
	groups := in.SecurityGroups
	if groups == nil {
		groups = []string{}
	}
	t := node{
		"ami-id": in.AMIID, "ami-launch-index": in.LaunchIndex, "ami-manifest-path": "FIXME",
		"instance-id": in.EC2ID, "hostname": in.hostname(), "local-ipv4": local,
		"reservation-id": in.ReservationID, "security-groups": groups,
	}
	if len(in.Keys) > 0 {
		t["public-keys"] = node{"0": node{nameKey: "0=" + in.Keys[0].Name, "openssh-key": in.Keys[0].Data}}
	}
	if version >= "2007-01-19" {
		t["local-hostname"], t["public-hostname"], t["public-ipv4"] = in.hostname(), in.hostname(), public
	}
	if version >= "2007-08-29" {
		t["instance-type"] = in.Flavor
	}
	if version >= "2007-12-15" {
		t["block-device-mapping"] = in.blockDevices()
		if in.KernelID != "" {
			t["kernel-id"] = in.KernelID
		}
		if in.RamdiskID != "" {
			t["ramdisk-id"] = in.RamdiskID
		}
	}
	if version >= "2008-02-01" {
		t["placement"] = node{"availability-zone": in.AvailabilityZone}
	}
	if version >= "2008-09-01" {
		t["instance-action"] = "none"
	}
	return t
}

func (in *Instance) blockDevices() node {
	root := in.rootDevice()
	m := node{"ami": strings.TrimPrefix(root, "/dev/"), "root": root}
	for i, e := range in.Ephemeral {
		m["ephemeral"+strconv.Itoa(i)] = e
	}
	if in.Swap != "" {
		m["swap"] = in.Swap
	}
	return m
}

// ec2 finds an item of the EC2 face.
func (f face) ec2(version string, tokens []string) (document, bool) {
	if version == "latest" {
		version = ec2Versions[len(ec2Versions)-1]
	}
	// "1.0" sorts before the dated ones, so versions compare as text.
	if !slices.Contains(ec2Versions, version) {
		return document{}, false
	}
	top := node{"meta-data": f.in.ec2Tree(version)}
	if f.in.UserData != nil {
		top["user-data"] = string(f.in.UserData)
	}
	var at any = top
	for _, t := range tokens {
		branch, ok := at.(node)
		if !ok {
			return document{}, false
		}
		if at, ok = branch[t]; !ok || t == nameKey {
			return document{}, false
		}
	}
	switch v := at.(type) {
	case node:
		return listing(v.names()...), true
	case []string:
		return listing(v...), true
	case int:
		return text(strconv.Itoa(v)), true
	default:
		return text(v.(string)), true
	}
}

// names are a listing's lines: branches end in a slash unless they have a name
// of their own.
func (n node) names() []string {
	var names []string
	for _, k := range slices.Sorted(maps.Keys(n)) {
		if k == nameKey {
			continue
		}
		if branch, ok := n[k].(node); ok {
			if own, ok := branch[nameKey].(string); ok {
				k = own
			} else {
				k += "/"
			}
		}
		names = append(names, k)
	}
	return names
}
