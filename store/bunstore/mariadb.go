package bunstore

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"hash/fnv"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/uptrace/bun/dialect/mysqldialect"
	"github.com/uptrace/bun/schema"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/store"
)

// OpenMariaDB opens a MariaDB database (10.6 or later, InnoDB) by a URL:
//
//	mariadb://user:password@host:3306/database?tls=true&ca=/etc/ssl/db-ca.pem
//	mariadb://user@localhost/database?socket=/run/mysqld/mysqld.sock
//
// With tls=true the server must show a certificate for its host name that the
// system, or the file ca, trusts. Nothing depends on the database's character set
// and collation. It does not connect yet.
func OpenMariaDB(dsn string, o Options) (*Engine, error) {
	o = o.withDefaults()
	o.Conns = max(o.Conns, 2) // Migrate holds its lock beside its transaction
	cfg, err := mariaConfig(dsn)
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	cfg.Timeout = o.Wait
	cfg.ClientFoundRows = true
	cfg.InterpolateParams = true // one round trip, not three
	cfg.MaxAllowedPacket = 0     // the server says it
	cfg.Collation = "utf8mb4_bin"
	cfg.Logger = new(mysql.NopLogger)
	seconds := strconv.FormatInt(max(1, int64((o.Wait+time.Second-1)/time.Second)), 10)
	cfg.Params = map[string]string{
		"tx_isolation": "'READ-COMMITTED'", "sql_mode": "'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION'",
		"innodb_lock_wait_timeout": seconds, "lock_wait_timeout": seconds,
		"max_sort_length": strconv.Itoa(2 * maxKey), // of a text, as much as an index could hold
	}
	c, err := mysql.NewConnector(cfg)
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	p := serverPool(sql.OpenDB(c), o.Conns, func(err error) bool {
		var e *mysql.MySQLError
		return errors.As(err, &e) && (e.Number == 1040 || e.Number == 1203 || e.Number == 1226)
	})
	return &Engine{dialect: &mariaDialect{qgen: schema.NewQueryGen(mysqldialect.New()), opt: o}, opt: o, write: p, read: p}, nil
}

func mariaConfig(dsn string) (*mysql.Config, error) {
	u, err := url.Parse(dsn)
	if err != nil || u.Scheme != "mariadb" {
		return nil, errors.New("a MariaDB database's URL begins with mariadb://")
	}
	cfg := mysql.NewConfig()
	cfg.User = u.User.Username()
	cfg.Passwd, _ = u.User.Password()
	cfg.DBName = strings.TrimPrefix(u.Path, "/")
	cfg.Net, cfg.Addr = "tcp", net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), "3306"))
	secure, ca := false, ""
	for name, values := range u.Query() {
		v := values[len(values)-1]
		switch name {
		case "socket":
			cfg.Net, cfg.Addr = "unix", v
		case "ca":
			ca = v
		case "tls":
			if secure, err = strconv.ParseBool(v); err != nil {
				return nil, errors.New("tls must be true or false")
			}
		default:
			return nil, fmt.Errorf("a MariaDB database's URL has no %q", name)
		}
	}
	if !secure {
		return cfg, nil
	}
	cfg.TLS = &tls.Config{ServerName: u.Hostname(), MinVersion: tls.VersionTLS12}
	if ca != "" {
		pem, err := os.ReadFile(ca)
		if err != nil {
			return nil, err
		}
		cfg.TLS.RootCAs = x509.NewCertPool()
		if !cfg.TLS.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s holds no certificate", ca)
		}
	}
	return cfg, nil
}

// mariaDialect keeps text in binary columns: so it is compared by bytes, trailing
// blanks and all, and an index holds as many bytes as it says.
type mariaDialect struct {
	qgen schema.QueryGen
	opt  Options
}

const (
	// maxKey is how many bytes of a column an index holds at most (an object's name of
	// 1024 bytes behind its container's id), maxIndex those of a whole index, which is
	// InnoDB's bound.
	maxKey, maxIndex = 1088, 3072
	// lockTable has a row for each of lockSlots classes of keys. A row's lock ends
	// with the transaction, which the database's named locks do not, and a cluster's
	// nodes see it.
	lockTable = "nacre_lock"
	lockSlots = 1024
)

func (d *mariaDialect) gen() schema.QueryGen    { return d.qgen }
func (d *mariaDialect) placeholder(int) string  { return "?" }
func (d *mariaDialect) tableOptions() string    { return " ENGINE=InnoDB ROW_FORMAT=DYNAMIC" }
func (d *mariaDialect) insertRows() int         { return 500 }
func (d *mariaDialect) limit(arg string) string { return " LIMIT " + arg }

// A statement that waits goes on when its caller has left, and only the end of its
// transaction undoes it.
func (d *mariaDialect) lasting() bool { return true }
func (d *mariaDialect) begin() string { return "START TRANSACTION" }

func (d *mariaDialect) columnType(def *store.TableDef, c *store.Column) string {
	switch c.Type {
	case store.Int, store.Time:
		return "BIGINT"
	case store.Bool:
		return "TINYINT(1)"
	case store.Float:
		return "DOUBLE"
	case store.JSON:
		return "LONGTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
	}
	if n := indexed(def, c); n > 0 {
		return fmt.Sprintf("VARBINARY(%d)", n)
	}
	return "LONGBLOB"
}

// indexed is how many bytes a text may have so that all its indexes hold it whole,
// or 0 when it is in none.
func indexed(def *store.TableDef, c *store.Column) int {
	n := 0
	if c.Name == def.Key {
		n = maxKey
	}
	for _, ix := range def.Indexes {
		texts, room, mine := 0, maxIndex, false
		for _, name := range ix.Columns {
			switch def.Columns[def.Pos(name)].Type {
			case store.Text, store.Bytes, store.JSON:
				texts++
			default:
				room -= 8
			}
			mine = mine || name == c.Name
		}
		if !mine {
			continue
		}
		if share := min(maxKey, room/texts); n == 0 || share < n {
			n = share
		}
	}
	return n
}

func (d *mariaDialect) zero(t store.ColumnType) string {
	switch t {
	case store.Int, store.Bool, store.Float:
		return "0"
	case store.Time:
		return "'-9223372036854775808'"
	case store.JSON:
		return "'null'"
	}
	return "''"
}

func (d *mariaDialect) retype(def *store.TableDef, c *store.Column) string {
	if c.Type != store.Text && c.Type != store.Bytes {
		return ""
	}
	w := &builder{d: d}
	w.str("ALTER TABLE ").ident(def.Name).str(" MODIFY COLUMN ")
	if c.Name == def.Key { // it stays the key without being told
		return string(w.ident(c.Name).str(" " + d.columnType(def, c) + " NOT NULL").b)
	}
	return string(w.column(def, c).b)
}

func (d *mariaDialect) dropIndex(table, index string) string {
	return "DROP INDEX IF EXISTS " + index + " ON " + table
}

// lower takes the bytes for a character set of one byte each whose case is ASCII's.
func (d *mariaDialect) lower(col string) string {
	return "CAST(LOWER(CONVERT(" + col + " USING tis620)) AS BINARY)"
}

func (d *mariaDialect) sum(col string) string {
	return "CAST(coalesce(sum(" + col + "), 0) AS SIGNED)"
}

func (d *mariaDialect) head(col, arg, s string) string {
	return fmt.Sprintf("left(%s, %d) = %s", col, len(s), arg)
}

func (d *mariaDialect) tail(col, arg, s string) string {
	return fmt.Sprintf("right(%s, %d) = %s", col, len(s), arg)
}

func (d *mariaDialect) contains(col, arg string) string {
	return fmt.Sprintf("locate(CAST(%s AS BINARY), %s) > 0", arg, col)
}

// MariaDB's expressions are not RE2's.
func (d *mariaDialect) match(string, string) string { return "" }

func (d *mariaDialect) nullsLowest(bool) string { return "" }

func (d *mariaDialect) forUpdate(skip bool) string {
	if skip {
		return " FOR UPDATE SKIP LOCKED"
	}
	return " FOR UPDATE"
}

func (d *mariaDialect) lock(ctx context.Context, s *session, key string) error {
	h := fnv.New64a()
	h.Write([]byte(key))
	n, err := s.exec(ctx, query{text: "UPDATE " + lockTable + " SET n = n + 1 WHERE slot = ?", args: []any{int64(h.Sum64() % lockSlots)}})
	if err == nil && n != 1 {
		err = fmt.Errorf("store: the table %s lacks a row", lockTable)
	}
	return err
}

func (d *mariaDialect) names() string {
	return `SELECT table_name FROM information_schema.columns WHERE table_schema = DATABASE()
		UNION SELECT concat(table_name, '.', column_name) FROM information_schema.columns WHERE table_schema = DATABASE()
		UNION SELECT index_name FROM information_schema.statistics WHERE table_schema = DATABASE()`
}

func (d *mariaDialect) classify(err error, def *store.TableDef) error {
	var e *mysql.MySQLError
	if !errors.As(err, &e) {
		var n net.Error
		switch {
		case errors.Is(err, mysql.ErrPktTooLarge):
			return &nacre.Error{Kind: nacre.TooLarge, Code: "row_too_large", Message: "The data is larger than the database takes", Err: err}
		case errors.Is(err, driver.ErrBadConn), errors.Is(err, mysql.ErrInvalidConn), errors.Is(err, sql.ErrConnDone), errors.As(err, &n), isConnectionLost(err):
			return unavailable(err)
		}
		return err
	}
	switch e.Number {
	case 1062, 1586: // duplicate entry
		return d.duplicate(e.Message, def)
	case 1213, 1020, 1412, 1180: // deadlock, changed since it was read, redefined, the cluster's word at the end
		return fmt.Errorf("%w: %w", store.ErrRaced, err)
	case 1205:
		return store.Busy(d.opt.Wait, "a lock in the database: "+e.Message)
	case 1406:
		return &nacre.Error{Kind: nacre.Invalid, Code: "value_too_long", Message: "A value is too long", Err: err}
	case 1153, 1105:
		if e.Number == 1105 && !strings.Contains(e.Message, "max_allowed_packet") { // "unknown error"
			return err
		}
		return &nacre.Error{Kind: nacre.TooLarge, Code: "row_too_large", Message: "The data is larger than the database takes", Err: err}
	case 1021, 1037, 1040, 1041, 1044, 1045, 1047, 1049, 1053, 1114, 1129, 1130, 1203, 1226, 1290, 1317, 1792, 1836, 1927, 1969:
		// full, out of memory or connections, no access, not ready, ending, read only, ended by the operator
		return unavailable(err)
	}
	return err
}

// duplicate finds the index in "Duplicate entry '…' for key 'users__name'".
func (d *mariaDialect) duplicate(msg string, def *store.TableDef) error {
	table := ""
	if def != nil {
		table = def.Name
	}
	index := strings.TrimSuffix(msg[strings.LastIndex(msg, " for key '")+len(" for key '"):], "'")
	if index == "PRIMARY" {
		return store.Duplicate(table, index)
	}
	return store.Duplicate(table, indexByName(def, index))
}

// migrating makes what is missing statement by statement, each of which the
// database commits at once, and then moves data and stamps in a transaction. What
// fails is taken back; what a crash leaves is found there by the next try.
func (d *mariaDialect) migrating(ctx context.Context, e *Engine, s *store.Schema) error {
	return e.alone(ctx, e.write, func(ses *session) error {
		unlock, err := d.alone(ctx, e, ses)
		if err != nil {
			return err
		}
		defer unlock()
		var m migration
		if err := d.makeOwn(ctx, ses); err != nil {
			return e.failure(ctx, err, nil)
		}
		if m, err = e.look(ctx, ses, s); err != nil {
			return e.failure(ctx, err, nil)
		}
		var undo []string
		err = e.make(ctx, ses, m, &undo)
		if err == nil {
			err = e.fillAndStamp(ctx, ses, s, m)
		}
		if err != nil {
			d.takeBack(ctx, ses, undo)
		}
		return err
	})
}

// alone takes the lock of those who migrate this database.
func (d *mariaDialect) alone(ctx context.Context, e *Engine, ses *session) (unlock func(), err error) {
	const name = "CONCAT('nacre.', MD5(DATABASE()))"
	var got sql.NullInt64
	err = ses.query(ctx, query{text: "SELECT GET_LOCK(" + name + ", ?)", args: []any{d.opt.Wait.Seconds()}}, func(rows *sql.Rows) error { return rows.Scan(&got) })
	if err != nil {
		return nil, e.failure(ctx, err, nil)
	}
	if got.Int64 != 1 {
		return nil, store.Busy(d.opt.Wait, "another process that migrates the database")
	}
	return func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		if _, err := ses.exec(ctx, plain("DO RELEASE_LOCK("+name+")")); err != nil {
			ses.broken = true
		}
	}, nil
}

// makeOwn makes the tables that are no area's.
func (d *mariaDialect) makeOwn(ctx context.Context, ses *session) error {
	rows := &builder{d: d}
	rows.str("INSERT IGNORE INTO " + lockTable + " (slot, n) VALUES ")
	for i := range lockSlots {
		rows.str(map[bool]string{true: "(", false: ", ("}[i == 0] + strconv.Itoa(i) + ", 0)")
	}
	for _, text := range []string{
		"CREATE TABLE IF NOT EXISTS " + lockTable + " (slot INT NOT NULL PRIMARY KEY, n BIGINT NOT NULL)" + d.tableOptions(),
		string(rows.b),
	} {
		if _, err := ses.exec(ctx, plain(text)); err != nil {
			return err
		}
	}
	return nil
}

func (d *mariaDialect) takeBack(ctx context.Context, ses *session, undo []string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	for i := len(undo) - 1; i >= 0; i-- {
		if _, err := ses.exec(ctx, plain(undo[i])); err != nil {
			return // the next try finds what is left
		}
	}
}
