package rest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Opt is a body field that may be absent, null or set.
type Opt[T any] struct {
	// Set says that the field was there; Null that it was null.
	Set, Null bool
	Value     T
}

// Ptr is nil when the field was absent, else the value (the zero value for null).
func (o Opt[T]) Ptr() *T {
	if !o.Set {
		return nil
	}
	return &o.Value
}

func (o *Opt[T]) optional(null bool) reflect.Value {
	o.Set, o.Null = true, null
	return reflect.ValueOf(&o.Value).Elem()
}

type optional interface {
	optional(null bool) reflect.Value
}

// FieldError says what is wrong with a body, for a dialect to put into words.
type FieldError struct {
	// Path leads to the value: names and list positions.
	Path []string
	// Value is what was there, as decoded JSON.
	Value any
	// Problem is the kind of mistake.
	Problem Problem
	// Message is JSON schema's own wording ("'x' is a required property").
	Message string
	// Names are the fields that are unknown or missing.
	Names []string
}

// Problem is a kind of mistake in a body.
type Problem uint8

// The problems.
const (
	WrongType Problem = iota
	Missing
	Extra
	OutOfRange
	BadFormat
)

type decoder struct {
	version Version
	unknown Unknown
	lax     bool
}

func (d *decoder) wrong(path []string, v any, want string) *FieldError {
	return &FieldError{Path: path, Value: v, Problem: WrongType, Message: fmt.Sprintf("%s is not of type '%s'", PyRepr(v), want)}
}

// assign puts a decoded JSON value into a Go value.
func (d *decoder) assign(x any, v reflect.Value, path []string, rl rules) *FieldError {
	if v.CanAddr() {
		if o, ok := v.Addr().Interface().(optional); ok {
			in := o.optional(x == nil)
			if x == nil {
				if rl.null {
					return nil
				}
				return d.wrong(path, x, typeName(in.Type()))
			}
			return d.assign(x, in, path, rl)
		}
	}
	if x == nil {
		if rl.null || v.Kind() == reflect.Interface || v.Type() == rawType {
			return nil
		}
		return d.wrong(path, x, typeName(v.Type()))
	}
	if v.Kind() == reflect.Pointer {
		v.Set(reflect.New(v.Type().Elem()))
		return d.assign(x, v.Elem(), path, rl)
	}
	if v.Type() == rawType {
		b, _ := json.Marshal(x)
		v.Set(reflect.ValueOf(json.RawMessage(b)))
		return nil
	}
	if v.Type() == timeType {
		s, _ := x.(string)
		t, err := ParseTime(s)
		if err != nil {
			return &FieldError{Path: path, Value: x, Problem: BadFormat, Message: fmt.Sprintf("%s is not a 'date-time'", PyRepr(x))}
		}
		v.Set(reflect.ValueOf(t))
		return nil
	}
	if u, ok := v.Addr().Interface().(json.Unmarshaler); ok {
		b, _ := json.Marshal(x)
		if err := u.UnmarshalJSON(b); err != nil {
			return &FieldError{Path: path, Value: x, Problem: WrongType, Message: err.Error()}
		}
		return nil
	}
	return d.assignKind(x, v, path, rl)
}

var (
	rawType  = reflect.TypeFor[json.RawMessage]()
	timeType = reflect.TypeFor[time.Time]()
)

func (d *decoder) assignKind(x any, v reflect.Value, path []string, rl rules) *FieldError {
	switch v.Kind() {
	case reflect.Interface:
		v.Set(reflect.ValueOf(plain(x)))
		return nil
	case reflect.String:
		s, ok := x.(string)
		if n, isNum := x.(json.Number); isNum && rl.lax && !ok {
			s, ok = n.String(), true
		}
		if !ok {
			return d.wrong(path, x, "string")
		}
		v.SetString(s)
		return rl.checkText(path, s)
	case reflect.Bool:
		b, ok := x.(bool)
		if !ok && (rl.lax || d.lax) {
			b, ok = laxBool(x)
		}
		if !ok {
			return d.wrong(path, x, "boolean")
		}
		v.SetBool(b)
		return nil
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		n, ok := number(x, rl.lax || d.lax)
		if !ok || v.OverflowInt(n) {
			return d.wrong(path, x, "integer")
		}
		v.SetInt(n)
		return rl.checkNumber(path, x, float64(n))
	case reflect.Float32, reflect.Float64:
		n, ok := x.(json.Number)
		f, err := strconv.ParseFloat(string(n), 64)
		if s, isText := x.(string); isText && (rl.lax || d.lax) {
			f, err = strconv.ParseFloat(s, 64)
			ok = true
		}
		if !ok || err != nil || math.IsInf(f, 0) || math.IsNaN(f) {
			return d.wrong(path, x, "number")
		}
		v.SetFloat(f)
		return rl.checkNumber(path, x, f)
	case reflect.Slice:
		list, ok := x.([]any)
		if !ok {
			return d.wrong(path, x, "array")
		}
		if fe := rl.checkLen(path, x, len(list), "is too short", "is too long"); fe != nil {
			return fe
		}
		s := reflect.MakeSlice(v.Type(), len(list), len(list))
		for i, item := range list {
			if fe := d.assign(item, s.Index(i), append(slices.Clone(path), strconv.Itoa(i)), rl.items()); fe != nil {
				return fe
			}
		}
		v.Set(s)
		return nil
	case reflect.Map:
		return d.assignMap(x, v, path, rl)
	case reflect.Struct:
		m, ok := x.(map[string]any)
		if !ok {
			return d.wrong(path, x, "object")
		}
		return d.assignStruct(m, v, path)
	}
	return &FieldError{Path: path, Value: x, Problem: WrongType, Message: "unsupported type " + v.Type().String()}
}

func (d *decoder) assignMap(x any, v reflect.Value, path []string, rl rules) *FieldError {
	m, ok := x.(map[string]any)
	if !ok {
		return d.wrong(path, x, "object")
	}
	if fe := rl.checkLen(path, x, len(m), "does not have enough properties", "has too many properties"); fe != nil {
		return fe
	}
	out := reflect.MakeMapWithSize(v.Type(), len(m))
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		e := reflect.New(v.Type().Elem()).Elem()
		if fe := d.assign(m[k], e, append(slices.Clone(path), k), rl.items()); fe != nil {
			return fe
		}
		out.SetMapIndex(reflect.ValueOf(k).Convert(v.Type().Key()), e)
	}
	v.Set(out)
	return nil
}

func (d *decoder) assignStruct(m map[string]any, v reflect.Value, path []string) *FieldError {
	p := planOf(v.Type())
	used := 0
	for i := range p.fields {
		f := &p.fields[i]
		if !d.version.in(f.since, f.until) {
			continue
		}
		x, ok := m[f.name]
		if !ok {
			if f.rules.required {
				return &FieldError{Path: path, Value: m, Problem: Missing, Names: []string{f.name}, Message: fmt.Sprintf("'%s' is a required property", f.name)}
			}
			continue
		}
		used++
		if fe := d.assign(x, v.FieldByIndex(f.index), append(slices.Clone(path), f.name), f.rules); fe != nil {
			return fe
		}
	}
	if used == len(m) {
		return nil
	}
	var extra []string
	for k := range m {
		if f := p.byName[k]; f == nil || !d.version.in(f.since, f.until) {
			extra = append(extra, k)
		}
	}
	slices.Sort(extra)
	if p.extra != nil {
		kept := make(map[string]any, len(extra))
		for _, k := range extra {
			kept[k] = plain(m[k])
		}
		v.FieldByIndex(p.extra).Set(reflect.ValueOf(kept))
		return nil
	}
	if d.unknown != Reject {
		return nil
	}
	quoted := make([]string, len(extra))
	for i, k := range extra {
		quoted[i] = "'" + k + "'"
	}
	verb := "was"
	if len(extra) > 1 {
		verb = "were"
	}
	return &FieldError{Path: path, Value: m, Problem: Extra, Names: extra,
		Message: fmt.Sprintf("Additional properties are not allowed (%s %s unexpected)", strings.Join(quoted, ", "), verb)}
}

func number(x any, lax bool) (int64, bool) {
	s := ""
	switch y := x.(type) {
	case json.Number:
		s = y.String()
	case string:
		if !lax {
			return 0, false
		}
		s = strings.TrimSpace(y)
	default:
		return 0, false
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		if f, ferr := strconv.ParseFloat(s, 64); ferr == nil && f == math.Trunc(f) && math.Abs(f) < 1<<53 {
			return int64(f), true
		}
	}
	return n, err == nil
}

func laxBool(x any) (b, ok bool) {
	switch y := x.(type) {
	case string:
		switch strings.ToLower(strings.TrimSpace(y)) {
		case "true", "1", "on", "yes", "t", "y":
			return true, true
		case "false", "0", "off", "no", "f", "n":
			return false, true
		}
	case json.Number:
		if y == "0" || y == "1" {
			return y == "1", true
		}
	}
	return false, false
}

// plain turns json.Number into int64 or float64, all the way down.
func plain(x any) any {
	switch y := x.(type) {
	case json.Number:
		if n, err := y.Int64(); err == nil {
			return n
		}
		f, _ := y.Float64()
		return f
	case []any:
		for i := range y {
			y[i] = plain(y[i])
		}
	case map[string]any:
		for k := range y {
			y[k] = plain(y[k])
		}
	}
	return x
}

// ParseTime reads the forms of a time that OpenStack's APIs take: ISO 8601 with
// or without zone, fraction and time of day. Without a zone it is UTC.
func ParseTime(s string) (time.Time, error) {
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02T15:04:05Z0700", "2006-01-02 15:04:05.999999999Z07:00",
		"2006-01-02 15:04:05.999999999", "2006-01-02T15:04", "2006-01-02"} {
		if t, err := time.Parse(layout, s); err == nil {
			return t.UTC(), nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is no time", s)
}

func typeName(t reflect.Type) string {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch t.Kind() {
	case reflect.Bool:
		return "boolean"
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return "integer"
	case reflect.Float32, reflect.Float64:
		return "number"
	case reflect.Slice:
		return "array"
	case reflect.Map:
		return "object"
	case reflect.Struct:
		if t != timeType {
			return "object"
		}
	}
	return "string"
}

// PyRepr writes a decoded JSON value the way Python's repr does, because
// OpenStack's messages quote values so.
func PyRepr(x any) string {
	switch y := x.(type) {
	case nil:
		return "None"
	case bool:
		if y {
			return "True"
		}
		return "False"
	case string:
		if strings.Contains(y, "'") && !strings.Contains(y, `"`) {
			return `"` + y + `"`
		}
		r := strings.NewReplacer(`\`, `\\`, "'", `\'`, "\n", `\n`, "\r", `\r`, "\t", `\t`)
		return "'" + r.Replace(y) + "'"
	case json.Number:
		return y.String()
	case []any:
		parts := make([]string, len(y))
		for i := range y {
			parts[i] = PyRepr(y[i])
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case map[string]any:
		keys := make([]string, 0, len(y))
		for k := range y {
			keys = append(keys, k)
		}
		slices.Sort(keys)
		parts := make([]string, len(keys))
		for i, k := range keys {
			parts[i] = PyRepr(k) + ": " + PyRepr(y[k])
		}
		return "{" + strings.Join(parts, ", ") + "}"
	}
	return fmt.Sprint(x)
}

// DecodeInto decodes a part of a body into v, by the same tags and rules as a
// whole one; path leads to the part, for messages. The error is in the service's
// words.
func DecodeInto(r *Request, raw []byte, path []string, v any) error {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var tree any
	if err := dec.Decode(&tree); err != nil {
		return r.svc.Dialect.malformed(err)
	}
	d := &decoder{version: r.Version, unknown: r.Route.Unknown, lax: r.svc.Dialect.Lax}
	if fe := d.assign(tree, reflect.ValueOf(v).Elem(), path, rules{}); fe != nil {
		return r.svc.Dialect.invalid(fe)
	}
	return nil
}
