package bunstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"hash/fnv"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/uptrace/bun/dialect/pgdialect"
	"github.com/uptrace/bun/schema"

	"github.com/nacre-cloud/nacre/store"
)

// OpenPostgres opens a PostgreSQL database (15 or later) by a URL or a DSN as
// libpq takes it. Its encoding must be UTF8; its collation does not matter. It
// works behind a pooler that hands a connection to each transaction. It does not
// connect yet.
func OpenPostgres(dsn string, o Options) (*Engine, error) {
	o = o.withDefaults()
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	// Texts vary, so nothing is prepared by name.
	cfg.DefaultQueryExecMode = pgx.QueryExecModeExec
	cfg.StatementCacheCapacity = 0
	if cfg.ConnectTimeout == 0 {
		cfg.ConnectTimeout = o.Wait
	}
	d := &pgDialect{qgen: schema.NewQueryGen(pgdialect.New()), opt: o}
	// A connection that lies idle has nothing to say: where there is something to read,
	// or its end, the server may be gone, and only then is it worth a round trip to ask.
	ask := stdlib.OptionShouldPing(func(_ context.Context, p stdlib.ShouldPingParams) bool { return readable(p.Conn.PgConn().Conn()) })
	p := serverPool(stdlib.OpenDB(*cfg, ask, stdlib.OptionAfterConnect(func(ctx context.Context, c *pgx.Conn) error {
		_, err := c.Exec(ctx, fmt.Sprintf("SET lock_timeout = %d", o.Wait.Milliseconds()))
		return err
	})), o.Conns, func(err error) bool {
		var e *pgconn.PgError
		return errors.As(err, &e) && e.Code == "53300"
	})
	return &Engine{dialect: d, opt: o, write: p, read: p}, nil
}

type pgDialect struct {
	qgen schema.QueryGen
	opt  Options
}

func (d *pgDialect) gen() schema.QueryGen     { return d.qgen }
func (d *pgDialect) placeholder(n int) string { return "$" + strconv.Itoa(n) }
func (d *pgDialect) tableOptions() string     { return "" }
func (d *pgDialect) insertRows() int          { return 500 }
func (d *pgDialect) limit(arg string) string  { return " LIMIT " + arg }

// begin sets the deadline for locks again, since a pooler may hand the
// transaction a connection other than the one that it was set on.
func (d *pgDialect) begin() string {
	return fmt.Sprintf("BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL lock_timeout = %d", d.opt.Wait.Milliseconds())
}

func (d *pgDialect) columnType(_ *store.TableDef, c *store.Column) string {
	switch c.Type {
	case store.Int, store.Time:
		return "bigint"
	case store.Bool:
		return "boolean"
	case store.Float:
		return "double precision"
	case store.Bytes:
		return "bytea"
	}
	return `text COLLATE "C"`
}

func (d *pgDialect) zero(t store.ColumnType) string {
	switch t {
	case store.Int, store.Float:
		return "0"
	case store.Bool:
		return "false"
	case store.Time:
		return "'-9223372036854775808'"
	case store.JSON:
		return "'null'"
	}
	return "''"
}

func (d *pgDialect) retype(*store.TableDef, *store.Column) string { return "" }
func (d *pgDialect) dropIndex(_, index string) string             { return "DROP INDEX IF EXISTS " + index }
func (d *pgDialect) lower(col string) string                      { return "lower(" + col + ")" }
func (d *pgDialect) sum(col string) string {
	return "CAST(coalesce(sum(" + col + "), 0) AS BIGINT)"
}

func (d *pgDialect) head(col, arg, s string) string {
	return fmt.Sprintf("left(%s, %d) = %s", col, utf8.RuneCountInString(s), arg)
}

func (d *pgDialect) tail(col, arg, s string) string {
	return fmt.Sprintf("right(%s, %d) = %s", col, utf8.RuneCountInString(s), arg)
}

func (d *pgDialect) contains(col, arg string) string {
	return fmt.Sprintf("strpos(%s, %s) > 0", col, arg)
}

// PostgreSQL's expressions are not RE2's.
func (d *pgDialect) match(string, string) string { return "" }

func (d *pgDialect) nullsLowest(desc bool) string {
	if desc {
		return " NULLS LAST"
	}
	return " NULLS FIRST"
}

func (d *pgDialect) forUpdate(skip bool) string {
	if skip {
		return " FOR UPDATE SKIP LOCKED"
	}
	return " FOR UPDATE"
}

func (d *pgDialect) lock(ctx context.Context, s *session, key string) error {
	h := fnv.New64a()
	h.Write([]byte(key))
	_, err := s.exec(ctx, query{text: "SELECT pg_advisory_xact_lock($1)", args: []any{int64(h.Sum64())}})
	return err
}

func (d *pgDialect) names() string {
	return `SELECT table_name::text FROM information_schema.columns WHERE table_schema = current_schema()
		UNION SELECT table_name || '.' || column_name FROM information_schema.columns WHERE table_schema = current_schema()
		UNION SELECT indexname FROM pg_indexes WHERE schemaname = current_schema()`
}

func (d *pgDialect) lasting() bool { return false }

func (d *pgDialect) migrating(ctx context.Context, e *Engine, s *store.Schema) error {
	return e.whole(ctx, s)
}

func (d *pgDialect) classify(err error, def *store.TableDef) error {
	var e *pgconn.PgError
	if !errors.As(err, &e) {
		var ce *pgconn.ConnectError
		if errors.As(err, &ce) || pgconn.SafeToRetry(err) || pgconn.Timeout(err) || errors.Is(err, sql.ErrConnDone) || isConnectionLost(err) {
			return unavailable(err)
		}
		return err
	}
	switch e.Code {
	case "23505":
		if e.ConstraintName == e.TableName+"_pkey" {
			return store.Duplicate(e.TableName, "PRIMARY")
		}
		return store.Duplicate(e.TableName, indexByName(def, e.ConstraintName))
	case "40001", "40P01":
		return fmt.Errorf("%w: %w", store.ErrRaced, err)
	case "55P03":
		return store.Busy(d.opt.Wait, "a lock in the database: "+e.Message)
	}
	switch e.Code[:2] {
	case "08", "53", "57", "58": // connection, resources, operator, system
		return unavailable(err)
	}
	return err
}

// isConnectionLost recognises what pgx says of a connection that went away.
func isConnectionLost(err error) bool {
	for _, s := range []string{"conn closed", "unexpected EOF", "broken pipe", "connection reset", "bad connection"} {
		if strings.Contains(err.Error(), s) {
			return true
		}
	}
	return false
}
