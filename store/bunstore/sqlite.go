package bunstore

import (
	"container/list"
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/uptrace/bun/dialect/sqlitedialect"
	"github.com/uptrace/bun/schema"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/store"
)

// OpenSQLite opens the database in a file, which it makes if need be, readable
// by its owner only. With an empty path it is a temporary one, gone at Close and
// never synced: for tests.
func OpenSQLite(path string, o Options) (*Engine, error) {
	o = o.withDefaults()
	temp := ""
	if path == "" {
		dir, err := os.MkdirTemp("", "nacre-store-")
		if err != nil {
			return nil, fmt.Errorf("store: %w", err)
		}
		temp, path, o.Synchronous = dir, filepath.Join(dir, "db"), "OFF"
	}
	e, err := openSQLite(path, o)
	if err != nil {
		if temp != "" {
			os.RemoveAll(temp)
		}
		return nil, err
	}
	e.temp = temp
	return e, nil
}

func openSQLite(path string, o Options) (*Engine, error) {
	switch o.Synchronous {
	case "FULL", "NORMAL", "OFF":
	default:
		return nil, fmt.Errorf("store: synchronous %q is none of FULL, NORMAL, OFF", o.Synchronous)
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	// SQLite would make the file readable by all, and its log alike.
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	if err := f.Close(); err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	useMutexes()
	d := &sqliteDialect{qgen: schema.NewQueryGen(sqlitedialect.New())}
	drv := new(sqlite.Driver)
	if err := drv.RegisterDeterministicScalarFunction("nacre_match", 2, d.matchFunc); err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	dsn := func(params string) driver.Connector {
		u := url.URL{Scheme: "file", Path: path, RawQuery: params + "&_pragma=foreign_keys(1)"}
		return connector{drv, u.String()}
	}
	e := &Engine{
		dialect: d, opt: o,
		write: newPool(sql.OpenDB(dsn("_pragma=busy_timeout(50)&_pragma=journal_mode(WAL)&_pragma=synchronous("+o.Synchronous+")")), 1, true),
		read:  newPool(sql.OpenDB(dsn("_pragma=busy_timeout(5000)&_pragma=query_only(1)")), o.Readers, true),
	}
	// The first connection turns the file into a WAL database; readers come after.
	s, err := e.write.acquire(context.Background(), o.Wait)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("store: %s: %w", path, d.classify(err, nil)), e.Close())
	}
	e.write.release(s)
	return e, nil
}

// connector opens connections by a driver of our own, which carries our function.
type connector struct {
	drv *sqlite.Driver
	dsn string
}

func (c connector) Connect(context.Context) (driver.Conn, error) { return c.drv.Open(c.dsn) }
func (c connector) Driver() driver.Driver                        { return c.drv }

type sqliteDialect struct {
	qgen schema.QueryGen
	exps regexps
}

func (d *sqliteDialect) gen() schema.QueryGen   { return d.qgen }
func (d *sqliteDialect) placeholder(int) string { return "?" }
func (d *sqliteDialect) tableOptions() string   { return " STRICT, WITHOUT ROWID" }
func (d *sqliteDialect) begin() string          { return "BEGIN IMMEDIATE" }

// One row per statement keeps it prepared; there is no round trip to save.
func (d *sqliteDialect) insertRows() int { return 1 }

// limit: SQLite plans by the value of a bare argument, and plans anew whenever one is
// bound, which costs several times what the statement does.
func (d *sqliteDialect) limit(arg string) string { return " LIMIT " + arg + "+0" }

func (d *sqliteDialect) columnType(_ *store.TableDef, c *store.Column) string {
	switch c.Type {
	case store.Int, store.Bool, store.Time:
		return "INTEGER"
	case store.Float:
		return "REAL"
	case store.Bytes:
		return "BLOB"
	}
	return "TEXT"
}

func (d *sqliteDialect) zero(t store.ColumnType) string {
	switch t {
	case store.Int, store.Bool, store.Float:
		return "0"
	case store.Time:
		return "-9223372036854775808"
	case store.Bytes:
		return "X''"
	case store.JSON:
		return "'null'"
	}
	return "''"
}

func (d *sqliteDialect) retype(*store.TableDef, *store.Column) string { return "" }
func (d *sqliteDialect) dropIndex(_, index string) string             { return "DROP INDEX IF EXISTS " + index }
func (d *sqliteDialect) lower(col string) string                      { return "lower(" + col + ")" }
func (d *sqliteDialect) sum(col string) string {
	return "CAST(coalesce(sum(" + col + "), 0) AS BIGINT)"
}

func (d *sqliteDialect) head(col, arg, s string) string {
	return fmt.Sprintf("substr(%s, 1, %d) = %s", col, utf8.RuneCountInString(s), arg)
}

func (d *sqliteDialect) tail(col, arg, s string) string {
	return fmt.Sprintf("substr(%s, -%d) = %s", col, utf8.RuneCountInString(s), arg)
}

func (d *sqliteDialect) contains(col, arg string) string {
	return fmt.Sprintf("instr(%s, %s) > 0", col, arg)
}

func (d *sqliteDialect) match(col, arg string) string {
	return fmt.Sprintf("nacre_match(%s, %s)", arg, col)
}

func (d *sqliteDialect) nullsLowest(bool) string                      { return "" }
func (d *sqliteDialect) forUpdate(bool) string                        { return "" }
func (d *sqliteDialect) lock(context.Context, *session, string) error { return nil }

func (d *sqliteDialect) names() string {
	return `SELECT name FROM sqlite_schema WHERE type IN ('table', 'index')
		UNION ALL SELECT m.name || '.' || c.name FROM sqlite_schema m JOIN pragma_table_info(m.name) c WHERE m.type = 'table'`
}

func (d *sqliteDialect) lasting() bool { return false }

func (d *sqliteDialect) migrating(ctx context.Context, e *Engine, s *store.Schema) error {
	return e.whole(ctx, s)
}

func (d *sqliteDialect) classify(err error, def *store.TableDef) error {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return err
	}
	switch e.Code() {
	case sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY:
		return d.duplicate(e.Error(), def)
	}
	switch e.Code() & 0xff {
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
		return fmt.Errorf("%w: %w", store.ErrRaced, err)
	case sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_NOMEM:
		return unavailable(err)
	case sqlite3.SQLITE_INTERRUPT:
		return fmt.Errorf("%w: %w", context.Canceled, err)
	}
	return err
}

// duplicate finds the index by the columns that SQLite names:
// "UNIQUE constraint failed: users.domain_id, users.name".
func (d *sqliteDialect) duplicate(msg string, def *store.TableDef) error {
	_, names, _ := strings.Cut(msg, "UNIQUE constraint failed: ")
	names, _, _ = strings.Cut(names, " (")
	var cols []string
	table := ""
	for _, n := range strings.Split(names, ", ") {
		t, c, _ := strings.Cut(n, ".")
		table, cols = t, append(cols, c)
	}
	if def != nil && def.Name == table {
		if len(cols) == 1 && cols[0] == def.Key {
			return store.Duplicate(table, "PRIMARY")
		}
		want := strings.Join(cols, ",")
		for _, ix := range def.Indexes {
			if ix.Unique && strings.Join(ix.Columns, ",") == want {
				return store.Duplicate(table, ix.Name)
			}
		}
	}
	// A newer program's index, of which this one knows the columns only.
	return store.Duplicate(table, strings.Join(cols, ","))
}

// matchFunc is nacre_match(expression, text).
func (d *sqliteDialect) matchFunc(_ *sqlite.FunctionContext, args []driver.Value) (driver.Value, error) {
	expr, _ := args[0].(string)
	text, ok := args[1].(string)
	if !ok {
		return nil, nil
	}
	re, err := d.exps.get(expr)
	if err != nil {
		return nil, err
	}
	if re.MatchString(text) {
		return int64(1), nil
	}
	return int64(0), nil
}

// regexps keeps the expressions compiled that were used last.
type regexps struct {
	mu    sync.Mutex
	byKey map[string]*list.Element
	used  list.List
}

type compiled struct {
	expr string
	re   *regexp.Regexp
}

const maxRegexps = 64

func (c *regexps) get(expr string) (*regexp.Regexp, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if el := c.byKey[expr]; el != nil {
		c.used.MoveToFront(el)
		return el.Value.(compiled).re, nil
	}
	re, err := regexp.Compile(expr)
	if err != nil {
		return nil, err
	}
	if c.byKey == nil {
		c.byKey = map[string]*list.Element{}
	}
	c.byKey[expr] = c.used.PushFront(compiled{expr, re})
	if c.used.Len() > maxRegexps {
		last := c.used.Back()
		delete(c.byKey, c.used.Remove(last).(compiled).expr)
	}
	return re, nil
}

func unavailable(err error) error {
	return &nacre.Error{Kind: nacre.Unavailable, Code: "store_unavailable", Message: "The database is not available; please retry", Err: err}
}
