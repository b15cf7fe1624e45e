// Package bunstore keeps rows in SQLite (the embedded default), PostgreSQL or MariaDB.
//
//	engine, err := bunstore.OpenSQLite("/var/lib/nacre/identity.db", bunstore.Options{})
//	engine, err := bunstore.OpenPostgres("postgres://nacre@db/identity", bunstore.Options{})
//	engine, err := bunstore.OpenMariaDB("mariadb://nacre:secret@db/identity?tls=true", bunstore.Options{})
//	defer engine.Close()
//	err = engine.Migrate(ctx, schema, true)
//
// Neither Open makes tables; Migrate does. The areas that share one database
// must not share a table's name.
//
// # What it promises
//
// On SQLite one connection writes and a few read. A transaction holds the
// writer from its beginning, so transactions are serial and Lock has nothing to
// do; readers outside see what is committed and wait for nobody. A second
// process may open the same file (the operator's command does); then either waits
// for the other's transactions too.
//
// On PostgreSQL transactions run side by side at READ COMMITTED, Lock is an
// advisory lock, and rows are locked FOR UPDATE. A deadlock or serialization
// failure is store.ErrRaced.
//
// On MariaDB the same, but Lock takes a row of the table nacre_lock (1,024 classes
// of keys, so that two keys may share one), Options.Wait is rounded up to seconds,
// and a statement by itself is a transaction, since one that waits goes on in the
// database when its caller has left. A caller that leaves a transaction while it
// waits leaves its locks for that long, too. DDL commits at once there: Migrate
// takes back what it made when it fails, and takes up what a crash left.
//
// On all, a wait for another transaction ends with the context, or after
// Options.Wait with an nacre.Unavailable.
//
// # In the database
//
// Tables and columns have the names of the schema; an index has its table's
// name and two underscores before its own. Times are microseconds in a 64-bit
// integer, JSON is text as it was written, and text is compared by bytes. Every
// column that may not be NULL has its zero value as default, so that a program
// which does not know a new column can still insert. row_rev counts the changes
// of a row. nacre_schema holds each area's version. On MariaDB text is in binary
// columns; one that is the key or in an index takes 1,024 bytes at most, less where
// an index has more than three such columns, and a longer value is nacre.Invalid.
//
// # In the process
//
// On Linux the first OpenSQLite gives the process's SQLite (modernc.org/sqlite) other
// mutexes than the driver's, which are slow there. A connection's own is none, so that,
// as database/sql has it, one goroutine at a time may use a connection. In a program
// that has opened a database with that driver before, all stays as it is.
//
// # How it is built
//
// Conditions become SQL in where.go, the same for all databases but for what
// dialect.go and its implementations say. Statements of a fixed shape have
// placeholders (on SQLite they stay prepared); long lists of values are written
// into the text by bun, which also quotes names.
package bunstore
