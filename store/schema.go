package store

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"
)

// ColumnType is what a column holds.
type ColumnType uint8

// The column types and the Go value that carries each between store and engine.
const (
	Text  ColumnType = iota // string
	Int                     // int64
	Bool                    // bool
	Float                   // float64
	Bytes                   // []byte
	Time                    // int64, microseconds since 1970 UTC
	JSON                    // []byte
)

// Column is one column of a table.
type Column struct {
	Name string
	Type ColumnType
	// Null columns store the Go zero value as NULL.
	Null bool
}

// Index is an index over columns; a unique one is a rule that the database keeps.
type Index struct {
	Name    string
	Columns []string
	Unique  bool
}

// TableDef is what an engine knows of a table.
type TableDef struct {
	Name    string
	Columns []Column
	// Key is the primary key's column, always of type Text.
	Key     string
	Indexes []Index

	pos   map[string]int
	types []reflect.Type
}

// FieldType is the Go type of a column's field; nil if there is no such column.
func (t *TableDef) FieldType(column string) reflect.Type {
	if i, ok := t.pos[column]; ok {
		return t.types[i]
	}
	return nil
}

// Pos is a column's position in Row.Values, or -1.
func (t *TableDef) Pos(column string) int {
	if i, ok := t.pos[column]; ok {
		return i
	}
	return -1
}

// Schema is all that one area keeps in its database.
type Schema struct {
	// Area names the database's stamp: "identity".
	Area string
	// Version is what a database made from Tables is stamped with: the number of
	// the last of Steps, or 0.
	Version int
	Tables  []*TableDef
	// Steps bring an older database forward. A new database runs none of them.
	Steps []Step
}

// Step is a forward-only change to an older database. Engines add the columns,
// indexes and tables that Schema.Tables has and the database lacks before the
// steps run, so most need only a back-fill, or none.
type Step struct {
	Version int
	Name    string
	// Drop names indexes, "table.index", that the database may have and the schema
	// no longer has. They go before Fill runs.
	Drop []string
	// Fill moves data; it runs in the migration's transaction and may be nil.
	Fill func(ctx context.Context, e Engine) error
}

// field maps one column to a struct field.
type field struct {
	path []int
	typ  reflect.Type
	col  Column
}

type tableInfo struct {
	def    *TableDef
	fields []field
	pk     int
}

var parsed sync.Map // key: name + type

func parse(name string, t reflect.Type) (*tableInfo, error) {
	type cacheKey struct {
		name string
		t    reflect.Type
	}
	if v, ok := parsed.Load(cacheKey{name, t}); ok {
		return v.(*tableInfo), nil
	}
	ti := &tableInfo{def: &TableDef{Name: name, pos: map[string]int{}}, pk: -1}
	if t.Kind() != reflect.Struct {
		return nil, fmt.Errorf("store: table %s: %s is no struct", name, t)
	}
	if err := ti.walk(t, nil); err != nil {
		return nil, fmt.Errorf("store: table %s: %w", name, err)
	}
	if ti.pk < 0 {
		return nil, fmt.Errorf("store: table %s: %s has no pk field", name, t)
	}
	v, _ := parsed.LoadOrStore(cacheKey{name, t}, ti)
	return v.(*tableInfo), nil
}

var timeType = reflect.TypeFor[time.Time]()

func (ti *tableInfo) walk(t reflect.Type, path []int) error {
	for i := range t.NumField() {
		f := t.Field(i)
		p := append(slices.Clone(path), i)
		tag, ok := f.Tag.Lookup("store")
		if f.Anonymous && !ok && f.Type.Kind() == reflect.Struct {
			if err := ti.walk(f.Type, p); err != nil {
				return err
			}
			continue
		}
		if !ok || tag == "-" {
			continue
		}
		if !f.IsExported() {
			return fmt.Errorf("field %s is not exported", f.Name)
		}
		if err := ti.add(f, p, strings.Split(tag, ",")); err != nil {
			return err
		}
	}
	return nil
}

func (ti *tableInfo) add(f reflect.StructField, path []int, opts []string) error {
	col := Column{Name: opts[0]}
	if col.Name == "" || col.Name == RevColumn {
		return fmt.Errorf("field %s: bad column name %q", f.Name, col.Name)
	}
	if _, dup := ti.def.pos[col.Name]; dup {
		return fmt.Errorf("field %s: column %s twice", f.Name, col.Name)
	}
	var err error
	if col.Type, err = columnType(f.Type, slices.Contains(opts[1:], "json")); err != nil {
		return fmt.Errorf("field %s: %w", f.Name, err)
	}
	col.Null = f.Type.Kind() == reflect.Pointer && col.Type != JSON
	for _, o := range opts[1:] {
		key, val, _ := strings.Cut(o, "=")
		switch key {
		case "pk":
			if ti.pk >= 0 || col.Type != Text {
				return fmt.Errorf("field %s: one pk of type string", f.Name)
			}
			ti.pk, ti.def.Key = len(ti.fields), col.Name
		case "null":
			col.Null = true
		case "json":
		case "unique", "index":
			if val == "" {
				val = ti.def.Name + "_" + col.Name
			}
			ti.index(val, col.Name, key == "unique")
		default:
			return fmt.Errorf("field %s: unknown option %q", f.Name, o)
		}
	}
	ti.def.pos[col.Name] = len(ti.fields)
	ti.def.Columns = append(ti.def.Columns, col)
	ti.def.types = append(ti.def.types, f.Type)
	ti.fields = append(ti.fields, field{path: path, typ: f.Type, col: col})
	return nil
}

func (ti *tableInfo) index(name, column string, unique bool) {
	for i := range ti.def.Indexes {
		if ti.def.Indexes[i].Name == name {
			ti.def.Indexes[i].Columns = append(ti.def.Indexes[i].Columns, column)
			return
		}
	}
	ti.def.Indexes = append(ti.def.Indexes, Index{Name: name, Columns: []string{column}, Unique: unique})
}

func columnType(t reflect.Type, json bool) (ColumnType, error) {
	if json {
		return JSON, nil
	}
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t == timeType {
		return Time, nil
	}
	switch t.Kind() {
	case reflect.String:
		return Text, nil
	case reflect.Bool:
		return Bool, nil
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64, reflect.Uint8, reflect.Uint16, reflect.Uint32:
		return Int, nil
	case reflect.Float32, reflect.Float64:
		return Float, nil
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			return Bytes, nil
		}
	}
	return 0, fmt.Errorf("type %s needs the json option", t)
}
