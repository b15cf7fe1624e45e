package network

import (
	"encoding/json"
	"maps"

	"github.com/nacre-cloud/nacre"
)

// ProfileNIC is where a port's binding:profile, which services alone may write, says
// which interface of its server it is: {"index": 0, "made": true, "tag": "…"}. A compute
// service in another process finds its ports by it.
const ProfileNIC = "nacre_nic"

type profileNIC struct {
	Index int    `json:"index"`
	Made  bool   `json:"made"`
	Tag   string `json:"tag,omitempty"`
}

// takeProfile sets a port's profile, and what it says of the port's server. A profile
// that says nothing of it changes nothing of it.
func (p *Port) takeProfile(profile map[string]any) error {
	if v, ok := profile[ProfileNIC]; ok {
		var n profileNIC
		text, err := json.Marshal(v)
		if err == nil {
			err = json.Unmarshal(text, &n)
		}
		if err != nil || p.DeviceID == "" {
			return nacre.Errorf(nacre.Invalid, "HTTPBadRequest", "Invalid input for binding:profile. Reason: %s is an object of a port that has a device.", ProfileNIC)
		}
		p.Served, p.NICIndex, p.Made, p.NICTag = true, n.Index, n.Made, n.Tag
	}
	p.Profile = plainProfile(profile)
	return nil
}

// plainProfile is a profile without what is kept elsewhere.
func plainProfile(profile map[string]any) map[string]any {
	out := map[string]any{}
	maps.Copy(out, profile)
	delete(out, ProfileNIC)
	return out
}

// BindingProfile is the port's binding:profile with what it says of the port's server.
func (p *Port) BindingProfile() map[string]any {
	out := plainProfile(p.Profile)
	if p.Served {
		out[ProfileNIC] = profileNIC{Index: p.NICIndex, Made: p.Made, Tag: p.NICTag}
	}
	return out
}
