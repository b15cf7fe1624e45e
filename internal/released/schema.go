package released

import (
	"encoding/json"
	"reflect"
	"slices"
	"testing"

	"github.com/nacre-cloud/nacre/store"
)

// schema is what a release's database of one area looks like.
type schema struct {
	Version int              `json:"version"`
	Tables  map[string]table `json:"tables"`
}

type table struct {
	Key     string            `json:"key"`
	Columns map[string]column `json:"columns"`
	Indexes map[string]index  `json:"indexes"`
}

type column struct {
	Type store.ColumnType `json:"type"`
	Null bool             `json:"null,omitempty"`
	// Value is a sample of what a JSON column holds.
	Value json.RawMessage `json:"value,omitempty"`
}

type index struct {
	Columns []string `json:"columns"`
	Unique  bool     `json:"unique,omitempty"`
}

// Schema compares an area's tables with those of the release: the release's programs
// go on with a database that this program has migrated. New columns need no care, since
// an engine gives each a default.
func Schema(t *testing.T, path string, s *store.Schema) {
	t.Helper()
	now := schema{Version: s.Version, Tables: map[string]table{}}
	defs := map[string]*store.TableDef{}
	for _, d := range s.Tables {
		now.Tables[d.Name], defs[d.Name] = describe(t, d), d
	}
	var old schema
	if !file(t, path, now, &old) {
		return
	}
	findings := map[string]string{}
	if s.Version < old.Version {
		findings["version"] = "it went back"
	}
	for _, step := range s.Steps {
		if step.Version > old.Version && step.Fill != nil {
			findings["step "+step.Name] = "whether it leaves what the previous release reads no test can tell"
		}
	}
	for name, was := range old.Tables {
		is, ok := now.Tables[name]
		if !ok {
			findings[name] = "the table is gone"
			continue
		}
		expands(findings, name, was, is, defs[name])
	}
	judge(t, path, findings)
}

func describe(t *testing.T, d *store.TableDef) table {
	t.Helper()
	out := table{Key: d.Key, Columns: map[string]column{}, Indexes: map[string]index{}}
	for _, c := range d.Columns {
		col := column{Type: c.Type, Null: c.Null}
		if c.Type == store.JSON {
			text, err := json.Marshal(Sample(d.FieldType(c.Name)).Interface())
			if err != nil {
				t.Fatal(err)
			}
			col.Value = text
		}
		out.Columns[c.Name] = col
	}
	for _, ix := range d.Indexes {
		out.Indexes[ix.Name] = index{Columns: ix.Columns, Unique: ix.Unique}
	}
	return out
}

// expands finds where a table does not have all that it had.
func expands(findings map[string]string, name string, was, is table, d *store.TableDef) {
	if was.Key != is.Key {
		findings[name+"."+was.Key] = "it is the key no more"
	}
	for c, w := range was.Columns {
		path, i := name+"."+c, is.Columns[c]
		_, ok := is.Columns[c]
		switch {
		case !ok:
			findings[path] = "the column is gone"
		case w.Type != i.Type:
			findings[path] = "the column has another type"
		case w.Null != i.Null:
			findings[path] = "the column was nullable, or is now: one of both programs can't read or write it"
		case w.Type == store.JSON:
			compare(findings, path, w.Value, plainText(i.Value), d.FieldType(c))
		}
	}
	for x, i := range is.Indexes {
		w, ok := was.Indexes[x]
		if i.Unique && (!ok || !w.Unique || !slices.Equal(w.Columns, i.Columns)) {
			findings[name+"/"+x] = "the index is unique now, or over other columns: what the previous release writes may be refused"
		}
	}
	for x, w := range was.Indexes {
		if i, ok := is.Indexes[x]; w.Unique && (!ok || !i.Unique) {
			findings[name+"/"+x] = "the index is unique no more: the previous release relies on it"
		}
	}
}

func plainText(text json.RawMessage) (out any) {
	if err := json.Unmarshal(text, &out); err != nil {
		return reflect.TypeFor[json.RawMessage]().String() + ": " + err.Error()
	}
	return out
}
