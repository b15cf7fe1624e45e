package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/nacre-cloud/nacre"
)

// Table is the typed face of a table: rows of T in an Engine.
//
// Errors are those of the Engine. Get and Update of a row that is not there are
// ErrNoRow (nacre.NotFound); areas turn it into their own words.
type Table[T any] struct {
	engine Engine
	info   *tableInfo
}

// NewTable parses T's tags. A wrong tag is a fault in the program, so it panics.
func NewTable[T any](e Engine, name string) *Table[T] {
	info, err := parse(name, reflect.TypeFor[T]())
	if err != nil {
		panic(err)
	}
	return &Table[T]{engine: e, info: info}
}

// Define is the definition of a table of T, for a Schema. A wrong tag panics.
func Define[T any](name string) *TableDef {
	return NewTable[T](nil, name).Def()
}

// Def is the table's definition.
func (t *Table[T]) Def() *TableDef { return t.info.def }

// Engine is where the rows are.
func (t *Table[T]) Engine() Engine { return t.engine }

// Get reads one row.
func (t *Table[T]) Get(ctx context.Context, id string) (T, error) {
	v, _, err := t.get(ctx, id, false)
	return v, err
}

// GetForUpdate reads one row and keeps others from changing it until the
// transaction ends (a no-op where writers are serial). It needs a transaction.
func (t *Table[T]) GetForUpdate(ctx context.Context, id string) (T, error) {
	v, _, err := t.get(ctx, id, true)
	return v, err
}

func (t *Table[T]) get(ctx context.Context, id string, lock bool) (T, Row, error) {
	var v T
	count(ctx)
	row, err := t.engine.Get(ctx, t.info.def, id, lock)
	if err != nil {
		return v, row, err
	}
	return v, row, t.decode(row, &v)
}

// Select reads the rows that match.
func (t *Table[T]) Select(ctx context.Context, q Select) ([]T, error) {
	count(ctx)
	rows, err := t.engine.Select(ctx, t.info.def, q)
	if err != nil {
		return nil, err
	}
	vs := make([]T, len(rows))
	for i := range rows {
		if err := t.decode(rows[i], &vs[i]); err != nil {
			return nil, err
		}
	}
	return vs, nil
}

// Where reads all the rows that match, by primary key.
func (t *Table[T]) Where(ctx context.Context, ws ...Where) ([]T, error) {
	return t.Select(ctx, Select{Where: And(ws...)})
}

// One reads the single row that matches; none is ErrNoRow, and of several the
// first by primary key.
func (t *Table[T]) One(ctx context.Context, ws ...Where) (T, error) {
	vs, err := t.Select(ctx, Select{Where: And(ws...), Limit: 1})
	if err != nil || len(vs) == 0 {
		var zero T
		if err == nil {
			err = ErrNoRow
		}
		return zero, err
	}
	return vs[0], nil
}

// Page reads a page after the row whose id is marker (empty: the first page).
// A marker that does not match where too is ErrNoRow; with visible it is one that does
// not match that: what its user may see, though it may have ceased to match the filters
// since the page that ended with it. Two statements with a marker, one without.
func (t *Table[T]) Page(ctx context.Context, q Select, marker string, visible ...Where) ([]T, error) {
	if marker != "" {
		if len(visible) == 0 {
			visible = []Where{q.Where}
		}
		count(ctx)
		rows, err := t.engine.Select(ctx, t.info.def, Select{Where: And(append(visible, Eq(t.info.def.Key, marker))...), Limit: 1})
		if err != nil {
			return nil, err
		}
		if len(rows) == 0 {
			return nil, ErrNoRow
		}
		q.After = make([]any, 0, len(q.Order)+1)
		for _, o := range q.Order {
			i := t.info.def.Pos(o.Column)
			if i < 0 {
				return nil, fmt.Errorf("store: %s has no column %s", t.info.def.Name, o.Column)
			}
			q.After = append(q.After, rows[0].Values[i])
		}
		q.After = append(q.After, marker)
	}
	return t.Select(ctx, q)
}

// Count counts the rows that match.
func (t *Table[T]) Count(ctx context.Context, ws ...Where) (int64, error) {
	gs, err := t.Aggregate(ctx, Aggregate{Where: And(ws...)})
	if err != nil || len(gs) == 0 {
		return 0, err
	}
	return gs[0].Count, nil
}

// Exists reports whether any row matches.
func (t *Table[T]) Exists(ctx context.Context, ws ...Where) (bool, error) {
	vs, err := t.Select(ctx, Select{Where: And(ws...), Limit: 1})
	return len(vs) > 0, err
}

// Aggregate counts, sums and groups. Without By it returns exactly one Group.
func (t *Table[T]) Aggregate(ctx context.Context, q Aggregate) ([]Group, error) {
	count(ctx)
	return t.engine.Aggregate(ctx, t.info.def, q)
}

// Insert adds rows, all or none.
func (t *Table[T]) Insert(ctx context.Context, vs ...T) error {
	if len(vs) == 0 {
		return nil
	}
	rows := make([]Row, len(vs))
	for i := range vs {
		r, err := t.encode(&vs[i])
		if err != nil {
			return err
		}
		rows[i] = r
	}
	count(ctx)
	return t.engine.Insert(ctx, t.info.def, rows)
}

// Update changes one row: it reads the row, lets fn change it and writes the
// columns that fn changed, in a transaction, by compare-and-swap. JSON objects
// keep the keys that this program does not know. fn may run again and must have
// no other effect. Returns the row as written.
func (t *Table[T]) Update(ctx context.Context, id string, fn func(*T) error) (T, error) {
	var out T
	err := InTx(ctx, t.engine, func(ctx context.Context) error {
		v, row, err := t.get(ctx, id, true)
		if err != nil {
			return err
		}
		before := append([]any(nil), row.Values...)
		if err := fn(&v); err != nil {
			return err
		}
		set, err := t.changes(before, &v)
		if err != nil {
			return err
		}
		out = v
		if len(set) == 0 {
			return nil
		}
		if _, ok := set[t.info.def.Key]; ok {
			return fmt.Errorf("store: %s: the primary key can't change", t.info.def.Name)
		}
		count(ctx)
		n, err := t.engine.Update(ctx, t.info.def, And(Eq(t.info.def.Key, id), Eq(RevColumn, row.Rev)), set)
		if err == nil && n == 0 {
			err = ErrRaced
		}
		return err
	})
	return out, err
}

// changes are the columns in which v is not what was before.
func (t *Table[T]) changes(before []any, v *T) (Set, error) {
	after, err := t.encode(v)
	if err != nil {
		return nil, err
	}
	set := Set{}
	for i, c := range t.info.def.Columns {
		nv := after.Values[i]
		if c.Type == JSON {
			if sameValue(before[i], nv) || rereads(before[i], nv, c, t.info.fields[i].typ) {
				continue
			}
			nv = keepUnknown(before[i], nv, t.info.fields[i].typ)
		}
		if !sameValue(before[i], nv) {
			set[c.Name] = nv
		}
	}
	return set, nil
}

// Replace writes the columns in which v differs from old, which was read in the
// context's transaction and has the same key: one statement, for whoever has read
// the row already, and one more where a JSON column differs: JSON objects keep the keys
// that this program does not know, as with Update. A row that is gone is ErrRaced.
func (t *Table[T]) Replace(ctx context.Context, old, v *T) error {
	if !Inside(ctx, t.engine) {
		return ErrTx
	}
	before, err := t.encode(old)
	if err != nil {
		return err
	}
	set, err := t.changes(before.Values, v)
	if err != nil || len(set) == 0 {
		return err
	}
	if _, ok := set[t.info.def.Key]; ok {
		return fmt.Errorf("store: %s: the primary key can't change", t.info.def.Name)
	}
	id, _ := before.Values[t.info.pk].(string)
	if set, err = t.asStored(ctx, id, before.Values, set, v); err != nil || len(set) == 0 {
		return err
	}
	count(ctx)
	n, err := t.engine.Update(ctx, t.info.def, Eq(t.info.def.Key, id), set)
	if err == nil && n == 0 {
		err = ErrRaced
	}
	return err
}

// asStored is the changes in set made of the JSON that the row has, not of what of it the
// Go type knows.
func (t *Table[T]) asStored(ctx context.Context, id string, before []any, set Set, v *T) (Set, error) {
	differs := func(c Column) bool { _, ok := set[c.Name]; return ok && c.Type == JSON }
	if !slices.ContainsFunc(t.info.def.Columns, differs) {
		return set, nil
	}
	count(ctx)
	row, err := t.engine.Get(ctx, t.info.def, id, true)
	if errors.Is(err, ErrNoRow) {
		err = ErrRaced
	}
	if err != nil {
		return nil, err
	}
	for i, c := range t.info.def.Columns {
		if differs(c) {
			before[i] = row.Values[i]
		}
	}
	return t.changes(before, v)
}

// UpdateWhere sets columns on all rows that match and says how many. Values are
// given as the field's Go type.
func (t *Table[T]) UpdateWhere(ctx context.Context, w Where, set Set) (int64, error) {
	conv := make(Set, len(set))
	for name, v := range set {
		i := t.info.def.Pos(name)
		if i < 0 {
			return 0, fmt.Errorf("store: %s has no column %s", t.info.def.Name, name)
		}
		if inc, ok := v.(Increment); ok {
			conv[name] = inc
			continue
		}
		cv, err := toColumn(reflect.ValueOf(v), t.info.def.Columns[i])
		if err != nil {
			return 0, err
		}
		conv[name] = cv
	}
	count(ctx)
	return t.engine.Update(ctx, t.info.def, w, conv)
}

// Delete removes one row; ErrNoRow when it is not there.
func (t *Table[T]) Delete(ctx context.Context, id string) error {
	n, err := t.DeleteWhere(ctx, Eq(t.info.def.Key, id))
	if err == nil && n == 0 {
		err = ErrNoRow
	}
	return err
}

// DeleteWhere removes the rows that match and says how many.
func (t *Table[T]) DeleteWhere(ctx context.Context, ws ...Where) (int64, error) {
	count(ctx)
	return t.engine.Delete(ctx, t.info.def, And(ws...))
}

// encode turns a T into column values.
func (t *Table[T]) encode(v *T) (Row, error) {
	rv := reflect.ValueOf(v).Elem()
	row := Row{Values: make([]any, len(t.info.fields))}
	for i := range t.info.fields {
		f := &t.info.fields[i]
		cv, err := toColumn(rv.FieldByIndex(f.path), f.col)
		if err != nil {
			return row, fmt.Errorf("store: %s.%s: %w", t.info.def.Name, f.col.Name, err)
		}
		row.Values[i] = cv
	}
	if row.Values[t.info.pk] == "" {
		return row, fmt.Errorf("store: %s: empty primary key", t.info.def.Name)
	}
	return row, nil
}

// decode fills a T from column values.
func (t *Table[T]) decode(row Row, v *T) error {
	rv := reflect.ValueOf(v).Elem()
	for i := range t.info.fields {
		f := &t.info.fields[i]
		if err := fromColumn(row.Values[i], rv.FieldByIndex(f.path), f.col); err != nil {
			return fmt.Errorf("store: %s.%s: %w", t.info.def.Name, f.col.Name, err)
		}
	}
	return nil
}

func toColumn(v reflect.Value, c Column) (any, error) {
	if !v.IsValid() {
		return nil, nil
	}
	if c.Type == JSON {
		if c.Null && v.IsZero() {
			return nil, nil
		}
		if raw, ok := v.Interface().(json.RawMessage); ok {
			if len(raw) == 0 {
				return []byte("null"), nil
			}
			return append([]byte(nil), raw...), nil
		}
		return json.Marshal(v.Interface())
	}
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return nil, nil
		}
		v = v.Elem()
	} else if c.Null && v.IsZero() {
		return nil, nil
	}
	if v.Type() == timeType {
		return micros(v.Interface().(time.Time)), nil
	}
	switch v.Kind() {
	case reflect.String:
		return v.String(), nil
	case reflect.Bool:
		return v.Bool(), nil
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return v.Int(), nil
	case reflect.Uint8, reflect.Uint16, reflect.Uint32:
		return int64(v.Uint()), nil
	case reflect.Float32, reflect.Float64:
		return v.Float(), nil
	case reflect.Slice:
		return append([]byte{}, v.Bytes()...), nil
	}
	return nil, fmt.Errorf("no column value for %s", v.Type())
}

func fromColumn(x any, v reflect.Value, c Column) error {
	if c.Type == JSON {
		b, _ := x.([]byte)
		if len(b) == 0 {
			return nil
		}
		if raw, ok := v.Addr().Interface().(*json.RawMessage); ok {
			*raw = append(json.RawMessage(nil), b...)
			return nil
		}
		return json.Unmarshal(b, v.Addr().Interface())
	}
	if x == nil {
		return nil
	}
	if v.Kind() == reflect.Pointer {
		v.Set(reflect.New(v.Type().Elem()))
		v = v.Elem()
	}
	ok := true
	switch c.Type {
	case Text:
		var s string
		if s, ok = x.(string); ok {
			v.SetString(s)
		}
	case Bool:
		var b bool
		if b, ok = x.(bool); ok {
			v.SetBool(b)
		}
	case Int:
		var n int64
		if n, ok = x.(int64); !ok {
			break
		}
		if v.CanInt() {
			v.SetInt(n)
		} else {
			v.SetUint(uint64(n))
		}
	case Float:
		var f float64
		if f, ok = x.(float64); ok {
			v.SetFloat(f)
		}
	case Bytes:
		var b []byte
		if b, ok = x.([]byte); ok {
			v.SetBytes(append([]byte{}, b...))
		}
	case Time:
		var n int64
		if n, ok = x.(int64); ok {
			v.Set(reflect.ValueOf(fromMicros(n)))
		}
	}
	if !ok {
		return fmt.Errorf("engine returned %T", x)
	}
	return nil
}

// zeroMicros stands for the zero time, which is outside int64 microseconds' sane range.
const zeroMicros = -1 << 63

func micros(t time.Time) int64 {
	if t.IsZero() {
		return zeroMicros
	}
	return t.UnixMicro()
}

func fromMicros(n int64) time.Time {
	if n == zeroMicros {
		return time.Time{}
	}
	return time.UnixMicro(n).UTC()
}

// normal turns an operand of a Where into a column value.
func normal(v any) any {
	switch x := v.(type) {
	case nil, string, int64, bool, float64, []byte:
		return x
	case int:
		return int64(x)
	case time.Time:
		return micros(x)
	}
	rv := reflect.ValueOf(v)
	if rv.Kind() == reflect.Pointer {
		if rv.IsNil() {
			return nil
		}
		return normal(rv.Elem().Interface())
	}
	switch rv.Kind() {
	case reflect.String:
		return rv.String()
	case reflect.Bool:
		return rv.Bool()
	case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64, reflect.Int:
		return rv.Int()
	case reflect.Uint8, reflect.Uint16, reflect.Uint32:
		return int64(rv.Uint())
	}
	panic(fmt.Sprintf("store: %T can't be compared with a column", v))
}

func sameValue(a, b any) bool {
	x, ok1 := a.([]byte)
	y, ok2 := b.([]byte)
	if ok1 && ok2 {
		return string(x) == string(y)
	}
	if ok1 || ok2 {
		return false
	}
	return a == b
}

// rereads says that what a JSON column had is, as far as the Go type knows it, what it is
// to have: then it stays, with what else a newer program may have written.
func rereads(before, after any, c Column, t reflect.Type) bool {
	v := reflect.New(t).Elem()
	if fromColumn(before, v, c) != nil {
		return false
	}
	known, err := toColumn(v, c)
	return err == nil && sameValue(known, after)
}

// keepUnknown carries over the keys of a JSON object that the Go struct does not
// know: a newer program may have written them.
func keepUnknown(before, after any, t reflect.Type) any {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	old, ok := before.([]byte)
	cur, ok2 := after.([]byte)
	if !ok || !ok2 || t.Kind() != reflect.Struct || len(old) == 0 || old[0] != '{' {
		return after
	}
	var o, n map[string]json.RawMessage
	if json.Unmarshal(old, &o) != nil || json.Unmarshal(cur, &n) != nil {
		return after
	}
	known := jsonNames(t)
	extra := false
	for k, v := range o {
		if _, has := n[k]; !has && !known[k] {
			n[k], extra = v, true
		}
	}
	if !extra {
		return after
	}
	b, err := json.Marshal(n)
	if err != nil {
		return after
	}
	return b
}

// WrapNotFound replaces ErrNoRow by the area's own error.
func WrapNotFound(err error, with func() *nacre.Error) error {
	if errors.Is(err, ErrNoRow) {
		return with()
	}
	return err
}
