package kit

import (
	"encoding/json"
	"net/url"
	"strings"
)

// DefaultDomain is the id of the domain that bootstrap makes.
const DefaultDomain = "default"

// Ref is an id that may be missing; it is shown as null then.
type Ref string

// MarshalJSON shows a missing id as null.
func (r Ref) MarshalJSON() ([]byte, error) {
	if r == "" {
		return []byte("null"), nil
	}
	return json.Marshal(string(r))
}

// Options are a resource's options: "immutable" for projects, domains and roles.
type Options map[string]any

// Immutable is whether the resource may be neither changed nor deleted.
func (o Options) Immutable() bool { return o.Is("immutable") }

// Is says whether a truth value among the options is set.
func (o Options) Is(name string) bool { b, _ := o[name].(bool); return b }

// Joined joins ids so that no other list gives the same text.
func Joined(ids ...string) string {
	out := make([]string, len(ids))
	for i, id := range ids {
		out[i] = url.PathEscape(id)
	}
	return strings.Join(out, "/")
}
