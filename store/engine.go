package store

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/nacre-cloud/nacre"
)

// Engine is a database. It never sees a resource's Go type: rows are column
// values in the order of TableDef.Columns.
//
// Values are nil, string, int64, bool, float64 or []byte, by the column's
// [ColumnType] (Time is int64 microseconds; JSON is []byte). An engine neither
// keeps nor hands out memory that it shares with the caller.
//
// Errors: a unique violation is [Duplicate] naming the index; a lost race or a
// serialisation failure is [ErrRaced]; a database that does not answer is an
// *nacre.Error of kind Unavailable.
//
// Each call runs in the context's transaction when the context carries one of
// this engine (see InTx), else alone. A context whose transaction has finished
// is an error, never a fall-back.
type Engine interface {
	// Migrate brings the database to the schema: creates everything when it is
	// new, else runs the forward steps that are missing. Idempotent. With
	// apply false it changes nothing and fails with [ErrSchema] when anything
	// is missing.
	Migrate(ctx context.Context, s *Schema, apply bool) error
	// Get is the row with that primary key, or ErrNoRow. In a transaction with
	// forUpdate the row stays locked until its end, where the engine can.
	Get(ctx context.Context, t *TableDef, id string, forUpdate bool) (Row, error)
	// Select returns whole slices, in the order asked. NULL sorts lowest and
	// text by bytes; the primary key is always the last sort key.
	Select(ctx context.Context, t *TableDef, q Select) ([]Row, error)
	// Aggregate counts, sums and groups.
	Aggregate(ctx context.Context, t *TableDef, q Aggregate) ([]Group, error)
	// Insert adds rows, all or none.
	Insert(ctx context.Context, t *TableDef, rows []Row) error
	// Update sets columns of the rows that match, increases their revision and
	// says how many there were. With Where on [RevColumn] it is a compare-and-swap.
	Update(ctx context.Context, t *TableDef, w Where, set Set) (int64, error)
	// Delete removes the rows that match and says how many there were.
	Delete(ctx context.Context, t *TableDef, w Where) (int64, error)
	// InTx runs fn once in one new transaction, with the context of WithTx.
	// Callers use the package function InTx, which joins and runs again.
	InTx(ctx context.Context, fn func(ctx context.Context) error) error
	// Lock serialises against others that lock the same key, until the
	// transaction ends. Keys are taken in the order given (the package function
	// Lock sorts them). A no-op where writers are serial. It needs a transaction.
	Lock(ctx context.Context, keys []string) error
	// Close ends all use. It waits for running transactions.
	Close() error
}

// Row is one row's values, in the order of TableDef.Columns. Rows that an engine
// returns carry the revision too.
type Row struct {
	Values []any
	Rev    int64
}

// Set names columns and their new values. A value may be [Increment].
type Set map[string]any

// Increment in a Set adds to an integer column.
type Increment int64

// RevColumn is the hidden revision column's name, for a compare-and-swap Where.
const RevColumn = "row_rev"

// Select asks for rows.
type Select struct {
	Where Where
	Order []Order
	// After is the keyset position: rows that sort strictly after these values,
	// one per Order entry and one for the primary key at the end. Nil: from the start.
	After []any
	// Limit is the most rows; 0 means all.
	Limit int
	// ForUpdate locks the rows (skipping those that another locks) where the
	// engine can, for claiming work. Only in a transaction.
	ForUpdate bool
}

// Order is one sort key.
type Order struct {
	Column string
	Desc   bool
}

// Aggregate asks for counts and sums, per group when By is set.
type Aggregate struct {
	Where Where
	By    []string
	Sum   []string
	// Max is one column whose greatest value is wanted per group; may be empty.
	Max string
}

// Group is one line of an aggregate's answer: the values of By in order, the
// number of rows, the sums in order (NULL counts as 0), and the maximum.
type Group struct {
	Key   []any
	Count int64
	Sums  []int64
	Max   any
}

var (
	// ErrNoRow is a row that is not there. It is an nacre.NotFound.
	ErrNoRow = &nacre.Error{Kind: nacre.NotFound, Code: "no_row", Message: "no such row"}
	// ErrRaced is a lost race; InTx runs the outermost function again.
	ErrRaced = errors.New("store: another transaction was faster")
	// ErrSchema is a database that is not at the schema the program needs.
	ErrSchema = errors.New("store: the database needs `nacre db migrate`")
	// ErrTx is a misuse of transactions: a finished one's context, another
	// engine's inside it, or an edge called within one.
	ErrTx = errors.New("store: wrong use of a transaction")
)

// Duplicate is the error of an insert or update that a unique index forbids:
// nacre.Conflict, with the index's name as its Code ("PRIMARY" for the key).
func Duplicate(table, index string) error {
	return &nacre.Error{Kind: nacre.Conflict, Code: index, Message: fmt.Sprintf("duplicate entry for %s.%s", table, index)}
}

// IsDuplicate reports whether err is a violation of the named unique index, or
// of any when none is named.
func IsDuplicate(err error, index ...string) bool {
	var e *nacre.Error
	if !errors.As(err, &e) || e.Kind != nacre.Conflict || !strings.HasPrefix(e.Message, "duplicate entry for ") {
		return false
	}
	for _, name := range index {
		if e.Code == name {
			return true
		}
	}
	return len(index) == 0
}
