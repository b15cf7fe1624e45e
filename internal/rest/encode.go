package rest

import (
	"encoding"
	"encoding/json"
	"reflect"
	"slices"
	"strconv"
	"sync"
	"time"
	"unicode/utf8"
)

var bufPool = sync.Pool{New: func() any { b := make([]byte, 0, 4096); return &b }}

// Seconds is a time as nova, glance and neutron show it: "2026-01-02T03:04:05Z",
// null when zero.
type Seconds time.Time

// Micros is a time as keystone shows it: "2026-01-02T03:04:05.000006Z", null
// when zero.
type Micros time.Time

// Naive is a time with microseconds and no zone, as some of nova's extensions
// show it: "2026-01-02T03:04:05.000006", null when zero.
type Naive time.Time

var (
	secondsType = reflect.TypeFor[Seconds]()
	microsType  = reflect.TypeFor[Micros]()
	naiveType   = reflect.TypeFor[Naive]()
	jsonType    = reflect.TypeFor[json.Marshaler]()
	textType    = reflect.TypeFor[encoding.TextMarshaler]()
)

// JSON encodes a value as a view of the given microversion.
func JSON(v any, version Version) ([]byte, error) {
	return appendJSON(nil, reflect.ValueOf(v), version)
}

type encoder func(b []byte, v reflect.Value, ver Version) ([]byte, error)

var encoders sync.Map

func appendJSON(b []byte, v reflect.Value, ver Version) ([]byte, error) {
	if !v.IsValid() {
		return append(b, "null"...), nil
	}
	return encoderOf(v.Type())(b, v, ver)
}

func encoderOf(t reflect.Type) encoder {
	if e, ok := encoders.Load(t); ok {
		return e.(encoder)
	}
	// A recursive type meets itself while its encoder is being made.
	var e encoder
	var wait sync.WaitGroup
	wait.Add(1)
	if got, loaded := encoders.LoadOrStore(t, encoder(func(b []byte, v reflect.Value, ver Version) ([]byte, error) {
		wait.Wait()
		return e(b, v, ver)
	})); loaded {
		return got.(encoder)
	}
	e = makeEncoder(t)
	wait.Done()
	encoders.Store(t, e)
	return e
}

func makeEncoder(t reflect.Type) encoder {
	switch t {
	case secondsType:
		return timeEncoder("2006-01-02T15:04:05Z")
	case microsType:
		return timeEncoder("2006-01-02T15:04:05.000000Z")
	case naiveType:
		return timeEncoder("2006-01-02T15:04:05.000000")
	}
	switch {
	case t.Implements(jsonType) && (t.Kind() == reflect.String || t.Kind() == reflect.Struct):
		return ownEncoder
	case t.Implements(jsonType), t.Implements(textType):
		return stdEncoder
	}
	switch t.Kind() {
	case reflect.String:
		return func(b []byte, v reflect.Value, _ Version) ([]byte, error) { return appendString(b, v.String()), nil }
	case reflect.Bool:
		return func(b []byte, v reflect.Value, _ Version) ([]byte, error) {
			return strconv.AppendBool(b, v.Bool()), nil
		}
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return func(b []byte, v reflect.Value, _ Version) ([]byte, error) {
			return strconv.AppendInt(b, v.Int(), 10), nil
		}
	case reflect.Pointer:
		elem := encoderOf(t.Elem())
		return func(b []byte, v reflect.Value, ver Version) ([]byte, error) {
			if v.IsNil() {
				return append(b, "null"...), nil
			}
			return elem(b, v.Elem(), ver)
		}
	case reflect.Interface:
		return func(b []byte, v reflect.Value, ver Version) ([]byte, error) {
			if v.IsNil() {
				return append(b, "null"...), nil
			}
			return appendJSON(b, v.Elem(), ver)
		}
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			return stdEncoder
		}
		return sliceEncoder(encoderOf(t.Elem()))
	case reflect.Map:
		if t.Key().Kind() != reflect.String {
			return stdEncoder
		}
		return mapEncoder(encoderOf(t.Elem()))
	case reflect.Struct:
		return structEncoder(planOf(t))
	}
	return stdEncoder
}

func stdEncoder(b []byte, v reflect.Value, _ Version) ([]byte, error) {
	j, err := json.Marshal(v.Interface())
	return append(b, j...), err
}

// ownEncoder believes what a type of ours writes of itself: encoding/json would read it
// all again.
func ownEncoder(b []byte, v reflect.Value, _ Version) ([]byte, error) {
	j, err := v.Interface().(json.Marshaler).MarshalJSON()
	return append(b, j...), err
}

func timeEncoder(layout string) encoder {
	return func(b []byte, v reflect.Value, _ Version) ([]byte, error) {
		t := v.Convert(timeType).Interface().(time.Time)
		if t.IsZero() {
			return append(b, "null"...), nil
		}
		b = append(b, '"')
		b = t.UTC().AppendFormat(b, layout)
		return append(b, '"'), nil
	}
}

// sliceEncoder shows a nil slice as an empty list: OpenStack has no null lists.
func sliceEncoder(elem encoder) encoder {
	return func(b []byte, v reflect.Value, ver Version) (_ []byte, err error) {
		b = append(b, '[')
		for i := range v.Len() {
			if i > 0 {
				b = append(b, ',')
			}
			if b, err = elem(b, v.Index(i), ver); err != nil {
				return b, err
			}
		}
		return append(b, ']'), nil
	}
}

func mapEncoder(elem encoder) encoder {
	return func(b []byte, v reflect.Value, ver Version) (_ []byte, err error) {
		keys := make([]string, 0, v.Len())
		for _, k := range v.MapKeys() {
			keys = append(keys, k.String())
		}
		slices.Sort(keys)
		b = append(b, '{')
		for i, k := range keys {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(appendString(b, k), ':')
			if b, err = elem(b, v.MapIndex(reflect.ValueOf(k).Convert(v.Type().Key())), ver); err != nil {
				return b, err
			}
		}
		return append(b, '}'), nil
	}
}

func structEncoder(p *plan) encoder {
	return func(b []byte, v reflect.Value, ver Version) (_ []byte, err error) {
		b = append(b, '{')
		first := true
		sep := func() {
			if !first {
				b = append(b, ',')
			}
			first = false
		}
		for i := range p.fields {
			f := &p.fields[i]
			if !ver.in(f.since, f.until) {
				continue
			}
			fv, missing := v.FieldByIndexErr(f.index)
			if missing != nil {
				continue // a nil embedded pointer
			}
			if f.omit && isEmpty(fv) {
				continue
			}
			sep()
			b = append(b, f.key...)
			if b, err = encoderOf(fv.Type())(b, fv, ver); err != nil {
				return b, err
			}
		}
		if p.extra != nil {
			m, _ := v.FieldByIndex(p.extra).Interface().(map[string]any)
			keys := make([]string, 0, len(m))
			for k := range m {
				if p.byName[k] == nil {
					keys = append(keys, k)
				}
			}
			slices.Sort(keys)
			for _, k := range keys {
				sep()
				b = append(appendString(b, k), ':')
				if b, err = appendJSON(b, reflect.ValueOf(m[k]), ver); err != nil {
					return b, err
				}
			}
		}
		return append(b, '}'), nil
	}
}

func isEmpty(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Slice, reflect.Map:
		return v.Len() == 0
	}
	return v.IsZero()
}

const hexDigits = "0123456789abcdef"

// appendString writes a JSON string without HTML escapes.
func appendString(b []byte, s string) []byte {
	b = append(b, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= utf8.RuneSelf {
			r, n := utf8.DecodeRuneInString(s[i:])
			if r == utf8.RuneError && n == 1 {
				b = append(append(b, s[start:i]...), "\ufffd"...)
				start = i + 1
			}
			i += n
			continue
		}
		if c >= 0x20 && c != '"' && c != '\\' {
			i++
			continue
		}
		b = append(b, s[start:i]...)
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\n':
			b = append(b, '\\', 'n')
		case '\r':
			b = append(b, '\\', 'r')
		case '\t':
			b = append(b, '\\', 't')
		default:
			b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
		i++
		start = i
	}
	return append(append(b, s[start:]...), '"')
}
