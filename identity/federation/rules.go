package federation

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/nacre-cloud/nacre"
)

// Assertion is what is asserted of a user: the values of attributes by name.
type Assertion map[string][]string

// Split reads attributes in which several values are joined by ';', as web server
// modules hand them to Keystone.
func Split(attributes map[string]string) Assertion {
	a := Assertion{}
	for k, v := range attributes {
		a[k] = strings.Split(v, ";")
	}
	return a
}

// Get is the first value of an attribute, or "".
func (a Assertion) Get(name string) string {
	if v := a[name]; len(v) > 0 {
		return v[0]
	}
	return ""
}

// DomainRef names a domain by id or name.
type DomainRef struct{ ID, Name string }

// GroupRef names a group within a domain.
type GroupRef struct {
	Name   string
	Domain DomainRef
}

// ProjectRef is a project that a user gets roles on, by names.
type ProjectRef struct {
	Name string
	// Domain is nil for the identity provider's.
	Domain *DomainRef
	Roles  []string
}

// Mapped is what a mapping makes of an assertion.
type Mapped struct {
	// Local says that the user is one who is here already, not one of the
	// identity provider's.
	Local bool
	// UserID and UserName identify the user; at least one should be set.
	UserID, UserName, Email string
	// UserDomain is nil for the identity provider's.
	UserDomain *DomainRef
	GroupIDs   []string
	Groups     []GroupRef
	Projects   []ProjectRef
	// HasProjects says that the mapping speaks of projects at all.
	HasProjects bool
	// MappingID and SchemaVersion are the mapping's.
	MappingID, SchemaVersion string
}

// SyncsProjects says that roles on projects that Projects lacks are to be taken
// away, which is so from schema version 3.0 on.
func (m *Mapped) SyncsProjects() bool { return m.SchemaVersion >= "3.0" }

// errMapping is a mapping that fails on an assertion; why goes to the log.
func errMapping(id, why string, args ...any) error {
	return &nacre.Error{Kind: nacre.Unauthenticated, Code: "Unauthorized", Message: "The request you have made requires authentication.",
		Err: fmt.Errorf("mapping %s: "+why, append([]any{id}, args...)...)}
}

func errNothingMapped() error {
	return &nacre.Error{Kind: nacre.Unauthenticated, Code: "Unauthorized",
		Message: "Could not map any federated user properties to identity values. Check debug logs or the mapping used for additional details."}
}

// Evaluate applies a mapping to an assertion. An assertion that no rule fits, and
// a mapping that can't be applied, are Unauthenticated.
func (m *Mapping) Evaluate(a Assertion) (Mapped, error) {
	out := Mapped{MappingID: m.ID, SchemaVersion: m.SchemaVersion}
	if out.SchemaVersion == "" {
		out.SchemaVersion = DefaultSchemaVersion
	}
	var locals []map[string]any
	for _, rule := range m.Rules {
		r, _ := rule.(map[string]any)
		remote, _ := r["remote"].([]any)
		direct, ok, err := requirements(remote, a)
		if err != nil {
			return out, errMapping(m.ID, "%w", err)
		}
		if !ok {
			continue
		}
		list, _ := r["local"].([]any)
		for _, l := range list {
			filled, err := (&filler{direct: direct, json: out.SchemaVersion >= "3.0"}).fill("", l)
			if err != nil {
				return out, errMapping(m.ID, "%w", err)
			}
			if local, ok := filled.(map[string]any); ok {
				locals = append(locals, local)
			}
		}
	}
	if len(locals) == 0 {
		return out, errNothingMapped()
	}
	if err := out.take(locals); err != nil {
		return out, errMapping(m.ID, "%w", err)
	}
	return out, nil
}

// requirements says whether all hold, and gives the values for {0}, {1}, ….
func requirements(remote []any, values Assertion) (direct [][]string, ok bool, err error) {
	for _, q := range remote {
		req, _ := q.(map[string]any)
		have := values[text(req["type"])]
		if len(have) == 0 {
			return nil, false, nil
		}
		kind, list := condition(req)
		re, _ := req["regex"].(bool)
		hits, err := matching(list, have, re)
		if err != nil {
			return nil, false, err
		}
		switch kind {
		case "any_one_of", "not_any_of":
			if (len(hits) > 0) != (kind == "any_one_of") {
				return nil, false, nil
			}
			continue
		case "blacklist":
			have = slices.DeleteFunc(slices.Clone(have), func(v string) bool { return slices.Contains(hits, v) })
		case "whitelist":
			have = hits
		}
		direct = append(direct, have)
	}
	return direct, true, nil
}

var conditions = []string{"any_one_of", "not_any_of", "blacklist", "whitelist"}

// condition is what a requirement asks of the value, if anything.
func condition(req map[string]any) (string, []any) {
	for _, kind := range conditions {
		if list, ok := req[kind].([]any); ok {
			return kind, list
		}
	}
	return "", nil
}

// matching are the values that the list has, or that match one of its
// expressions anywhere.
func matching(list []any, have []string, re bool) ([]string, error) {
	hits := []string{}
	if !re {
		for _, v := range have {
			if slices.ContainsFunc(list, func(x any) bool { return x == v }) && !slices.Contains(hits, v) {
				hits = append(hits, v)
			}
		}
		return hits, nil
	}
	for _, x := range list {
		s, ok := x.(string)
		if !ok {
			return nil, fmt.Errorf("%v is no regular expression", x)
		}
		e, err := regexp.Compile(s)
		if err != nil {
			return nil, err
		}
		for _, v := range have {
			if e.MatchString(v) && !slices.Contains(hits, v) {
				hits = append(hits, v)
			}
		}
	}
	// In the assertion's order, whatever the expressions' is.
	return slices.DeleteFunc(slices.Clone(have), func(v string) bool { return !slices.Contains(hits, v) }), nil
}

// filler puts direct values in place of {0}, {1}, ….
type filler struct {
	direct [][]string
	// json lets projects and projects_json be a whole value that is JSON.
	json bool
}

func (f *filler) fill(key string, x any) (any, error) {
	switch v := x.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, e := range v {
			filled, err := f.fill(k, e)
			if err != nil {
				return nil, err
			}
			out[k] = filled
		}
		return out, nil
	case []any:
		out := make([]any, len(v))
		for i, e := range v {
			filled, err := f.fill("", e)
			if err != nil {
				return nil, err
			}
			out[i] = filled
		}
		return out, nil
	case string:
		if f.json && (key == "projects_json" || key == "projects") {
			return f.projects(v)
		}
		return f.format(v)
	}
	return x, nil
}

var index = regexp.MustCompile(`^\{?(\d+)\}?`)

// projects reads the value that a projects_json refers to.
func (f *filler) projects(s string) (any, error) {
	m := index.FindStringSubmatch(s)
	if m == nil {
		return nil, fmt.Errorf("%q does not refer to a value", s)
	}
	n, err := strconv.Atoi(m[1])
	if err != nil || n >= len(f.direct) {
		return nil, errNoMatch
	}
	var list []any
	if err := json.Unmarshal([]byte(strings.Join(f.direct[n], ";")), &list); err != nil {
		return nil, err
	}
	if wrong := checkProjects(list, true); len(wrong) > 0 {
		return nil, errors.New(strings.Join(wrong, "; "))
	}
	return list, nil
}

var errNoMatch = errors.New("the local section refers to a remote match that doesn't exist")

// format is Python's str.format with positions alone. A value that is several is
// written as Python writes a list, which groups and group_ids read again.
func (f *filler) format(s string) (string, error) {
	var b strings.Builder
	auto := 0
	for i := 0; i < len(s); {
		switch c := s[i]; {
		case c == '{' && strings.HasPrefix(s[i:], "{{"), c == '}' && strings.HasPrefix(s[i:], "}}"):
			b.WriteByte(c)
			i += 2
		case c == '{':
			end := strings.IndexByte(s[i:], '}')
			if end < 0 {
				return "", fmt.Errorf("%q has a brace without its other", s)
			}
			name := s[i+1 : i+end]
			n := auto
			if name == "" {
				auto++
			} else {
				var err error
				if n, err = strconv.Atoi(name); err != nil {
					return "", fmt.Errorf("%q is not the number of a remote match", name)
				}
			}
			if n < 0 || n >= len(f.direct) {
				return "", errNoMatch
			}
			if v := f.direct[n]; len(v) == 1 {
				b.WriteString(v[0])
			} else {
				b.WriteString(pyList(v))
			}
			i += end + 1
		case c == '}':
			return "", fmt.Errorf("%q has a brace without its other", s)
		default:
			b.WriteByte(c)
			i++
		}
	}
	return b.String(), nil
}

// take gathers what the local parts say. The first user counts.
func (m *Mapped) take(locals []map[string]any) error {
	var domain *DomainRef
	var user map[string]any
	for _, l := range locals {
		own := domainOf(l["domain"])
		if own != nil {
			domain = own
		}
		if u, ok := l["user"].(map[string]any); ok && user == nil {
			user = u
		}
		if g, ok := l["group"].(map[string]any); ok {
			if id := text(g["id"]); id != "" {
				m.addID(id)
			} else if d := domainOf(g["domain"]); d != nil && text(g["name"]) != "" {
				m.addGroup(GroupRef{text(g["name"]), *d})
			}
		}
		if g, ok := l["groups"].(string); ok {
			if err := m.takeGroups(g, own); err != nil {
				return err
			}
		}
		if g, ok := l["group_ids"].(string); ok {
			for _, id := range pyStrings(g) {
				m.addID(id)
			}
		}
		if err := m.takeProjects(l, own); err != nil {
			return err
		}
	}
	switch kind := text(user["type"]); kind {
	case "", "ephemeral":
	case "local":
		m.Local = true
	default:
		return fmt.Errorf("user type %s not supported", kind)
	}
	m.UserID, m.UserName, m.Email, m.UserDomain = text(user["id"]), text(user["name"]), text(user["email"]), domainOf(user["domain"])
	if m.UserDomain == nil && m.SchemaVersion >= "2.0" {
		m.UserDomain = domain
	}
	return nil
}

func (m *Mapped) addID(id string) {
	if !slices.Contains(m.GroupIDs, id) {
		m.GroupIDs = append(m.GroupIDs, id)
	}
}

func (m *Mapped) addGroup(g GroupRef) {
	if !slices.Contains(m.Groups, g) {
		m.Groups = append(m.Groups, g)
	}
}

// takeGroups reads "groups": names in the rule's domain, or objects with name and
// domain as text that begins with "JSON:", as another Keystone asserts them.
func (m *Mapped) takeGroups(list string, domain *DomainRef) error {
	if !strings.Contains(list, "name") || !strings.Contains(list, "JSON:") {
		if domain == nil {
			return errors.New("both 'groups' and 'domain' keywords must be specified")
		}
		for _, name := range pyStrings(list) {
			m.addGroup(GroupRef{name, *domain})
		}
		return nil
	}
	for _, s := range pyStrings(list) {
		var g struct {
			Name   string `json:"name"`
			Domain *struct {
				ID   string `json:"id"`
				Name string `json:"name"`
			} `json:"domain"`
		}
		if err := json.Unmarshal([]byte(strings.TrimPrefix(s, "JSON:")), &g); err != nil {
			return fmt.Errorf("a group is no JSON: %w", err)
		}
		if g.Name == "" || g.Domain == nil || g.Domain.ID+g.Domain.Name == "" {
			return errors.New("a group without name or domain")
		}
		m.addGroup(GroupRef{g.Name, DomainRef(*g.Domain)})
	}
	return nil
}

func (m *Mapped) takeProjects(l map[string]any, domain *DomainRef) error {
	_, plain := l["projects"]
	_, more := l["projects_json"]
	if !plain && !more {
		return nil
	}
	// The last local part that speaks of projects counts, as in Keystone.
	m.HasProjects, m.Projects = true, nil
	a, _ := l["projects"].([]any)
	b, _ := l["projects_json"].([]any)
	for _, x := range append(slices.Clone(a), b...) {
		p, _ := x.(map[string]any)
		ref := ProjectRef{Name: text(p["name"]), Domain: domainOf(p["domain"])}
		if ref.Name == "" {
			return errors.New("a project without a name")
		}
		if ref.Domain == nil && m.SchemaVersion >= "2.0" {
			ref.Domain = domain
		}
		roles, _ := p["roles"].([]any)
		for _, r := range roles {
			role, _ := r.(map[string]any)
			ref.Roles = append(ref.Roles, text(role["name"]))
		}
		m.Projects = append(m.Projects, ref)
	}
	return nil
}

func text(x any) string { s, _ := x.(string); return s }

func domainOf(x any) *DomainRef {
	m, _ := x.(map[string]any)
	d := DomainRef{text(m["id"]), text(m["name"])}
	if d == (DomainRef{}) {
		return nil
	}
	return &d
}
