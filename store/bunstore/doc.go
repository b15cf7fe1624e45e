// Package bunstore keeps rows in SQLite (the embedded default) or PostgreSQL.
//
//	engine, err := bunstore.OpenSQLite("/var/lib/nacre/identity.db", bunstore.Options{})
//	engine, err := bunstore.OpenPostgres("postgres://nacre@db/identity", bunstore.Options{})
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
// On both, a wait for another transaction ends with the context, or after
// Options.Wait with an nacre.Unavailable.
//
// # In the database
//
// Tables and columns have the names of the schema; an index has its table's
// name and two underscores before its own. Times are microseconds in a 64-bit
// integer, JSON is text as it was written, and text is compared by bytes. Every
// column that may not be NULL has its zero value as default, so that a program
// which does not know a new column can still insert. row_rev counts the changes
// of a row. nacre_schema holds each area's version.
//
// # How it is built
//
// Conditions become SQL in where.go, the same for both databases but for what
// dialect.go and its two implementations say. Statements of a fixed shape have
// placeholders (on SQLite they stay prepared); long lists of values are written
// into the text by bun, which also quotes names.
package bunstore
