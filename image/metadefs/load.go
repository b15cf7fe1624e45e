package metadefs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/store"
)

// file is a definition as Glance's files hold it.
type file struct {
	Namespace   string `json:"namespace"`
	DisplayName string `json:"display_name"`
	Description string `json:"description"`
	Visibility  string `json:"visibility"`
	Protected   *bool  `json:"protected"`
	Owner       string `json:"owner"`
	Types       []struct {
		Name   string `json:"name"`
		Prefix string `json:"prefix"`
		Target string `json:"properties_target"`
	} `json:"resource_type_associations"`
	Properties map[string]map[string]any `json:"properties"`
	Objects    []map[string]any          `json:"objects"`
	Tags       []struct {
		Name string `json:"name"`
	} `json:"tags"`
}

// ParseFile reads a definition in Glance's file format.
func ParseFile(b []byte) (Namespace, []Content, error) {
	var f file
	if err := json.Unmarshal(b, &f); err != nil {
		return Namespace{}, nil, fmt.Errorf("metadefs: %w", err)
	}
	ns := Namespace{Name: f.Namespace, DisplayName: f.DisplayName, Description: f.Description, Visibility: f.Visibility, OwnerID: f.Owner, Protected: f.Protected == nil || *f.Protected}
	if ns.Visibility == "" {
		ns.Visibility = "public"
	}
	if ns.OwnerID == "" {
		ns.OwnerID = "admin"
	}
	var out []Content
	for _, t := range f.Types {
		body := map[string]any{}
		if t.Prefix != "" {
			body["prefix"] = t.Prefix
		}
		if t.Target != "" {
			body["properties_target"] = t.Target
		}
		out = append(out, Content{Kind: Association, Name: t.Name, Body: body})
	}
	for name, p := range f.Properties {
		out = append(out, Content{Kind: Property, Name: name, Body: p})
	}
	for _, o := range f.Objects {
		name, _ := o["name"].(string)
		delete(o, "name")
		out = append(out, Content{Kind: Object, Name: name, Body: o})
	}
	for _, t := range f.Tags {
		out = append(out, Content{Kind: Tag, Name: t.Name})
	}
	slices.SortStableFunc(out, func(a, b Content) int { return strings.Compare(a.Kind+a.Name, b.Kind+b.Name) })
	for _, c := range out {
		if err := checkItem(c.Kind, c.Name, c.Body); err != nil {
			return ns, nil, fmt.Errorf("metadefs: %s %s of %s: %w", c.Kind, c.Name, ns.Name, err)
		}
	}
	return ns, out, ns.check()
}

// Load adds the definitions of all .json files in a directory; namespaces that are
// there already stay as they are. It is the operator's, without policy, and says
// how many it added. A file that can't be read is an error; the others are loaded.
func (s *Service) Load(ctx context.Context, dir fs.FS) (int, error) {
	names, err := fs.Glob(dir, "*.json")
	if err != nil {
		return 0, err
	}
	var errs []error
	added := 0
	for _, name := range names {
		b, err := fs.ReadFile(dir, name)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		ns, contents, err := ParseFile(b)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", path.Base(name), err))
			continue
		}
		if have, err := s.namespaces.Exists(ctx, store.Eq("name", ns.Name)); err != nil || have {
			errs = append(errs, err)
			continue
		}
		if _, err := s.create(ctx, ns, contents); err != nil && nacre.KindOf(err) != nacre.Conflict {
			errs = append(errs, fmt.Errorf("%s: %w", path.Base(name), err))
			continue
		}
		added++
	}
	return added, errors.Join(errs...)
}
