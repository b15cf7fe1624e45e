package bunstore

import (
	"context"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/uptrace/bun/schema"

	"github.com/nacre-cloud/nacre/store"
)

// dialect is all that differs between databases.
type dialect interface {
	// gen quotes names and writes values into text.
	gen() schema.QueryGen
	// placeholder is the n-th argument's, from 1.
	placeholder(n int) string
	// columnType is a column's type and collation in DDL, tableOptions what
	// follows a CREATE TABLE, zero the literal default of a column.
	columnType(*store.TableDef, *store.Column) string
	tableOptions() string
	zero(store.ColumnType) string
	// retype makes a column fit for an index that it had not, "" where it is.
	retype(*store.TableDef, *store.Column) string
	// dropIndex removes an index, if it is there.
	dropIndex(table, index string) string
	// lower folds ASCII letters, sum adds up a column, NULL being nothing.
	lower(col string) string
	sum(col string) string
	// head, tail and contains are conditions that text col begins or ends with, or
	// holds, s, which is the argument whose placeholder is given.
	head(col, arg, s string) string
	tail(col, arg, s string) string
	contains(col, arg string) string
	// match is a regular expression condition, or "" where the engine can't.
	match(col, arg string) string
	// nullsLowest makes a nullable sort key do so.
	nullsLowest(desc bool) string
	// forUpdate locks the selected rows, skipping those locked by others if asked.
	forUpdate(skip bool) string
	// insertRows is how many rows one INSERT takes.
	insertRows() int
	// limit is a LIMIT of an argument.
	limit(arg string) string
	begin() string
	// lasting says that a statement may take effect after its context has ended.
	lasting() bool
	// migrating brings the database to a schema, in the way that its DDL allows.
	migrating(ctx context.Context, e *Engine, s *store.Schema) error
	// names is a query for the tables, columns ("t.c") and indexes that there are.
	names() string
	// classify turns a driver's error into one of package store's; def is the
	// table concerned and may be nil.
	classify(err error, def *store.TableDef) error
	// lock takes a lock until the end of the transaction.
	lock(ctx context.Context, s *session, key string) error
}

// value is a column value as the driver takes it.
func value(c *store.Column, v any) any {
	if b, ok := v.([]byte); ok {
		if c.Type == store.JSON {
			return string(b)
		}
		return bytesOf(b)
	}
	return v
}

// bytesOf is never nil: drivers take a nil slice for NULL, and give one for none.
func bytesOf(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// scanned is a driver's value as a column value.
func scanned(c *store.Column, v any) (any, error) {
	switch x := v.(type) {
	case nil:
		return nil, nil
	case string:
		switch c.Type {
		case store.Text:
			return v, nil // and not x, which would be boxed anew
		case store.JSON:
			return []byte(x), nil
		}
	case []byte:
		switch c.Type {
		case store.Bytes, store.JSON:
			return bytesOf(x), nil
		case store.Text:
			return string(x), nil
		}
	case int64:
		switch c.Type {
		case store.Int, store.Time:
			return v, nil
		case store.Bool:
			return x != 0, nil
		case store.Float:
			return float64(x), nil
		}
	case bool:
		if c.Type == store.Bool {
			return x, nil
		}
	case float64:
		if c.Type == store.Float {
			return x, nil
		}
	}
	return nil, fmt.Errorf("store: column %s holds a %T", c.Name, v)
}

// indexName is an index's name in the database, where it must be unique.
func indexName(table, index string) string { return table + "__" + index }

// indexByName finds the index back.
func indexByName(def *store.TableDef, name string) string {
	if def != nil {
		if ix, ok := strings.CutPrefix(name, def.Name+"__"); ok {
			return ix
		}
	}
	if _, ix, ok := strings.Cut(name, "__"); ok {
		return ix
	}
	return name
}

// upTo is the least text greater than all that begin with s, or false when there
// is none. Code points sort like their UTF-8 bytes.
func upTo(s string) (string, bool) {
	for s != "" {
		r, n := utf8.DecodeLastRuneInString(s)
		s = s[:len(s)-n]
		if r == utf8.MaxRune {
			continue
		}
		if r++; r == 0xd800 { // no surrogates in UTF-8
			r = 0xe000
		}
		return s + string(r), true
	}
	return "", false
}

// lower folds ASCII letters only, as every dialect's lower does.
func lower(s string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, s)
}
