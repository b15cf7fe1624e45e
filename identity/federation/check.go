package federation

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// checker holds rules to a mapping's schema, in the words of JSON schema.
type checker struct {
	wrong    []string
	projects bool // projects may have a domain (2.0)
	json     bool // projects_json is there (3.0)
}

// CheckMapping says what is wrong with a mapping's rules, sorted; nothing is right.
func CheckMapping(rules []any, version string) []string {
	c := &checker{}
	switch version {
	case "1.0":
	case "2.0":
		c.projects = true
	case "3.0":
		c.projects, c.json = true, true
	default:
		return []string{fmt.Sprintf("'%s' is not a schema version of mappings: one of '1.0', '2.0', '3.0'", version)}
	}
	if len(rules) == 0 {
		c.add("[] is too short")
	}
	for _, r := range rules {
		rule := c.object(r, []string{"local", "remote"}, "local", "remote")
		if rule == nil {
			continue
		}
		if list, ok := c.array(rule, "local"); ok {
			for _, l := range list {
				c.local(l)
			}
		}
		if list, ok := c.array(rule, "remote"); ok {
			if len(list) == 0 {
				c.add("[] is too short")
			}
			for _, q := range list {
				c.remote(q)
			}
		}
	}
	slices.Sort(c.wrong)
	return c.wrong
}

func checkProjects(list []any, domain bool) []string {
	c := &checker{projects: domain}
	c.projectList(list)
	return c.wrong
}

func (c *checker) add(format string, args ...any) {
	c.wrong = append(c.wrong, fmt.Sprintf(format, args...))
}

func show(x any) string {
	switch v := x.(type) {
	case string:
		return strings.TrimSuffix(strings.TrimPrefix(pyList([]string{v}), "["), "]")
	case nil:
		return "None"
	case bool:
		if v {
			return "True"
		}
		return "False"
	}
	b, err := json.Marshal(x)
	if err != nil {
		return fmt.Sprint(x)
	}
	return string(b)
}

// object checks an object's keys; required ones come last.
func (c *checker) object(x any, known []string, required ...string) map[string]any {
	m, ok := x.(map[string]any)
	if !ok {
		c.add("%s is not of type 'object'", show(x))
		return nil
	}
	for _, k := range required {
		if _, ok := m[k]; !ok {
			c.add("'%s' is a required property", k)
		}
	}
	var extra []string
	for k := range m {
		if !slices.Contains(known, k) {
			extra = append(extra, "'"+k+"'")
		}
	}
	if len(extra) > 0 {
		slices.Sort(extra)
		verb := "was"
		if len(extra) > 1 {
			verb = "were"
		}
		c.add("Additional properties are not allowed (%s %s unexpected)", strings.Join(extra, ", "), verb)
	}
	return m
}

func (c *checker) array(m map[string]any, key string) ([]any, bool) {
	x, ok := m[key]
	if !ok {
		return nil, false
	}
	list, ok := x.([]any)
	if !ok {
		c.add("%s is not of type 'array'", show(x))
	}
	return list, ok
}

func (c *checker) texts(m map[string]any, keys ...string) {
	for _, k := range keys {
		if x, ok := m[k]; ok {
			if _, ok := x.(string); !ok {
				c.add("%s is not of type 'string'", show(x))
			}
		}
	}
}

func (c *checker) domain(m map[string]any) {
	if x, ok := m["domain"]; ok {
		c.texts(c.object(x, []string{"id", "name"}), "id", "name")
	}
}

func (c *checker) local(x any) {
	known := []string{"user", "projects", "group", "groups", "group_ids", "domain"}
	if c.json {
		known = append(known, "projects_json")
	}
	m := c.object(x, known)
	c.texts(m, "groups", "group_ids", "projects_json")
	c.domain(m)
	if u, ok := m["user"]; ok {
		user := c.object(u, []string{"id", "name", "email", "domain", "type"})
		c.texts(user, "id", "name", "email", "type")
		c.domain(user)
		if kind, ok := user["type"].(string); ok && kind != "ephemeral" && kind != "local" {
			c.add("'%s' is not one of ['ephemeral', 'local']", kind)
		}
	}
	if g, ok := m["group"]; ok {
		c.group(g)
	}
	if _, ok := m["projects"].(string); ok && c.json {
		return
	}
	if list, ok := c.array(m, "projects"); ok {
		c.projectList(list)
	}
}

func (c *checker) group(x any) {
	byID, byName := &checker{}, &checker{}
	byID.texts(byID.object(x, []string{"id"}, "id"), "id")
	m := byName.object(x, []string{"name", "domain"}, "name", "domain")
	byName.texts(m, "name")
	byName.domain(m)
	if len(byID.wrong) > 0 && len(byName.wrong) > 0 {
		c.add("%s is not valid under any of the given schemas", show(x))
	}
}

func (c *checker) projectList(list []any) {
	known := []string{"name", "roles"}
	if c.projects {
		known = append(known, "domain")
	}
	for _, x := range list {
		p := c.object(x, known, "name", "roles")
		c.texts(p, "name")
		if c.projects {
			c.domain(p)
		}
		roles, _ := c.array(p, "roles")
		for _, r := range roles {
			c.texts(c.object(r, []string{"name"}, "name"), "name")
		}
	}
}

// remote checks a requirement, which is one of five forms.
func (c *checker) remote(x any) {
	m, ok := x.(map[string]any)
	if !ok {
		c.add("%s is not of type 'object'", show(x))
		return
	}
	for _, kind := range append([]string{""}, conditions...) {
		form := &checker{}
		if kind == "" {
			form.object(x, []string{"type"}, "type")
		} else {
			form.object(x, []string{"type", "regex", kind}, "type", kind)
			form.array(m, kind)
		}
		form.texts(m, "type")
		if re, ok := m["regex"]; ok {
			if _, ok := re.(bool); !ok {
				form.add("%s is not of type 'boolean'", show(re))
			}
		}
		if len(form.wrong) == 0 {
			return
		}
	}
	c.add("%s is not valid under any of the given schemas", show(x))
}
