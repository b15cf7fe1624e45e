// Package memstore keeps rows in memory: the fastest store for tests and the
// embedded cloud, and the oracle that other engines are compared with.
//
//	engine := memstore.New(memstore.Options{})
//	defer engine.Close()
//	err := engine.Migrate(ctx, schema, true)
//
// Nothing survives Close. Several engines in one process share nothing.
//
// # What it promises
//
// Transactions are serial by default: one at a time, from their beginning, so
// Lock and the row locks have nothing to do. Whoever reads outside a transaction
// sees what is committed, at once and without waiting for a running one. A wait
// for another transaction ends with the context, or after Options.Wait with an
// nacre.Unavailable whose cause names where the holder began.
//
// With Options.ReadCommitted transactions run side by side as a database's do at
// that isolation level: each statement sees what is committed by then, writers
// of one row or one unique key wait for each other and then look again, keys of
// Lock exclude, and of two that wait for each other one gets store.ErrRaced. Use
// it in tests to show that code relies on no more.
//
// # How it is built
//
// A table is a map of rows by primary key, with ordered lists by key and by each
// index. Rows are never changed in place. A transaction writes to an overlay per
// table, which is merged at commit. A condition that fixes the key or the
// leading columns of an index (by Eq, In, IsNull or InSelect, also in every
// branch of an Or) finds its rows there; any other walks the table.
package memstore
