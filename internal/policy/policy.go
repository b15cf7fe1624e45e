package policy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/nacre-cloud/nacre"
)

// Config says which rules hold. Its zero value has none.
type Config struct {
	// Area names the owner of the rules, for messages and logs.
	Area string
	// Rules are the area's defaults.
	Rules []nacre.Rule
	// Overrides is the text of a policy.yaml; nil is none.
	Overrides []byte
	// File is the path of a policy.yaml that is read again when it changes; a
	// file that is not there is an empty one. Overrides go before it.
	File string
	// EnforceScope refuses a caller whose scope a rule's scope types exclude.
	EnforceScope bool
	// EnforceNewDefaults does not honour the defaults that a rule had of old.
	EnforceNewDefaults bool
	// Denied words a refusal; nil is oslo.policy's own wording.
	Denied func(rule string) string
	// Log hears of a File that does not compile; nil is slog.Default.
	Log *slog.Logger
}

// Policy decides by compiled rules. It is safe for concurrent use.
type Policy struct {
	cfg   Config
	rules atomic.Pointer[map[string]*rule]

	looked atomic.Int64 // when File was last looked at, in nanoseconds
	stamp  atomic.Pointer[fileStamp]
}

type fileStamp struct {
	mod  time.Time
	size int64
}

// rule is a compiled rule.
type rule struct {
	name   string
	text   string
	scopes []string
	body   check
}

// Map is a target of named values.
type Map map[string]string

// Attr is the value of that name.
func (m Map) Attr(name string) (string, bool) {
	v, ok := m[name]
	return v, ok
}

// With is the configuration as an operator adjusts it.
func (c Config) With(o nacre.PolicyOptions) Config {
	c.File = o.File
	if o.EnforceScope != nil {
		c.EnforceScope = *o.EnforceScope
	}
	if o.EnforceNewDefaults != nil {
		c.EnforceNewDefaults = *o.EnforceNewDefaults
	}
	return c
}

var _ nacre.Enforcer = (*Policy)(nil)

// New compiles the rules. A rule that does not parse, that refers to one that is
// not there, or that refers to itself is an error.
func New(cfg Config) (*Policy, error) {
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if cfg.Denied == nil {
		cfg.Denied = func(rule string) string { return rule + " is disallowed by policy" }
	}
	p := &Policy{cfg: cfg}
	p.looked.Store(time.Now().UnixNano())
	return p, p.load()
}

// load reads the file and compiles everything anew.
func (p *Policy) load() error {
	over, err := readOverrides(p.cfg.Overrides)
	if err != nil {
		return fmt.Errorf("policy: %s: %w", p.cfg.Area, err)
	}
	stamp := &fileStamp{}
	if p.cfg.File != "" {
		if info, err := os.Stat(p.cfg.File); err == nil {
			stamp = &fileStamp{info.ModTime(), info.Size()}
		}
		text, err := os.ReadFile(p.cfg.File)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("policy: %s: %w", p.cfg.Area, err)
		}
		more, err := readOverrides(text)
		if err != nil {
			return fmt.Errorf("policy: %s: %s: %w", p.cfg.Area, p.cfg.File, err)
		}
		for name, text := range more {
			if _, ok := over[name]; !ok {
				over[name] = text
			}
		}
	}
	rules, err := compile(p.cfg, over)
	if err != nil {
		return fmt.Errorf("policy: %s: %w", p.cfg.Area, err)
	}
	p.rules.Store(&rules)
	p.stamp.Store(stamp)
	return nil
}

// readOverrides reads a policy file: names and rules, each text or the list form.
func readOverrides(text []byte) (map[string]string, error) {
	var raw map[string]any
	if err := yaml.Unmarshal(text, &raw); err != nil {
		return nil, err
	}
	out := make(map[string]string, len(raw))
	for name, v := range raw {
		switch x := v.(type) {
		case nil:
			out[name] = ""
		case string:
			out[name] = x
		case []any:
			s, err := listForm(x)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			out[name] = s
		default:
			return nil, fmt.Errorf("%s: %v is no rule", name, v)
		}
	}
	return out, nil
}

// listForm writes the older form, an or of ands, as text.
func listForm(list []any) (string, error) {
	var ors []string
	for _, inner := range list {
		switch x := inner.(type) {
		case string:
			if x != "" {
				ors = append(ors, x)
			}
		case []any:
			var ands []string
			for _, c := range x {
				s, ok := c.(string)
				if !ok {
					return "", fmt.Errorf("%v is no check", c)
				}
				ands = append(ands, s)
			}
			if len(ands) > 0 {
				ors = append(ors, "("+strings.Join(ands, " and ")+")")
			}
		default:
			return "", fmt.Errorf("%v is no check", inner)
		}
	}
	if len(list) > 0 && len(ors) == 0 {
		return "!", nil
	}
	return strings.Join(ors, " or "), nil
}

func compile(cfg Config, over map[string]string) (map[string]*rule, error) {
	rules := map[string]*rule{}
	old := map[string]string{}
	for _, d := range cfg.Rules {
		if rules[d.Name] != nil {
			return nil, fmt.Errorf("rule %q twice", d.Name)
		}
		r := &rule{name: d.Name, text: d.Check, scopes: d.Scopes}
		rules[d.Name] = r
		text, ok := over[d.Name]
		if ok {
			r.text = text
			continue
		}
		was := d.DeprecatedName != "" && d.DeprecatedName != d.Name
		if was {
			if text, ok = over[d.DeprecatedName]; ok && strings.TrimSpace(text) != "rule:"+d.Name {
				r.text = text
				continue
			}
		}
		if d.DeprecatedCheck != "" && d.DeprecatedCheck != d.Check && !cfg.EnforceNewDefaults {
			r.text = "(" + d.Check + ") or (" + d.DeprecatedCheck + ")"
			if strings.TrimSpace(d.Check) == "" {
				r.text = ""
			}
		}
		if was {
			old[d.DeprecatedName] = d.DeprecatedCheck
		}
	}
	for name, text := range over {
		if rules[name] == nil {
			rules[name] = &rule{name: name, text: text}
		}
	}
	// A former name can still be referred to.
	for name, text := range old {
		if rules[name] == nil {
			rules[name] = &rule{name: name, text: text}
		}
	}
	uses := map[string][]string{}
	for _, name := range slices.Sorted(maps.Keys(rules)) {
		r := rules[name]
		body, err := parse(r.text, func(ref string) (check, error) {
			to := rules[ref]
			if to == nil {
				return nil, fmt.Errorf("there is no rule %q", ref)
			}
			uses[name] = append(uses[name], ref)
			return ruleRef{to}, nil
		})
		if err != nil {
			return nil, fmt.Errorf("rule %q: %w", name, err)
		}
		r.body = body
	}
	return rules, acyclic(uses)
}

// acyclic finds a rule that refers to itself.
func acyclic(uses map[string][]string) error {
	const open, done = 1, 2
	state := map[string]int{}
	var visit func(name string) error
	visit = func(name string) error {
		switch state[name] {
		case open:
			return fmt.Errorf("rule %q refers to itself", name)
		case done:
			return nil
		}
		state[name] = open
		for _, ref := range uses[name] {
			if err := visit(ref); err != nil {
				return err
			}
		}
		state[name] = done
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(uses)) {
		if err := visit(name); err != nil {
			return err
		}
	}
	return nil
}

// find is the compiled rule, after a look at the file once a second.
func (p *Policy) find(name string) *rule {
	if p.cfg.File != "" {
		p.reload()
	}
	return (*p.rules.Load())[name]
}

func (p *Policy) reload() {
	now, last := time.Now().UnixNano(), p.looked.Load()
	if now-last < int64(time.Second) && now >= last || !p.looked.CompareAndSwap(last, now) {
		return
	}
	cur := fileStamp{}
	if info, err := os.Stat(p.cfg.File); err == nil {
		cur = fileStamp{info.ModTime(), info.Size()}
	}
	if cur == *p.stamp.Load() {
		return
	}
	if err := p.load(); err != nil {
		p.stamp.Store(&cur)
		p.cfg.Log.Error("the policy file does not compile; the rules before it stay", "area", p.cfg.Area, "file", p.cfg.File, "err", err)
	}
}

// Has reports whether there is a rule of that name.
func (p *Policy) Has(name string) bool { return p.find(name) != nil }

// Enforce returns nil when the context's caller passes the rule. Else it is an
// *nacre.Error: Unauthenticated without a caller, Forbidden in the words of
// Config.Denied. A rule that is not registered is a fault of the program: an
// Internal error.
func (p *Policy) Enforce(ctx context.Context, name string, target nacre.Target) error {
	c := nacre.CallerFrom(ctx)
	if c == nil {
		return &nacre.Error{Kind: nacre.Unauthenticated, Message: "The request you have made requires authentication."}
	}
	r := p.find(name)
	if r == nil {
		return fmt.Errorf("policy: %s has no rule %q", p.cfg.Area, name)
	}
	if p.inScope(r, c) && r.body.eval(c, target) {
		return nil
	}
	return &nacre.Error{Kind: nacre.Forbidden, Code: name, Message: p.cfg.Denied(name)}
}

// Allowed reports whether the context's caller passes the rule, for filters and
// attributes that are shown to some only. Nobody passes a rule that is not there.
func (p *Policy) Allowed(ctx context.Context, name string, target nacre.Target) bool {
	c := nacre.CallerFrom(ctx)
	if c == nil {
		return false
	}
	r := p.find(name)
	return r != nil && p.inScope(r, c) && r.body.eval(c, target)
}

func (p *Policy) inScope(r *rule, c *nacre.Caller) bool {
	return !p.cfg.EnforceScope || len(r.scopes) == 0 || c.Service != "" || slices.Contains(r.scopes, scopeOf(c))
}

// scopeOf names a caller's scope as oslo.policy does: an unscoped token counts
// as a project's.
func scopeOf(c *nacre.Caller) string {
	switch {
	case c.System != "":
		return "system"
	case c.DomainID != "":
		return "domain"
	}
	return "project"
}

// Explain says, for an operator to read, whether the context's caller passes the
// rule, and what each of its checks answered.
func (p *Policy) Explain(ctx context.Context, name string, target nacre.Target) string {
	c, r := nacre.CallerFrom(ctx), p.find(name)
	switch {
	case r == nil:
		return fmt.Sprintf("no  %s: there is no such rule\n", name)
	case c == nil:
		return fmt.Sprintf("no  %s: nobody is authenticated\n", name)
	}
	var w strings.Builder
	scoped := p.inScope(r, c)
	line(&w, 0, scoped && r.body.eval(c, target), "%s: %q", name, r.text)
	if len(r.scopes) > 0 {
		line(&w, 1, scoped, "scope %s (the rule is for: %s)", scopeOf(c), strings.Join(r.scopes, ", "))
	}
	r.body.explain(&w, 1, c, target)
	return w.String()
}
