// Package released holds what this program writes to what the previous release of it
// wrote, since both may run at once: an operator replaces one copy after the other, and
// the hosts when it suits. Only tests import it.
//
//	released.Values(t, "testdata/released/messages.json", map[string]any{"desired": []hypervisor.Desired{}})
//	released.Schema(t, "testdata/released/compute.json", compute.Schema())
//
// The files are what the release wrote: values with each field set, and tables. A
// message or a stored value may get new fields, a database new tables, columns and
// indexes. Anything else (a field or column that went, or has another name or type; an
// index that allows less than before) would break the release that runs beside, and
// fails the test, unless the file's neighbour "notes" names it and says why it can be:
//
//	desired[].hard_boot: no release since 2.1 reads it
//
// Once a release is out, `go test -update` writes the files anew, and the notes go. The
// release's commit is written by hand then, beside the files ("commit") and in
// tools/previous-release: [Commit] holds the two together.
package released

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write what this release's messages and tables are")

// file reads what the release wrote into v; false says that it was just written.
func file(t *testing.T, path string, now, v any) bool {
	t.Helper()
	if *update {
		text, err := json.MarshalIndent(now, "", " ")
		require.NoError(t, err)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755)) //nolint:gosec // it is committed
		require.NoError(t, os.WriteFile(path, append(text, '\n'), 0o644))
		return false
	}
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(text, v))
	return true
}

// Commit says that files are those of the release that another file names, the one that
// is built to run beside this. Writing the files anew takes away what said so.
func Commit(t *testing.T, path, previous string) {
	t.Helper()
	if *update {
		require.NoError(t, os.RemoveAll(path))
		return
	}
	of, err := os.ReadFile(path)
	require.NoError(t, err, "it names the commit whose formats the files beside it are")
	want, err := os.ReadFile(previous)
	require.NoError(t, err)
	require.Regexp(t, "^[0-9a-f]{40}\n$", string(of))
	require.Equal(t, string(want), string(of), "%s names another release than %s", path, previous)
}

// judge fails the test for each finding that no note explains, and for each note that
// explains nothing.
func judge(t *testing.T, path string, findings map[string]string) {
	t.Helper()
	notes := map[string]string{}
	name := strings.TrimSuffix(path, ".json") + ".notes"
	text, err := os.ReadFile(name)
	if err != nil && !os.IsNotExist(err) {
		require.NoError(t, err)
	}
	for line := range strings.Lines(string(text)) {
		if what, why, ok := strings.Cut(strings.TrimSpace(line), ": "); ok {
			notes[what] = why
		}
	}
	for _, what := range slices.Sorted(maps.Keys(findings)) {
		if notes[what] == "" {
			t.Errorf("%s: %s: the previous release, which may run beside this one, would not cope; if it does, say why in %s", what, findings[what], name)
		}
	}
	for _, what := range slices.Sorted(maps.Keys(notes)) {
		if findings[what] == "" {
			t.Errorf("%s: the note on %s explains nothing", name, what)
		}
	}
}

// Values compares values, of which only the types matter and those that a nil slice or
// map does not tell, with those that the release wrote: each of the release's fields is
// still there, and what the release wrote is read, also with fields that only a later
// one knows.
func Values(t *testing.T, path string, values map[string]any) {
	t.Helper()
	now := map[string]any{}
	for name, v := range values {
		now[name] = plain(t, Sample(reflect.TypeOf(v)).Interface())
	}
	old := map[string]json.RawMessage{}
	if !file(t, path, now, &old) {
		return
	}
	findings := map[string]string{}
	for name, text := range old {
		v, ok := values[name]
		if !ok {
			findings[name] = "it is gone"
			continue
		}
		compare(findings, name, text, now[name], reflect.TypeOf(v))
	}
	judge(t, path, findings)
}

// Names compares names that are stored or sent with those that the release had: none may go.
func Names(t *testing.T, path string, names []string) {
	t.Helper()
	names = slices.Sorted(slices.Values(names))
	var old []string
	if !file(t, path, names, &old) {
		return
	}
	findings := map[string]string{}
	for _, n := range old {
		if !slices.Contains(names, n) {
			findings[n] = "it is gone"
		}
	}
	judge(t, path, findings)
}

// plain is a value as JSON has it.
func plain(t *testing.T, v any) any {
	t.Helper()
	text, err := json.Marshal(v)
	require.NoError(t, err)
	var out any
	require.NoError(t, json.Unmarshal(text, &out))
	return out
}

// compare finds what of a release's value is not in now's, or can't be read by typ.
func compare(findings map[string]string, name string, text json.RawMessage, now any, typ reflect.Type) {
	var was any
	if err := json.Unmarshal(text, &was); err != nil {
		findings[name] = err.Error()
		return
	}
	missing(findings, name, was, now, "it is not written any more, or otherwise")
	with, err := json.Marshal(later(was))
	if err != nil {
		findings[name] = err.Error()
		return
	}
	for what, in := range map[string][]byte{"what it wrote": text, "a later field": with} {
		read := reflect.New(typ)
		if err := json.Unmarshal(in, read.Interface()); err != nil {
			findings[name] = what + " can't be read: " + err.Error()
			return
		}
		back, err := json.Marshal(read.Interface())
		if err != nil {
			findings[name] = err.Error()
			return
		}
		var got any
		if err := json.NewDecoder(bytes.NewReader(back)).Decode(&got); err != nil {
			findings[name] = err.Error()
			return
		}
		missing(findings, name, was, got, "it is not read any more")
	}
}

// missing finds the parts of was that are not in now.
func missing(findings map[string]string, path string, was, now any, what string) {
	switch w := was.(type) {
	case map[string]any:
		n, ok := now.(map[string]any)
		if !ok {
			break
		}
		for k, v := range w {
			if _, there := n[k]; !there {
				findings[path+"."+k] = what
				continue
			}
			missing(findings, path+"."+k, v, n[k], what)
		}
		return
	case []any:
		n, ok := now.([]any)
		if !ok || len(n) != len(w) {
			break
		}
		for i := range w {
			missing(findings, path+"[]", w[i], n[i], what)
		}
		return
	}
	if !reflect.DeepEqual(was, now) {
		findings[path] = what
	}
}

// later is a value with a field more in each object, as a later release may write it. A
// map's sample has a key that no field has.
func later(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := map[string]any{}
		for k, x := range v {
			out[k] = later(x)
		}
		if !slices.ContainsFunc(slices.Collect(maps.Keys(v)), func(k string) bool { return strings.HasPrefix(k, sampled) }) {
			out["later_field"] = map[string]any{"a": []any{1.0}}
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = later(v[i])
		}
		return out
	}
	return v
}

var (
	timeType = reflect.TypeFor[time.Time]()
	rawType  = reflect.TypeFor[json.RawMessage]()
)

// sampled begins each text of a sample.
const sampled = "of "

// Sample is a value of a type, with each of its fields set.
func Sample(typ reflect.Type) reflect.Value {
	v := reflect.New(typ).Elem()
	fill(v, typ.Name(), 0)
	return v
}

func fill(v reflect.Value, name string, depth int) {
	if depth > 12 {
		return
	}
	if special(v) {
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.IsExported() || f.Anonymous && f.Type.Kind() == reflect.Struct {
				fill(v.Field(i), f.Name, depth+1)
			}
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), name, depth+1)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0), name, depth+1)
	case reflect.Array:
		for i := range v.Len() {
			fill(v.Index(i), name, depth+1)
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		key, val := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fill(key, name, depth+1)
		fill(val, name, depth+1)
		v.SetMapIndex(key, val)
	case reflect.Interface:
		if v.NumMethod() == 0 {
			v.Set(reflect.ValueOf(sampled + name))
		}
	case reflect.String:
		v.SetString(sampled + name)
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(int64(len(name) + 1))
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(uint64(len(name) + 1))
	case reflect.Float32, reflect.Float64:
		v.SetFloat(float64(len(name)) + 0.5)
	default:
		panic(fmt.Sprintf("released: a %s is in no message", v.Type()))
	}
}

// special fills types that have a text of their own.
func special(v reflect.Value) bool {
	switch {
	case v.Type() == timeType:
		v.Set(reflect.ValueOf(time.Date(2001, 2, 3, 4, 5, 6, 7000, time.UTC)))
		return true
	case v.Type() == rawType:
		v.Set(reflect.ValueOf(json.RawMessage(`{"a":1}`)))
		return true
	}
	if !v.CanInterface() {
		return false // it is embedded, and not exported
	}
	u, ok := v.Addr().Interface().(interface{ UnmarshalText([]byte) error })
	if !ok {
		return false
	}
	for _, text := range []string{"192.0.2.7", "192.0.2.0/24", "7"} {
		if u.UnmarshalText([]byte(text)) == nil {
			return true
		}
	}
	panic(fmt.Sprintf("released: no text is known for a %s", v.Type()))
}
