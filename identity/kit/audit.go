package kit

import (
	"context"
	"fmt"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/store"
)

// Audit collects what refers to nothing. Each sub-area says of its own tables; it
// sees a moment per table, so what changes meanwhile may be reported: ask again.
type Audit struct {
	// Ctx is that of the whole audit.
	Ctx context.Context //nolint:containedctx // one audit is one call
	// Findings are what was found. Err has ended the audit, if it is set.
	Findings []nacre.Finding
	Err      error

	kind string
}

// Found notes a problem of a row of the table that is walked.
func (a *Audit) Found(id, problem string) {
	a.Findings = append(a.Findings, nacre.Finding{Area: "identity", Kind: a.kind, ID: id, Problem: problem})
}

// Refers notes a reference to something that is not there.
func (a *Audit) Refers(id, what, to string, known map[string]bool) {
	if to != "" && !known[to] {
		a.Found(id, fmt.Sprintf("its %s %s is not there", what, to))
	}
}

// Keys are the keys of a table.
func Keys[T any](a *Audit, t *store.Table[T], id func(T) string) map[string]bool {
	out := map[string]bool{}
	Each(a, "", t, id, func(v T) { out[id(v)] = true })
	return out
}

// Each walks a table a page at a time, by its key.
func Each[T any](a *Audit, kind string, t *store.Table[T], id func(T) string, fn func(T)) {
	const page = 1000
	a.kind = kind
	sel := store.Select{Limit: page}
	for a.Err == nil {
		var rows []T
		if rows, a.Err = t.Select(a.Ctx, sel); a.Err != nil {
			return
		}
		for _, r := range rows {
			fn(r)
		}
		if len(rows) < page {
			return
		}
		sel.After = []any{id(rows[len(rows)-1])}
	}
}
