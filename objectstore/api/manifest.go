package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/objectstore"
)

// readManifest makes a static large object of n, by the manifest in the body.
func (c *call) readManifest(n *objectstore.NewObject) error {
	if c.signed != nil {
		// A signed URL is for one object, not for naming others.
		return nacre.Errorf(nacre.Invalid, "", "Temp URL can not be used to upload a manifest")
	}
	most := c.svc.Limits().ManifestSize
	if n.Size > most {
		return nacre.Errorf(nacre.TooLarge, "", "Manifest File > %d bytes", most)
	}
	raw, err := io.ReadAll(io.LimitReader(c.r.Body, most+1))
	if err != nil {
		return err
	}
	if int64(len(raw)) > most {
		return nacre.Errorf(nacre.TooLarge, "", "Manifest File > %d bytes", most)
	}
	return c.parseManifest(n, raw)
}

func (c *call) parseManifest(n *objectstore.NewObject, raw []byte) error {
	var list []json.RawMessage
	if err := json.Unmarshal(raw, &list); err != nil {
		var other any
		if json.Unmarshal(raw, &other) == nil {
			return invalid("Manifest must be a list.\n")
		}
		return invalid("Manifest must be valid JSON.\n")
	}
	most := c.svc.Limits().Segments
	if int64(len(list)) > most {
		return nacre.Errorf(nacre.TooLarge, "", "Number of segments must be <= %d", most)
	}
	if len(list) == 0 {
		return invalid("Manifest must have at least one segment.\n")
	}
	var problems []string
	objects := 0
	n.Segments = make([]objectstore.Segment, len(list))
	for i := range list {
		seg := &n.Segments[i]
		d := json.NewDecoder(bytes.NewReader(list[i]))
		d.DisallowUnknownFields()
		if err := d.Decode(seg); err != nil {
			var loose struct {
				Path  string `json:"path"`
				Etag  string `json:"etag"`
				Size  any    `json:"size_bytes"`
				Range string `json:"range"`
				Data  string `json:"data"`
			}
			if json.Unmarshal(list[i], &loose) == nil && strings.Contains(err.Error(), "size_bytes") {
				problems = append(problems, fmt.Sprintf("Index %d: invalid size_bytes", i))
			} else {
				problems = append(problems, fmt.Sprintf("Index %d: %s", i, strings.TrimPrefix(err.Error(), "json: ")))
			}
			continue
		}
		switch {
		case seg.Path == "" && seg.Data == "":
			problems = append(problems, fmt.Sprintf("Index %d: expected keys to include one of \"path\" or \"data\"", i))
		case seg.Path != "" && seg.Data != "":
			problems = append(problems, fmt.Sprintf("Index %d: extraneous keys \"path\"", i))
		case seg.Path != "":
			objects++
			if container, object, ok := strings.Cut(strings.TrimLeft(seg.Path, "/"), "/"); !ok || container == "" || object == "" {
				problems = append(problems, fmt.Sprintf("Index %d: path does not refer to an object. Path must be of the form /container/object.", i))
			}
			if seg.Size != nil && *seg.Size < 1 && seg.Range == "" {
				problems = append(problems, fmt.Sprintf("Index %d: too small; each segment must be at least 1 byte.", i))
			}
			seg.Path = "/" + strings.TrimLeft(seg.Path, "/")
		}
	}
	if len(problems) == 0 && objects == 0 {
		problems = append(problems, "Inline data segments require at least one object-backed segment.")
	}
	if len(problems) > 0 {
		return invalid("%s\n", strings.Join(problems, "\n"))
	}
	n.Kind, n.Target = objectstore.KindSLO, ""
	return nil
}

// deleteManifest deletes a static large object with all of its segments.
func (c *call) deleteManifest() {
	o, err := c.svc.Get(c.ctx, c.ref, objectstore.GetOptions{Manifest: true})
	var refs []objectstore.Ref
	res := newBulk("Number Deleted", "Number Not Found")
	switch {
	case err != nil && nacre.KindOf(err) == nacre.NotFound:
		res.add(c.ref, http.StatusNotFound)
	case err != nil:
		c.fail(err)
		return
	case o.Kind != objectstore.KindSLO:
		res.status, res.body = http.StatusBadRequest, "Not an SLO manifest"
	default:
		if refs, err = c.svc.Segments(c.ctx, o); err != nil {
			c.fail(err)
			return
		}
	}
	c.bulkSlowly(res, func() {
		if len(refs) == 0 {
			return
		}
		// The manifest goes last: as long as a segment is left it names it.
		last := len(refs) - 1
		c.deleteAll(res, refs[:last], nil)
		c.deleteAll(res, refs[last:], nil)
	})
}
