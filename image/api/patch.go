package api

import (
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"regexp"
	"slices"
	"strings"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/image"
	"github.com/nacre-cloud/nacre/internal/rest"
)

type patchOp struct {
	op    string
	old   bool
	path  []string
	value any
}

// The media types of patches, the older of which has its operations otherwise.
const (
	patchOld = "application/openstack-images-v2.0-json-patch"
	patchNew = "application/openstack-images-v2.1-json-patch"
)

var patchOps = []string{"add", "remove", "replace"}

func bad(format string, args ...any) error { return nacre.Errorf(nacre.Invalid, "", format, args...) }

// readPatch reads a JSON patch in one of glance's two media types.
func readPatch(r *rest.Request) ([]patchOp, error) {
	ct, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if ct != patchOld && ct != patchNew {
		r.Set("Accept-Patch", patchOld+", "+patchNew)
		return nil, nacre.Errorf(nacre.UnsupportedMedia, "", "Image PATCH expects Content-Type one of: %s, %s", patchOld, patchNew)
	}
	b, err := io.ReadAll(io.LimitReader(r.Body, 1<<20+1))
	if err != nil {
		return nil, err
	}
	if len(b) > 1<<20 {
		return nil, nacre.Errorf(nacre.TooLarge, "", "The patch is too large.")
	}
	var in []any
	var whole any
	if json.Unmarshal(b, &whole) != nil {
		return nil, bad("Malformed JSON in request body.")
	}
	if json.Unmarshal(b, &in) != nil || whole == nil {
		return nil, bad("Request body must be a JSON array of operation objects.")
	}
	out := make([]patchOp, len(in))
	for i, x := range in {
		m, ok := x.(map[string]any)
		if !ok {
			return nil, bad("Operations must be JSON objects.")
		}
		if out[i], err = readOp(m, ct == patchOld); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func readOp(m map[string]any, old bool) (patchOp, error) {
	var out patchOp
	var pointer any
	if old {
		for _, name := range patchOps {
			if p, ok := m[name]; ok {
				if out.op != "" {
					return out, bad(`Operation objects must contain only one member named "add", "remove", or "replace".`)
				}
				out.op, pointer = name, p
			}
		}
		if out.op == "" {
			return out, bad(`Operation objects must contain exactly one member named "add", "remove", or "replace".`)
		}
	} else {
		op, ok := m["op"]
		if !ok {
			return out, bad("Unable to find `op` in JSON Schema change. It must be one of the following: add, remove, replace.")
		}
		if out.op, _ = op.(string); !slices.Contains(patchOps, out.op) {
			return out, bad("Invalid operation: `%v`. It must be one of the following: add, remove, replace.", op)
		}
		if pointer, ok = m["path"]; !ok {
			return out, bad("Unable to find 'path' in JSON Schema change")
		}
	}
	out.old = old
	var err error
	if out.path, err = readPointer(pointer); err != nil {
		return out, err
	}
	want := 1
	if out.path[0] == "locations" && out.op != "replace" {
		want = 2
	}
	if len(out.path) != want {
		return out, bad("Invalid JSON pointer for this resource: '/%s'", strings.Join(out.path, "/"))
	}
	if out.op != "remove" {
		v, ok := m["value"]
		if !ok {
			return out, bad(`Operation "%s" requires a member named "value".`, out.op)
		}
		out.value = v
	}
	return out, nil
}

// readPointer takes glance's limited form of JSON pointers.
func readPointer(v any) ([]string, error) {
	p, ok := v.(string)
	switch {
	case !ok || !strings.HasPrefix(p, "/"):
		return nil, bad("Pointer `%v` does not start with \"/\".", v)
	case adjacent.MatchString(p[1:]):
		return nil, bad("Pointer `%s` contains adjacent \"/\".", p)
	case len(p) > 1 && strings.HasSuffix(p, "/"):
		return nil, bad("Pointer `%s` end with \"/\".", p)
	case strings.TrimSpace(p[1:]) == "":
		return nil, bad("Pointer `%s` does not contains valid token.", p)
	case badEscape.MatchString(p):
		return nil, bad("Pointer `%s` contains \"~\" not part of a recognized escape sequence.", p)
	}
	var out []string
	for part := range strings.SplitSeq(strings.TrimLeft(p, "/"), "/") {
		out = append(out, strings.TrimSpace(strings.NewReplacer("~1", "/", "~0", "~").Replace(part)))
	}
	return out, nil
}

var (
	adjacent  = regexp.MustCompile(`/\s*?/`)
	badEscape = regexp.MustCompile(`~([^01]|$)`)
)

func (a *api) patch(r *rest.Request) error {
	ops, err := readPatch(r)
	if err != nil {
		return err
	}
	for _, op := range ops {
		if err := mayPatch(op); err != nil {
			return err
		}
	}
	im, err := a.change(r, ops)
	if err != nil {
		return err
	}
	b, err := rest.JSON(a.view(r, im), 0)
	if err != nil {
		return err
	}
	r.Set("Content-Type", "application/json")
	_, err = r.W.Write(b)
	return err
}

// mayPatch refuses what no patch may touch.
func mayPatch(op patchOp) error {
	name := op.path[0]
	switch {
	case slices.Contains(readOnly, name):
		return nacre.Errorf(nacre.Forbidden, "", "Attribute '%s' is read-only.", name)
	case name == "location" || name == "deleted" || name == "deleted_at" || name == "stores" || strings.HasPrefix(name, reservedPrefix):
		return nacre.Errorf(nacre.Forbidden, "", "Attribute '%s' is reserved.", name)
	}
	return nil
}

// change does the operations: those on locations one by one, the others together.
func (a *api) change(r *rest.Request, ops []patchOp) (image.Image, error) {
	admin := r.Caller().HasRole("admin")
	plain := []patchOp{}
	for _, op := range ops {
		if op.path[0] != "locations" {
			plain = append(plain, op)
		}
	}
	if len(ops) == 0 {
		return a.s.Get(r.Context(), r.Var("id"))
	}
	if len(plain) > 0 {
		if im, err := a.s.Update(r.Context(), r.Var("id"), func(im *image.Image) error {
			for _, op := range plain {
				if err := apply(im, op, admin); err != nil {
					return err
				}
			}
			return nil
		}); err != nil || len(plain) == len(ops) {
			return im, err
		}
	}
	for _, op := range ops {
		if op.path[0] != "locations" {
			continue
		}
		ch := image.LocationChange{Op: op.op}
		if len(op.path) > 1 {
			ch.Pos = op.path[1]
		}
		var err error
		if ch.Locations, err = readLocations(op); err != nil {
			return image.Image{}, err
		}
		if err := a.s.ChangeLocations(r.Context(), r.Var("id"), ch); err != nil {
			return image.Image{}, err
		}
	}
	return a.s.Get(r.Context(), r.Var("id"))
}

// readLocations reads a location, or a list of them.
func readLocations(op patchOp) ([]image.AddedLocation, error) {
	list, ok := op.value.([]any)
	switch {
	case op.op == "remove":
		return nil, nil
	case op.op == "add":
		list = []any{op.value}
	case !ok:
		return nil, bad("Provided object does not match schema 'image': %s is not of type 'array'", rest.PyRepr(op.value))
	}
	var out []image.AddedLocation
	for _, x := range list {
		m, _ := x.(map[string]any)
		url, okURL := m["url"].(string)
		meta, okMeta := m["metadata"].(map[string]any)
		if !okURL || !okMeta {
			return nil, bad("Provided object does not match schema 'image': a location needs 'url' and 'metadata'")
		}
		l := image.AddedLocation{URL: url, Metadata: meta}
		if v, given := m["validation_data"]; given {
			vm, ok := v.(map[string]any)
			if !ok {
				return nil, bad("Provided object does not match schema 'image': %s is not of type 'object'", rest.PyRepr(v))
			}
			l.Validation = &image.Validation{}
			l.Validation.Checksum, _ = vm["checksum"].(string)
			l.Validation.HashAlgo, _ = vm["os_hash_algo"].(string)
			l.Validation.HashValue, _ = vm["os_hash_value"].(string)
		}
		out = append(out, l)
	}
	return out, nil
}

func apply(im *image.Image, op patchOp, admin bool) error {
	name := op.path[0]
	if name == "owner" && !admin && op.op == "replace" {
		return nacre.Errorf(nacre.Forbidden, "", "Owner can't be updated by non admin.")
	}
	if slices.Contains(fixed, name) {
		switch {
		case op.op == "remove":
			return nacre.Errorf(nacre.Forbidden, "", "Property %s may not be removed.", name)
		case op.op == "add" && op.old:
			return nacre.Errorf(nacre.Conflict, "", "Property %s already present.", name)
		}
		return setFixed(im, name, op.value)
	}
	_, exists := im.Properties[name]
	switch {
	case op.op != "add" && !exists:
		return nacre.Errorf(nacre.Conflict, "", "Property %s does not exist.", name)
	case op.op == "add" && op.old && exists:
		return nacre.Errorf(nacre.Conflict, "", "Property %s already present.", name)
	case op.op == "remove":
		delete(im.Properties, name)
		return nil
	}
	s, err := property(name, op.value)
	if err == nil {
		im.Properties[name] = s
	}
	return err
}

func setFixed(im *image.Image, name string, v any) error {
	wrong := func(want string) error {
		return nacre.Errorf(nacre.Invalid, "", "Provided object does not match schema 'image': %s is not of type '%s' (%s)", rest.PyRepr(v), want, name)
	}
	texts := map[string]*string{"name": &im.Name, "visibility": &im.Visibility, "container_format": &im.ContainerFormat, "disk_format": &im.DiskFormat, "owner": &im.OwnerID}
	if p, ok := texts[name]; ok {
		if strings.HasSuffix(name, "_format") && im.Status != image.Queued {
			return nacre.Errorf(nacre.Forbidden, "", "Attribute %s can be only replaced for a queued image.", name)
		}
		s, isText := v.(string)
		if !isText && (v != nil || name == "visibility") {
			return wrong("string")
		}
		if len(s) > 255 {
			return nacre.Errorf(nacre.Invalid, "", "Provided object does not match schema 'image': '%s' is too long (%s)", s, name)
		}
		*p = s
		return nil
	}
	switch name {
	case "protected", "os_hidden":
		b, ok := v.(bool)
		if !ok {
			return wrong("boolean")
		}
		if name == "protected" {
			im.Protected = b
		} else {
			im.Hidden = b
		}
	case "min_disk", "min_ram":
		f, ok := v.(float64)
		if !ok || f != float64(int64(f)) {
			return wrong("integer")
		}
		if name == "min_disk" {
			im.MinDisk = int(f)
		} else {
			im.MinRAM = int(f)
		}
	case "tags":
		list, ok := v.([]any)
		if !ok {
			return wrong("array")
		}
		im.Tags = nil
		for _, t := range list {
			s, ok := t.(string)
			if !ok {
				return wrong("array")
			}
			im.Tags = append(im.Tags, s)
		}
	default:
		return fmt.Errorf("image: no way to set %s", name)
	}
	return nil
}
