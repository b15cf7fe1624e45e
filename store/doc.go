// Package store is how every area keeps its rows: one small [Engine] interface
// that a database implements once, and [Table], its typed face.
//
// # Tables
//
// A resource is a plain struct whose fields carry `store` tags; it has no
// storage behaviour. Tags are parsed once, by [NewTable]:
//
//	type User struct {
//		ID       string            `store:"id,pk"`
//		DomainID string            `store:"domain_id,unique=user_name"`
//		Name     string            `store:"name,unique=user_name"`
//		Email    string            `store:"email,null,index=user_email"`
//		Extra    map[string]any    `store:"extra,json"`
//		Created  time.Time         `store:"created_at"`
//	}
//
// The first word is the column. Options: pk (exactly one, a string), null (the
// zero value is stored as NULL), json (stored as JSON text), unique=NAME and
// index=NAME (fields that share a name make one index, in field order; a field
// may carry several). A tag of "-" or none leaves a field out. Embedded structs
// are flattened. NULLs are distinct in a unique index, on every engine.
//
// Columns hold text, 64-bit integers, booleans, floats, bytes, times and JSON.
// A time is kept as microseconds since 1970 UTC, so that it is equal on every
// engine. Every table has a hidden revision column, by which an update notices
// that somebody was faster.
//
// # Transactions
//
// [InTx] runs a function in a transaction that travels in the context; a nested
// InTx joins it. The outermost function is run again, five times at most, when
// it lost a race or a serialisation failure, and must therefore have no effects
// but on this engine. The context key belongs to one engine. Edges, buses and
// drivers call [Outside] first and so refuse to be called inside. A failed
// statement dooms its transaction. Code may rely on READ COMMITTED, no more:
// whoever counts or chooses under a limit takes [Lock] first.
//
// # Two releases at once
//
// A release goes on with a database that the next one has migrated, so that copies are
// replaced one after the other: `nacre db migrate` of the new release first, beneath the
// old one's programs, and then each program. So a schema only grows. A new column has a
// default on every engine; JSON columns keep fields that a program does not know, in what
// it changes of their rows, and ignore them. A program does not start on a database older
// than it. What a release no longer has (a column, a unique index, a work's step) goes one
// release after the last that used it. internal/released holds tables, messages and work
// to those of the release that tools/previous-release names, of which its files are.
//
// # Engines
//
// store/memstore (maps; tests and the embedded cloud) and store/bunstore
// (SQLite, PostgreSQL, MariaDB). store/storetest is the contract that each passes.
package store
