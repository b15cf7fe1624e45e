package store

// Op is what a Where does.
type Op uint8

// The operators. The zero Op matches every row.
const (
	OpAll Op = iota
	OpEq
	OpIn
	OpLess
	OpLessEq
	OpGreater
	OpGreaterEq
	OpPrefix
	OpSuffix
	OpContains
	OpMatch
	OpIsNull
	OpAnd
	OpOr
	OpNot
	OpInSelect
)

// Where is a condition on rows. Build it with the functions below; engines read
// its fields. Comparisons with NULL are false on every engine, and so is their
// negation by Not (SQL's three-valued logic), except where IsNull is asked.
type Where struct {
	Op     Op
	Column string
	// Value is the operand of Eq, the comparisons, and the text operators.
	Value any
	// Values are In's operands.
	Values []any
	// Fold compares text without case: ASCII letters only, on every engine.
	Fold bool
	// Sub are the operands of And, Or and Not.
	Sub []Where
	// Table and Pick are InSelect's: Column is in the Pick column of Table's
	// rows that match Sub[0].
	Table *TableDef
	Pick  string
}

// All matches every row.
func All() Where { return Where{} }

// Eq is column = v; a nil v is IsNull.
func Eq(column string, v any) Where {
	if v = normal(v); v == nil {
		return IsNull(column)
	}
	return Where{Op: OpEq, Column: column, Value: v}
}

// Ne is column <> v, true for NULL too.
func Ne(column string, v any) Where {
	if normal(v) == nil {
		return Not(IsNull(column))
	}
	return Or(IsNull(column), Not(Eq(column, v)))
}

// In is column in (vs); nothing matches an empty list.
func In[V any](column string, vs []V) Where {
	w := Where{Op: OpIn, Column: column, Values: make([]any, 0, len(vs))}
	for _, v := range vs {
		w.Values = append(w.Values, normal(v))
	}
	return w
}

// Less is column < v.
func Less(column string, v any) Where { return Where{Op: OpLess, Column: column, Value: normal(v)} }

// LessEq is column <= v.
func LessEq(column string, v any) Where { return Where{Op: OpLessEq, Column: column, Value: normal(v)} }

// Greater is column > v.
func Greater(column string, v any) Where {
	return Where{Op: OpGreater, Column: column, Value: normal(v)}
}

// GreaterEq is column >= v.
func GreaterEq(column string, v any) Where {
	return Where{Op: OpGreaterEq, Column: column, Value: normal(v)}
}

// Prefix matches text that begins with s, taken literally.
func Prefix(column, s string) Where { return Where{Op: OpPrefix, Column: column, Value: s} }

// Suffix matches text that ends with s, taken literally.
func Suffix(column, s string) Where { return Where{Op: OpSuffix, Column: column, Value: s} }

// Contains matches text that holds s, taken literally.
func Contains(column, s string) Where { return Where{Op: OpContains, Column: column, Value: s} }

// Match matches text against a regular expression (RE2 syntax, unanchored). An
// engine that cannot narrows by the other conditions and filters the rows.
func Match(column, expr string) Where { return Where{Op: OpMatch, Column: column, Value: expr} }

// Fold makes a text condition ignore the case of ASCII letters.
func Fold(w Where) Where { w.Fold = true; return w }

// IsNull is column IS NULL.
func IsNull(column string) Where { return Where{Op: OpIsNull, Column: column} }

// And is all of them; And of nothing matches every row.
func And(ws ...Where) Where {
	kept := make([]Where, 0, len(ws))
	for _, w := range ws {
		if w.Op != OpAll {
			kept = append(kept, w)
		}
	}
	switch len(kept) {
	case 0:
		return All()
	case 1:
		return kept[0]
	}
	return Where{Op: OpAnd, Sub: kept}
}

// Or is any of them; Or of nothing matches no row.
func Or(ws ...Where) Where {
	if len(ws) == 1 {
		return ws[0]
	}
	return Where{Op: OpOr, Sub: ws}
}

// Not negates.
func Not(w Where) Where { return Where{Op: OpNot, Sub: []Where{w}} }

// InSelect is column in (select pick from t where w), t being a table of the
// same engine.
func InSelect(column string, t Definer, pick string, w Where) Where {
	return Where{Op: OpInSelect, Column: column, Table: t.Def(), Pick: pick, Sub: []Where{w}}
}

// Definer is anything that has a table definition: a *Table[T] of any T.
type Definer interface{ Def() *TableDef }
