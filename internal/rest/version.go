package rest

import (
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"

	"github.com/nacre-cloud/nacre"
)

// Version is a microversion: 2.37 is 2<<16 | 37. The zero Version stands for
// "no microversions here" and passes every range.
type Version uint32

// V parses a microversion that is known to be right; "" is 0. It panics on
// anything else: it's for tables.
func V(s string) Version {
	if s == "" {
		return 0
	}
	v, ok := parseVersion(s)
	if !ok {
		panic("rest: bad microversion " + s)
	}
	return v
}

var versionRE = regexp.MustCompile(`^([1-9]\d*)\.([1-9]\d*|0)$`)

func parseVersion(s string) (Version, bool) {
	m := versionRE.FindStringSubmatch(s)
	if m == nil {
		return 0, false
	}
	major, err1 := strconv.Atoi(m[1])
	minor, err2 := strconv.Atoi(m[2])
	if err1 != nil || err2 != nil || major > 0x7fff || minor > 0xffff {
		return 0, false
	}
	return Version(major<<16 | minor), true
}

// String is "2.37", or "" for the zero Version.
func (v Version) String() string {
	if v == 0 {
		return ""
	}
	return fmt.Sprintf("%d.%d", v>>16, v&0xffff)
}

// in reports whether v lies in the inclusive range; 0 bounds are open.
func (v Version) in(lo, hi Version) bool {
	return v == 0 || (v >= lo && (hi == 0 || v <= hi))
}

// Microversions says how a service negotiates.
type Microversions struct {
	// Type is the service type in the OpenStack-API-Version header: "compute".
	Type string
	// Legacy is the older header, for instance "X-OpenStack-Nova-API-Version";
	// empty where there is none.
	Legacy string
	// Min is used when a client names none; Max is what "latest" means.
	Min, Max Version
}

// negotiate reads the client's headers.
func (m *Microversions) negotiate(h http.Header) (Version, error) {
	if m == nil {
		return 0, nil
	}
	want := ""
	for _, line := range h.Values("OpenStack-API-Version") {
		for part := range strings.SplitSeq(line, ",") {
			if f := strings.Fields(part); len(f) == 2 && strings.EqualFold(f[0], m.Type) {
				want = f[1]
			}
		}
	}
	if want == "" && m.Legacy != "" {
		want = strings.TrimSpace(h.Get(m.Legacy))
	}
	switch want {
	case "":
		return m.Min, nil
	case "latest":
		return m.Max, nil
	}
	v, ok := parseVersion(want)
	if !ok {
		return m.Min, nacre.Errorf(nacre.Invalid, "InvalidAPIVersionString",
			"API Version String %s is of invalid format. Must be of format MajorNum.MinorNum.", want)
	}
	if v < m.Min || v > m.Max {
		return m.Min, nacre.Errorf(nacre.NotAcceptable, "InvalidGlobalAPIVersion",
			"Version %s is not supported by the API. Minimum is %s and maximum is %s.", v, m.Min, m.Max)
	}
	return v, nil
}

// announce writes the response headers.
func (m *Microversions) announce(h http.Header, v Version) {
	if m == nil {
		return
	}
	if v == 0 {
		v = m.Min
	}
	h.Set("OpenStack-API-Version", m.Type+" "+v.String())
	h.Add("Vary", "OpenStack-API-Version")
	if m.Legacy != "" {
		h.Set(m.Legacy, v.String())
		h.Add("Vary", m.Legacy)
	}
}
