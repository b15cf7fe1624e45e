package store

import (
	"fmt"
	"math"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/nacre-cloud/nacre"
)

// The Check methods are for engines: every engine refuses the same input, with
// the same error, before it reaches a database. Text that not every database can
// hold (a NUL byte, bytes that are no UTF-8) is nacre.Invalid, as is a regular
// expression that does not compile, since both may come from a user. All else is
// a fault in the program.

// CheckRows checks rows to be inserted.
func (t *TableDef) CheckRows(rows []Row) error {
	for i := range rows {
		vals := rows[i].Values
		if len(vals) != len(t.Columns) {
			return fmt.Errorf("store: %s has %d columns, the row %d", t.Name, len(t.Columns), len(vals))
		}
		for j := range t.Columns {
			c := &t.Columns[j]
			if vals[j] == nil && !c.Null {
				return t.wrong(c, "must not be NULL")
			}
			if err := t.checkValue(c, vals[j]); err != nil {
				return err
			}
		}
	}
	return nil
}

// CheckSet checks an update: known columns, fitting values, not the key.
func (t *TableDef) CheckSet(set Set) error {
	if len(set) == 0 {
		return fmt.Errorf("store: %s: an update of no column", t.Name)
	}
	for name, v := range set {
		c, err := t.column(name)
		if err != nil {
			return err
		}
		if name == t.Key {
			return t.wrong(c, "can't be changed")
		}
		if _, ok := v.(Increment); ok {
			if c.Type != Int {
				return t.wrong(c, "is no integer to add to")
			}
			continue
		}
		if v == nil && !c.Null {
			return t.wrong(c, "must not be NULL")
		}
		if err := t.checkValue(c, v); err != nil {
			return err
		}
	}
	return nil
}

// CheckSelect checks a select.
func (t *TableDef) CheckSelect(q Select) error {
	if q.Limit < 0 {
		return fmt.Errorf("store: %s: negative limit", t.Name)
	}
	for i, o := range q.Order {
		c, err := t.column(o.Column)
		if err != nil {
			return err
		}
		if c.Type == JSON || c.Type == Bytes {
			return t.wrong(c, "has no order")
		}
		if q.After != nil && i < len(q.After) {
			if err := t.checkValue(c, q.After[i]); err != nil {
				return err
			}
		}
	}
	if q.After != nil {
		if len(q.After) != len(q.Order)+1 {
			return fmt.Errorf("store: %s: a position of %d values for %d sort keys and the primary key", t.Name, len(q.After), len(q.Order))
		}
		if s, ok := q.After[len(q.Order)].(string); !ok || CheckText(s) != nil {
			return fmt.Errorf("store: %s: a position without a primary key", t.Name)
		}
	}
	return t.CheckWhere(q.Where)
}

// CheckAggregate checks an aggregate: sums are of integers, a maximum is of
// anything with an order.
func (t *TableDef) CheckAggregate(q Aggregate) error {
	for _, name := range q.By {
		c, err := t.column(name)
		if err != nil {
			return err
		}
		if c.Type == JSON || c.Type == Bytes {
			return t.wrong(c, "can't be grouped by")
		}
	}
	for _, name := range q.Sum {
		c, err := t.column(name)
		if err != nil {
			return err
		}
		if c.Type != Int {
			return t.wrong(c, "is no integer to sum")
		}
	}
	if q.Max != "" {
		c, err := t.column(q.Max)
		if err != nil {
			return err
		}
		if c.Type == JSON || c.Type == Bytes || c.Type == Bool {
			return t.wrong(c, "has no maximum")
		}
	}
	return t.CheckWhere(q.Where)
}

// CheckWhere checks a condition.
func (t *TableDef) CheckWhere(w Where) error {
	switch w.Op {
	case OpAll:
		return nil
	case OpAnd, OpOr, OpNot:
		if w.Op == OpNot && len(w.Sub) != 1 {
			return fmt.Errorf("store: %s: Not of %d conditions", t.Name, len(w.Sub))
		}
		for i := range w.Sub {
			if err := t.CheckWhere(w.Sub[i]); err != nil {
				return err
			}
		}
		return nil
	}
	c := &revColumn
	if w.Column != RevColumn {
		var err error
		if c, err = t.column(w.Column); err != nil {
			return err
		}
	}
	if w.Op == OpIsNull {
		return nil
	}
	if c.Type == JSON {
		return t.wrong(c, "is JSON and can't be compared")
	}
	if w.Fold && c.Type != Text {
		return t.wrong(c, "is no text to fold")
	}
	switch w.Op {
	case OpEq, OpLess, OpLessEq, OpGreater, OpGreaterEq:
		return t.checkValue(c, w.Value)
	case OpIn:
		for _, v := range w.Values {
			if err := t.checkValue(c, v); err != nil {
				return err
			}
		}
		return nil
	case OpPrefix, OpSuffix, OpContains, OpMatch:
		s, ok := w.Value.(string)
		if c.Type != Text || !ok {
			return t.wrong(c, "is no text, or the operand is none")
		}
		if w.Op == OpMatch {
			_, err := w.Regexp()
			return err
		}
		return CheckText(s)
	case OpInSelect:
		return t.checkInSelect(c, w)
	}
	return fmt.Errorf("store: %s: unknown operator %d", t.Name, w.Op)
}

func (t *TableDef) checkInSelect(c *Column, w Where) error {
	if w.Table == nil || len(w.Sub) != 1 || w.Fold {
		return t.wrong(c, "has a malformed sub-select")
	}
	p, err := w.Table.column(w.Pick)
	if err != nil {
		return err
	}
	if p.Type != c.Type {
		return t.wrong(c, "and "+w.Table.Name+"."+w.Pick+" have different types")
	}
	return w.Table.CheckWhere(w.Sub[0])
}

// Regexp compiles the operand of Match. A bad one is nacre.Invalid.
func (w Where) Regexp() (*regexp.Regexp, error) {
	s, _ := w.Value.(string)
	expr := s
	if w.Fold {
		expr = "(?i:" + s + ")"
	}
	re, err := regexp.Compile(expr)
	if err == nil {
		err = CheckText(s)
	}
	if err != nil {
		return nil, &nacre.Error{Kind: nacre.Invalid, Code: "bad_regexp", Message: "Invalid regular expression", Err: err}
	}
	return re, nil
}

// CheckText refuses text that not every database can hold.
func CheckText(s string) error {
	if strings.IndexByte(s, 0) >= 0 || !utf8.ValidString(s) {
		return &nacre.Error{Kind: nacre.Invalid, Code: "bad_text", Message: "Text must be valid UTF-8 without NUL characters"}
	}
	return nil
}

var revColumn = Column{Name: RevColumn, Type: Int}

func (t *TableDef) column(name string) (*Column, error) {
	if i := t.Pos(name); i >= 0 {
		return &t.Columns[i], nil
	}
	return nil, fmt.Errorf("store: %s has no column %q", t.Name, name)
}

func (t *TableDef) checkValue(c *Column, v any) error {
	ok := true
	switch x := v.(type) {
	case nil:
	case string:
		if ok = c.Type == Text; ok {
			return CheckText(x)
		}
	case int64:
		ok = c.Type == Int || c.Type == Time
	case bool:
		ok = c.Type == Bool
	case float64:
		ok = c.Type == Float && !math.IsNaN(x) && !math.IsInf(x, 0)
	case []byte:
		if ok = c.Type == Bytes || c.Type == JSON; ok && c.Type == JSON && !utf8.Valid(x) {
			return CheckText(string(x))
		}
	default:
		ok = false
	}
	if !ok {
		return t.wrong(c, fmt.Sprintf("can't hold or be compared with %T", v))
	}
	return nil
}

func (t *TableDef) wrong(c *Column, what string) error {
	return fmt.Errorf("store: %s.%s %s", t.Name, c.Name, what)
}
