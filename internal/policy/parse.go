package policy

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// parser reads one rule. Names of other rules are resolved by ref.
type parser struct {
	toks []string
	ref  func(name string) (check, error)
}

// parse compiles a rule's text.
func parse(text string, ref func(string) (check, error)) (check, error) {
	p := &parser{toks: tokenize(text), ref: ref}
	if len(p.toks) == 0 {
		return constant(true), nil
	}
	c, err := p.or()
	if err != nil {
		return nil, fmt.Errorf("%q: %w", text, err)
	}
	if len(p.toks) > 0 {
		return nil, fmt.Errorf("%q: unexpected %q", text, p.toks[0])
	}
	return c, nil
}

// tokenize splits at white space and takes parentheses off the words' ends, so
// that those inside %(name)s stay.
func tokenize(text string) []string {
	var toks []string
	for word := range strings.FieldsSeq(text) {
		clean := strings.TrimLeft(word, "(")
		for range len(word) - len(clean) {
			toks = append(toks, "(")
		}
		body := strings.TrimRight(clean, ")")
		if body != "" {
			toks = append(toks, body)
		}
		for range len(clean) - len(body) {
			toks = append(toks, ")")
		}
	}
	return toks
}

func (p *parser) peek() string {
	if len(p.toks) == 0 {
		return ""
	}
	return p.toks[0]
}

func (p *parser) next() string {
	t := p.peek()
	if t != "" {
		p.toks = p.toks[1:]
	}
	return t
}

func (p *parser) or() (check, error) {
	return p.chain("or", p.and, func(cs []check) check { return anyOf(cs) })
}

func (p *parser) and() (check, error) {
	return p.chain("and", p.not, func(cs []check) check { return allOf(cs) })
}

func (p *parser) chain(op string, sub func() (check, error), join func([]check) check) (check, error) {
	var cs []check
	for {
		c, err := sub()
		if err != nil {
			return nil, err
		}
		cs = append(cs, c)
		if !strings.EqualFold(p.peek(), op) {
			break
		}
		p.next()
	}
	if len(cs) == 1 {
		return cs[0], nil
	}
	return join(cs), nil
}

func (p *parser) not() (check, error) {
	switch t := p.next(); {
	case t == "":
		return nil, fmt.Errorf("it ends too early")
	case strings.EqualFold(t, "not"):
		c, err := p.not()
		return negation{c}, err
	case t == "(":
		c, err := p.or()
		if err == nil && p.next() != ")" {
			err = fmt.Errorf("a parenthesis is not closed")
		}
		return c, err
	case t == ")" || strings.EqualFold(t, "and") || strings.EqualFold(t, "or"):
		return nil, fmt.Errorf("unexpected %q", t)
	default:
		return p.check(t)
	}
}

func (p *parser) check(t string) (check, error) {
	switch t {
	case "@":
		return constant(true), nil
	case "!":
		return constant(false), nil
	}
	kind, match, ok := strings.Cut(t, ":")
	if !ok || kind == "" {
		return nil, fmt.Errorf("%q is no check", t)
	}
	switch kind {
	case "rule":
		return p.ref(match)
	case "http", "https":
		return nil, fmt.Errorf("%q: checks by a remote server are not served", t)
	case "field":
		return parseField(t, match)
	}
	tmpl, err := parseTemplate(match)
	if err != nil {
		return nil, fmt.Errorf("%q: %w", t, err)
	}
	if kind == "role" {
		return roleCheck{text: t, name: tmpl}, nil
	}
	if v, ok := literal(kind); ok {
		return literalCheck{text: t, value: v, want: tmpl}, nil
	}
	get, known := attribute(kind)
	return attrCheck{text: t, get: get, own: ownership[kind], null: known && match == "None", want: tmpl}, nil
}

// literal reads a Python literal as it prints: a quoted string, a number, True,
// False or None.
func literal(s string) (string, bool) {
	switch s {
	case "True", "False", "None":
		return s, true
	}
	if n := len(s); n >= 2 && (s[0] == '\'' || s[0] == '"') && s[n-1] == s[0] {
		return s[1 : n-1], true
	}
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return strconv.FormatInt(n, 10), true
	}
	return "", false
}

// template is text with the target's attributes in it.
type template []part

type part struct {
	text string
	attr bool
}

func parseTemplate(s string) (template, error) {
	var t template
	for s != "" {
		i := strings.IndexByte(s, '%')
		if i < 0 {
			return append(t, part{text: s}), nil
		}
		if i > 0 {
			t = append(t, part{text: s[:i]})
		}
		s = s[i+1:]
		if strings.HasPrefix(s, "%") {
			t, s = append(t, part{text: "%"}), s[1:]
			continue
		}
		end := strings.Index(s, ")s")
		if !strings.HasPrefix(s, "(") || end < 0 {
			return nil, fmt.Errorf("a %% is followed by neither (name)s nor %%")
		}
		t = append(t, part{text: s[1:end], attr: true})
		s = s[end+2:]
	}
	return t, nil
}

func parseField(t, match string) (check, error) {
	res, rest, ok := strings.Cut(match, ":")
	name, value, ok2 := strings.Cut(rest, "=")
	if !ok || !ok2 || res == "" || name == "" {
		return nil, fmt.Errorf("%q: want field:RESOURCE:NAME=VALUE", t)
	}
	f := fieldCheck{text: t, name: name, value: value}
	if expr, ok := strings.CutPrefix(value, "~"); ok {
		re, err := regexp.Compile("^(?:" + expr + ")")
		if err != nil {
			return nil, fmt.Errorf("%q: %w", t, err)
		}
		f.re = re
	}
	return f, nil
}
