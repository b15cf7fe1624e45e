package policy

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/nacre-cloud/nacre"
)

// check is a compiled expression. eval allocates nothing.
type check interface {
	eval(c *nacre.Caller, t nacre.Target) bool
	explain(w *strings.Builder, depth int, c *nacre.Caller, t nacre.Target)
}

type (
	constant bool
	allOf    []check
	anyOf    []check
	negation struct{ sub check }
	// ruleRef is a reference; body is filled in once all rules are compiled.
	ruleRef   struct{ rule *rule }
	roleCheck struct {
		text string
		name template
	}
	literalCheck struct {
		text, value string
		want        template
	}
	attrCheck struct {
		text string
		get  func(*nacre.Caller) string
		own  bool
		// null is ATTR:None, which asks whether the caller lacks the attribute.
		null bool
		want template
	}
	fieldCheck struct {
		text, name, value string
		re                *regexp.Regexp
	}
)

func (k constant) eval(*nacre.Caller, nacre.Target) bool { return bool(k) }

func (k allOf) eval(c *nacre.Caller, t nacre.Target) bool {
	for _, s := range k {
		if !s.eval(c, t) {
			return false
		}
	}
	return true
}

func (k anyOf) eval(c *nacre.Caller, t nacre.Target) bool {
	for _, s := range k {
		if s.eval(c, t) {
			return true
		}
	}
	return false
}

func (k negation) eval(c *nacre.Caller, t nacre.Target) bool { return !k.sub.eval(c, t) }
func (k ruleRef) eval(c *nacre.Caller, t nacre.Target) bool  { return k.rule.body.eval(c, t) }

func (k roleCheck) eval(c *nacre.Caller, t nacre.Target) bool {
	if len(k.name) == 1 && !k.name[0].attr && c.Service == "" {
		return c.HasRole(k.name[0].text)
	}
	for _, r := range c.Roles {
		if k.name.equal(r, t, true) {
			return true
		}
	}
	if c.Service != "" {
		for _, r := range serviceRoles {
			if k.name.equal(r, t, true) {
				return true
			}
		}
	}
	return false
}

// serviceRoles are what a service caller holds: admin with what it implies.
var serviceRoles = [...]string{"admin", "manager", "member", "reader", "service"}

func (k literalCheck) eval(_ *nacre.Caller, t nacre.Target) bool {
	return k.want.equal(k.value, t, false)
}

func (k attrCheck) eval(c *nacre.Caller, t nacre.Target) bool {
	if k.own && c.Service != "" && k.want.known(t) {
		return true
	}
	v := k.get(c)
	if v == "" {
		return k.null
	}
	return k.want.equal(v, t, false)
}

func (k fieldCheck) eval(_ *nacre.Caller, t nacre.Target) bool {
	if t == nil {
		return false
	}
	v, ok := t.Attr(k.name)
	switch {
	case !ok:
		return false
	case k.re != nil:
		return k.re.MatchString(v)
	}
	return strings.EqualFold(v, k.value)
}

// equal compares v with the template's text, part by part.
func (tm template) equal(v string, t nacre.Target, fold bool) bool {
	if len(tm) == 1 && !tm[0].attr && !fold {
		return v == tm[0].text
	}
	for _, p := range tm {
		s := p.text
		if p.attr {
			if t == nil {
				return false
			}
			var ok bool
			if s, ok = t.Attr(p.text); !ok {
				return false
			}
		}
		if len(v) < len(s) || v[:len(s)] != s && !(fold && strings.EqualFold(v[:len(s)], s)) {
			return false
		}
		v = v[len(s):]
	}
	return v == ""
}

// known reports whether the template names attributes and the target has them.
func (tm template) known(t nacre.Target) bool {
	named := false
	for _, p := range tm {
		if !p.attr {
			continue
		}
		if t == nil {
			return false
		}
		if _, ok := t.Attr(p.text); !ok {
			return false
		}
		named = true
	}
	return named
}

// ownership names the attributes by which a rule asks whose a thing is.
var ownership = map[string]bool{"project_id": true, "tenant_id": true, "user_id": true, "domain_id": true}

// attribute finds how a caller's attribute is read. An unknown one is never
// there: a policy file may name what only some callers have.
func attribute(kind string) (get func(*nacre.Caller) string, known bool) {
	if f, ok := attributes[strings.TrimPrefix(kind, "token.")]; ok {
		return f, true
	}
	return func(*nacre.Caller) string { return "" }, false
}

var attributes = map[string]func(*nacre.Caller) string{
	"user_id":             func(c *nacre.Caller) string { return c.UserID },
	"user":                func(c *nacre.Caller) string { return c.UserID },
	"user.id":             func(c *nacre.Caller) string { return c.UserID },
	"user_name":           func(c *nacre.Caller) string { return c.UserName },
	"user.name":           func(c *nacre.Caller) string { return c.UserName },
	"user_domain_id":      func(c *nacre.Caller) string { return c.UserDomainID },
	"user.domain.id":      func(c *nacre.Caller) string { return c.UserDomainID },
	"project_id":          func(c *nacre.Caller) string { return c.ProjectID },
	"tenant_id":           func(c *nacre.Caller) string { return c.ProjectID },
	"tenant":              func(c *nacre.Caller) string { return c.ProjectID },
	"project.id":          func(c *nacre.Caller) string { return c.ProjectID },
	"project_name":        func(c *nacre.Caller) string { return c.ProjectName },
	"project.name":        func(c *nacre.Caller) string { return c.ProjectName },
	"project_domain_id":   func(c *nacre.Caller) string { return c.ProjectDomainID },
	"project.domain.id":   func(c *nacre.Caller) string { return c.ProjectDomainID },
	"domain_id":           func(c *nacre.Caller) string { return c.DomainID },
	"domain.id":           func(c *nacre.Caller) string { return c.DomainID },
	"domain_name":         func(c *nacre.Caller) string { return c.DomainName },
	"domain.name":         func(c *nacre.Caller) string { return c.DomainName },
	"system_scope":        func(c *nacre.Caller) string { return c.System },
	"system.all":          func(c *nacre.Caller) string { return truth(c.System == "all") },
	"is_admin":            func(c *nacre.Caller) string { return truth(c.HasRole("admin")) },
	"is_admin_project":    func(c *nacre.Caller) string { return truth(c.AdminProject) },
	"service_user_id":     func(c *nacre.Caller) string { return c.Service },
	"service_roles":       func(c *nacre.Caller) string { return serviceRole(c) },
	"service_roles.admin": func(c *nacre.Caller) string { return truth(c.Service != "") },
}

func serviceRole(c *nacre.Caller) string {
	if c.Service == "" {
		return ""
	}
	return "service"
}

func truth(b bool) string {
	if b {
		return "True"
	}
	return "False"
}

func line(w *strings.Builder, depth int, ok bool, format string, args ...any) {
	mark := "no  "
	if ok {
		mark = "yes "
	}
	w.WriteString(strings.Repeat("  ", depth) + mark)
	fmt.Fprintf(w, format, args...)
	w.WriteByte('\n')
}

func (k constant) explain(w *strings.Builder, depth int, _ *nacre.Caller, _ nacre.Target) {
	line(w, depth, bool(k), "always")
}

func (k allOf) explain(w *strings.Builder, depth int, c *nacre.Caller, t nacre.Target) {
	line(w, depth, k.eval(c, t), "all of")
	for _, s := range k {
		s.explain(w, depth+1, c, t)
	}
}

func (k anyOf) explain(w *strings.Builder, depth int, c *nacre.Caller, t nacre.Target) {
	line(w, depth, k.eval(c, t), "any of")
	for _, s := range k {
		s.explain(w, depth+1, c, t)
	}
}

func (k negation) explain(w *strings.Builder, depth int, c *nacre.Caller, t nacre.Target) {
	line(w, depth, k.eval(c, t), "not")
	k.sub.explain(w, depth+1, c, t)
}

func (k ruleRef) explain(w *strings.Builder, depth int, c *nacre.Caller, t nacre.Target) {
	line(w, depth, k.eval(c, t), "rule:%s", k.rule.name)
	k.rule.body.explain(w, depth+1, c, t)
}

func (k roleCheck) explain(w *strings.Builder, depth int, c *nacre.Caller, t nacre.Target) {
	line(w, depth, k.eval(c, t), "%s (the caller holds: %s)", k.text, strings.Join(c.Roles, ", "))
}

func (k literalCheck) explain(w *strings.Builder, depth int, c *nacre.Caller, t nacre.Target) {
	line(w, depth, k.eval(c, t), "%s (the target: %s)", k.text, k.want.show(t))
}

func (k attrCheck) explain(w *strings.Builder, depth int, c *nacre.Caller, t nacre.Target) {
	line(w, depth, k.eval(c, t), "%s (the caller: %q, the target: %s)", k.text, k.get(c), k.want.show(t))
}

func (k fieldCheck) explain(w *strings.Builder, depth int, c *nacre.Caller, t nacre.Target) {
	line(w, depth, k.eval(c, t), "%s (the target: %s)", k.text, template{{text: k.name, attr: true}}.show(t))
}

// show is the template with the target's values in it.
func (tm template) show(t nacre.Target) string {
	var b strings.Builder
	for _, p := range tm {
		if !p.attr {
			b.WriteString(p.text)
			continue
		}
		if t != nil {
			if v, ok := t.Attr(p.text); ok {
				b.WriteString(v)
				continue
			}
		}
		b.WriteString("<no " + p.text + ">")
	}
	return fmt.Sprintf("%q", b.String())
}
