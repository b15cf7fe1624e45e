package rest

import (
	"encoding/base64"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"
)

// rules are a field's valid options.
type rules struct {
	required, null, lax bool
	min, max            *float64
	enum                []string
	pattern             *regexp.Regexp
	format              string
}

// items are the rules for the elements of a list or map: everything but its own size.
func (r rules) items() rules {
	return rules{null: r.null, lax: r.lax, enum: r.enum, pattern: r.pattern, format: r.format}
}

type planField struct {
	name         string
	index        []int
	since, until Version
	omit         bool
	rules        rules
	key          []byte // `"name":`
}

type plan struct {
	fields    []planField
	byName    map[string]*planField
	extra     []int
	versioned bool
}

var plans sync.Map

// planOf parses a struct type's tags, once. Types that hold others are checked
// down to the leaves, so that a wrong tag panics at start.
func planOf(t reflect.Type) *plan {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice || t.Kind() == reflect.Map {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct {
		return nil
	}
	if p, ok := plans.Load(t); ok {
		return p.(*plan)
	}
	p := &plan{byName: map[string]*planField{}}
	p.walk(t, nil)
	for i := range p.fields {
		p.byName[p.fields[i].name] = &p.fields[i]
	}
	got, _ := plans.LoadOrStore(t, p)
	return got.(*plan)
}

func (p *plan) walk(t reflect.Type, index []int) {
	for i := range t.NumField() {
		f := t.Field(i)
		ix := append(slices.Clone(index), i)
		tag := f.Tag.Get("json")
		name, opts, _ := strings.Cut(tag, ",")
		if f.Anonymous && name == "" {
			// An embedded pointer is a part that may be missing as a whole.
			in := f.Type
			if in.Kind() == reflect.Pointer {
				in = in.Elem()
			}
			if in.Kind() == reflect.Struct {
				p.walk(in, ix)
				continue
			}
		}
		if f.Tag.Get("extra") != "" {
			p.extra = ix
			continue
		}
		if name == "-" || !f.IsExported() {
			continue
		}
		if name == "" {
			name = f.Name
		}
		pf := planField{name: name, index: ix, since: V(f.Tag.Get("since")), until: V(f.Tag.Get("until")), omit: strings.Contains(opts, "omitempty") || strings.Contains(opts, "omitzero")}
		pf.rules = parseRules(t, f)
		pf.key = append(appendString(nil, name), ':')
		p.versioned = p.versioned || pf.since != 0 || pf.until != 0
		// A name may stand twice, in ranges that part.
		p.fields = append(p.fields, pf)
	}
}

func parseRules(t reflect.Type, f reflect.StructField) (r rules) {
	tag := f.Tag.Get("valid")
	for tag != "" {
		var opt string
		if strings.HasPrefix(tag, "pattern=") {
			opt, tag = tag, ""
		} else {
			opt, tag, _ = strings.Cut(tag, ",")
		}
		key, val, _ := strings.Cut(opt, "=")
		switch key {
		case "required":
			r.required = true
		case "null":
			r.null = true
		case "lax":
			r.lax = true
		case "min", "max":
			n, err := strconv.ParseFloat(val, 64)
			if err != nil {
				panic(fmt.Sprintf("rest: %s.%s: %s", t, f.Name, opt))
			}
			if key == "min" {
				r.min = &n
			} else {
				r.max = &n
			}
		case "enum":
			r.enum = strings.Split(val, "|")
		case "pattern":
			r.pattern = regexp.MustCompile(val)
		case "format":
			if !slices.Contains([]string{"uuid", "uri", "hex", "cidr", "ip", "mac", "base64"}, val) {
				panic(fmt.Sprintf("rest: %s.%s: %s", t, f.Name, opt))
			}
			r.format = val
		default:
			panic(fmt.Sprintf("rest: %s.%s: unknown option %q", t, f.Name, opt))
		}
	}
	return r
}

func (r rules) checkText(path []string, s string) *FieldError {
	if fe := r.checkLen(path, s, utf8.RuneCountInString(s), "is too short", "is too long"); fe != nil {
		return fe
	}
	if r.enum != nil && !slices.Contains(r.enum, s) {
		quoted := make([]string, len(r.enum))
		for i, e := range r.enum {
			quoted[i] = "'" + e + "'"
		}
		return &FieldError{Path: path, Value: s, Problem: OutOfRange, Message: fmt.Sprintf("%s is not one of [%s]", PyRepr(s), strings.Join(quoted, ", "))}
	}
	if r.pattern != nil && !r.pattern.MatchString(s) {
		return &FieldError{Path: path, Value: s, Problem: BadFormat, Message: fmt.Sprintf("%s does not match '%s'", PyRepr(s), r.pattern)}
	}
	if r.format != "" && !formatOK(r.format, s) {
		return &FieldError{Path: path, Value: s, Problem: BadFormat, Message: fmt.Sprintf("%s is not a '%s'", PyRepr(s), r.format)}
	}
	return nil
}

var uuidRE = regexp.MustCompile(`^[0-9a-fA-F]{8}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{12}$`)

func formatOK(format, s string) bool {
	switch format {
	case "uuid":
		return uuidRE.MatchString(s)
	case "uri":
		u, err := url.Parse(s)
		return err == nil && u.Scheme != "" && (u.Host != "" || u.Opaque != "")
	case "hex":
		for _, c := range s {
			if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
				return false
			}
		}
	case "cidr":
		_, err := netip.ParsePrefix(s)
		return err == nil
	case "ip":
		_, err := netip.ParseAddr(s)
		return err == nil
	case "mac":
		m, err := net.ParseMAC(s)
		return err == nil && len(m) == 6
	case "base64":
		_, err := base64.StdEncoding.DecodeString(s)
		return err == nil
	}
	return true
}

func (r rules) checkLen(path []string, v any, n int, short, long string) *FieldError {
	if r.min != nil && float64(n) < *r.min {
		return &FieldError{Path: path, Value: v, Problem: OutOfRange, Message: PyRepr(v) + " " + short}
	}
	if r.max != nil && float64(n) > *r.max {
		return &FieldError{Path: path, Value: v, Problem: OutOfRange, Message: PyRepr(v) + " " + long}
	}
	return nil
}

func (r rules) checkNumber(path []string, v any, n float64) *FieldError {
	if r.min != nil && n < *r.min {
		return &FieldError{Path: path, Value: v, Problem: OutOfRange, Message: fmt.Sprintf("%s is less than the minimum of %v", PyRepr(v), *r.min)}
	}
	if r.max != nil && n > *r.max {
		return &FieldError{Path: path, Value: v, Problem: OutOfRange, Message: fmt.Sprintf("%s is greater than the maximum of %v", PyRepr(v), int64(*r.max))}
	}
	return nil
}
