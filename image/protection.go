package image

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/internal/policy"
)

// Protections say who may create, read, update and delete which custom properties:
// glance's property-protections.conf. The first expression that matches a property
// decides; a property that none matches is closed to everybody.
type Protections struct {
	rules []protection
}

type protection struct {
	match *regexp.Regexp
	// may holds role names, or one policy's name, by operation.
	may    map[string][]string
	policy bool
}

var propertyOps = []string{"create", "read", "update", "delete"}

// ParseProtections reads glance's file: a section named by a regular expression,
// with create, read, update and delete as lists of roles ("@" everybody, "!"
// nobody) or, with byPolicy, as the name of one policy rule each.
func ParseProtections(text string, byPolicy bool) (*Protections, error) {
	p := &Protections{}
	for n, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		switch {
		case line == "" || line[0] == '#' || line[0] == ';':
		case line[0] == '[':
			re, err := regexp.Compile("^(?:" + strings.TrimSuffix(line[1:], "]") + ")")
			if err != nil {
				return nil, fmt.Errorf("image: property protections, line %d: %w", n+1, err)
			}
			p.rules = append(p.rules, protection{re, map[string][]string{}, byPolicy})
		default:
			op, who, ok := strings.Cut(line, "=")
			op = strings.TrimSpace(op)
			if !ok || len(p.rules) == 0 || !slices.Contains(propertyOps, op) {
				return nil, fmt.Errorf("image: property protections, line %d: %q is not understood", n+1, line)
			}
			var list []string
			for w := range strings.SplitSeq(who, ",") {
				if w = strings.TrimSpace(w); w != "" {
					list = append(list, w)
				}
			}
			if slices.Contains(list, "@") && slices.Contains(list, "!") || byPolicy && len(list) > 1 {
				return nil, fmt.Errorf("image: property protections, line %d: %q says two things", n+1, line)
			}
			p.rules[len(p.rules)-1].may[op] = list
		}
	}
	for _, r := range p.rules {
		for _, op := range propertyOps {
			if _, ok := r.may[op]; !ok {
				return nil, fmt.Errorf("image: property protections: [%s] does not say who may %s", r.match, op)
			}
		}
	}
	return p, nil
}

// allowed reports whether the caller may do op to a property.
func (s *Service) allowed(ctx context.Context, op, name string) bool {
	p := s.c.Protections
	if p == nil {
		return true
	}
	c := nacre.CallerFrom(ctx)
	for _, r := range p.rules {
		if !r.match.MatchString(name) {
			continue
		}
		may := r.may[op]
		switch {
		case slices.Contains(may, "!") || len(may) == 0:
			return false
		case slices.Contains(may, "@"):
			return true
		case r.policy:
			return s.c.Policy.Enforce(ctx, may[0], policy.Map{}) == nil
		}
		return slices.ContainsFunc(may, c.HasRole)
	}
	return false
}

// mayProperties checks a change of properties; before is as stored, with what is
// hidden from the caller and so missing in after.
func (s *Service) mayProperties(ctx context.Context, before, after map[string]string) error {
	if s.c.Protections == nil {
		return nil
	}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(after)) {
		was, had := before[name]
		switch {
		case !had && !s.allowed(ctx, "create", name):
			errs = append(errs, nacre.Errorf(nacre.Forbidden, "", "Property %s is protected", name))
		case had && !s.allowed(ctx, "read", name):
			errs = append(errs, nacre.Errorf(nacre.Forbidden, "", "Property %s is protected", name))
		case had && was != after[name] && !s.allowed(ctx, "update", name):
			errs = append(errs, nacre.Errorf(nacre.Forbidden, "", "Property %s is protected", name))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(before)) {
		if _, kept := after[name]; !kept && s.allowed(ctx, "read", name) && !s.allowed(ctx, "delete", name) {
			errs = append(errs, nacre.Errorf(nacre.Forbidden, "", "Property %s is protected", name))
		}
	}
	return errors.Join(errs...)
}

// hide leaves out the properties that the caller may not read.
func (s *Service) hide(ctx context.Context, im *Image) {
	if s.c.Protections == nil {
		return
	}
	shown := maps.Clone(im.Properties)
	maps.DeleteFunc(shown, func(name, _ string) bool { return !s.allowed(ctx, "read", name) })
	im.Properties = shown
}

// unhide puts back what hide left out.
func (s *Service) unhide(ctx context.Context, im *Image, stored map[string]string) {
	if s.c.Protections == nil {
		return
	}
	for name, v := range stored {
		if _, ok := im.Properties[name]; !ok && !s.allowed(ctx, "read", name) {
			im.Properties[name] = v
		}
	}
}
