package objectstore

import (
	"maps"
	"strings"
	"unicode/utf8"

	"github.com/nacre-cloud/nacre"
)

// Headers that the service keeps itself.
const (
	accountACL  = "X-Account-Sysmeta-Core-Access-Control"
	readACL     = "X-Container-Read"
	writeACL    = "X-Container-Write"
	versionsLoc = "X-Versions-Location"
	historyLoc  = "X-History-Location"
)

func invalid(format string, args ...any) error {
	return nacre.Errorf(nacre.Invalid, "", format, args...)
}

// checkNames holds the parts of a reference to their lengths and to what a name
// may hold.
func (s *Service) checkNames(r Ref) error {
	for _, n := range []struct {
		what, name string
		most       int64
	}{{"Account", r.Account, s.c.Limits.AccountName}, {"Container", r.Container, s.c.Limits.ContainerName}, {"Object", r.Object, s.c.Limits.ObjectName}} {
		if int64(len(n.name)) > n.most {
			return invalid("%s name length of %d longer than %d", n.what, len(n.name), n.most)
		}
		if !utf8.ValidString(n.name) || strings.Contains(n.name, "\x00") {
			return nacre.Errorf(nacre.Precondition, "", "Invalid UTF8 or contains NULL")
		}
	}
	if strings.Contains(r.Container, "/") || strings.Contains(r.Account, "/") {
		return nacre.Errorf(nacre.Precondition, "", "A name cannot contain slashes")
	}
	return nil
}

// checkMeta holds a request's metadata to the limits. target is "account",
// "container" or "object".
func (s *Service) checkMeta(target string, meta map[string]string) error {
	l, prefix := s.c.Limits, "x-"+target+"-meta-"
	count, size := int64(0), int64(0)
	for name, value := range meta {
		if int64(len(value)) > l.HeaderSize {
			return invalid("Header value too long: %s", name[:min(len(name), int(l.MetaName))])
		}
		key := strings.ToLower(name)
		if !strings.HasPrefix(key, prefix) {
			continue
		}
		key = key[len(prefix):]
		if target != "object" && (!utf8.ValidString(key) || !utf8.ValidString(value) || strings.Contains(value, "\x00")) {
			return invalid("Metadata must be valid UTF-8")
		}
		count, size = count+1, size+int64(len(key)+len(value))
		switch {
		case key == "":
			return invalid("Metadata name cannot be empty")
		case int64(len(key)) > l.MetaName:
			return invalid("Metadata name too long: %s%s", prefix, key)
		case int64(len(value)) > l.MetaValue:
			return invalid("Metadata value longer than %d: %s%s", l.MetaValue, prefix, key)
		case count > l.MetaCount:
			return invalid("Too many metadata items; max %d", l.MetaCount)
		case size > l.MetaOverall:
			return invalid("Total metadata too large; max %d", l.MetaOverall)
		}
	}
	return nil
}

// merge is metadata after a request: an empty value takes an item away. The whole
// is held to the limits, not only the request.
func (s *Service) merge(target string, have, change map[string]string) (map[string]string, error) {
	if err := s.checkMeta(target, change); err != nil {
		return nil, err
	}
	out := maps.Clone(have)
	if out == nil {
		out = map[string]string{}
	}
	for k, v := range change {
		if v == "" {
			delete(out, k)
		} else {
			out[k] = v
		}
	}
	return out, s.checkMeta(target, out)
}
