package bunstore

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nacre-cloud/nacre/store"
)

// stampTable holds each area's version.
const stampTable = "nacre_schema"

// Migrate implements store.Engine. All of it is one transaction, where the
// database can do that; see mariaDialect.migrating for where it can't.
func (e *Engine) Migrate(ctx context.Context, s *store.Schema, apply bool) error {
	if x, err := e.tx(ctx); err != nil || x != nil {
		return fmt.Errorf("%w: Migrate within a transaction", store.ErrTx)
	}
	var m migration
	err := e.reading(ctx, nil, func(ses *session) (err error) {
		m, err = e.look(ctx, ses, s)
		return err
	})
	if err != nil || m.done(s) {
		return err
	}
	if !apply {
		what := fmt.Sprintf("version %d of %s", s.Version, s.Area)
		if len(m.steps) > 0 {
			what = m.steps[0].what
		}
		return fmt.Errorf("%w: there is no %s", store.ErrSchema, what)
	}
	return e.dialect.migrating(ctx, e, s)
}

// ddl is one statement that the database lacks.
type ddl struct {
	what string
	sql  string
	undo string // "" for what may stay
	def  *store.TableDef
}

// migration is how far a database is from a schema.
type migration struct {
	stamp   int
	stamped bool
	hasHome bool // the stamp table is there
	steps   []ddl
}

func (m *migration) done(s *store.Schema) bool {
	return m.stamped && m.stamp >= s.Version && len(m.steps) == 0
}

// look compares the database with the schema.
func (e *Engine) look(ctx context.Context, ses *session, s *store.Schema) (migration, error) {
	var m migration
	have, name := map[string]bool{}, ""
	err := ses.query(ctx, plain(e.dialect.names()), func(rows *sql.Rows) error {
		err := rows.Scan(&name)
		have[name] = true
		return err
	})
	if err != nil {
		return m, err
	}
	if m.hasHome = have[stampTable]; m.hasHome {
		w := &builder{d: e.dialect, once: true}
		w.str("SELECT version FROM " + stampTable + " WHERE area = " + w.arg(s.Area))
		err := ses.query(ctx, w.query(), func(rows *sql.Rows) error {
			m.stamped = true
			return rows.Scan(&m.stamp)
		})
		if err != nil {
			return m, err
		}
	}
	for _, def := range s.Tables {
		m.steps = append(m.steps, e.lookAt(def, have)...)
	}
	return m, nil
}

// lookAt compares one table with its definition.
func (e *Engine) lookAt(def *store.TableDef, have map[string]bool) (steps []ddl) {
	quote := (&builder{d: e.dialect}).quote
	table := quote(def.Name)
	if !have[def.Name] {
		steps = append(steps, ddl{"table " + def.Name, e.createTable(def), "DROP TABLE " + table, def})
	} else {
		for i := range def.Columns {
			if c := &def.Columns[i]; !have[def.Name+"."+c.Name] {
				steps = append(steps, ddl{"column " + def.Name + "." + c.Name, e.addColumn(def, c), "ALTER TABLE " + table + " DROP COLUMN " + quote(c.Name), def})
			}
		}
	}
	for _, ix := range def.Indexes {
		name := indexName(def.Name, ix.Name)
		if have[name] {
			continue
		}
		for _, c := range ix.Columns {
			if text := e.dialect.retype(def, &def.Columns[def.Pos(c)]); text != "" && have[def.Name+"."+c] {
				steps = append(steps, ddl{"column " + def.Name + "." + c + " for index " + ix.Name, text, "", def})
			}
		}
		steps = append(steps, ddl{"index " + ix.Name, e.createIndex(def, ix), e.dialect.dropIndex(table, quote(name)), def})
	}
	return steps
}

func (e *Engine) createTable(def *store.TableDef) string {
	w := &builder{d: e.dialect}
	w.str("CREATE TABLE ").ident(def.Name).str(" (")
	for i := range def.Columns {
		w.column(def, &def.Columns[i]).str(", ")
	}
	w.ident(store.RevColumn).str(" " + e.dialect.columnType(def, &store.Column{Name: store.RevColumn, Type: store.Int}) + " NOT NULL DEFAULT 1)" + e.dialect.tableOptions())
	return string(w.b)
}

func (w *builder) column(def *store.TableDef, c *store.Column) *builder {
	w.ident(c.Name).str(" " + w.d.columnType(def, c))
	switch {
	case c.Name == def.Key:
		w.str(" NOT NULL PRIMARY KEY")
	case !c.Null:
		w.str(" NOT NULL DEFAULT " + w.d.zero(c.Type))
	}
	return w
}

func (e *Engine) addColumn(def *store.TableDef, c *store.Column) string {
	w := &builder{d: e.dialect}
	w.str("ALTER TABLE ").ident(def.Name).str(" ADD COLUMN ").column(def, c)
	return string(w.b)
}

func (e *Engine) createIndex(def *store.TableDef, ix store.Index) string {
	w := &builder{d: e.dialect}
	w.str("CREATE ")
	if ix.Unique {
		w.str("UNIQUE ")
	}
	w.str("INDEX ").ident(indexName(def.Name, ix.Name)).str(" ON ").ident(def.Name).str(" (")
	for i, c := range ix.Columns {
		if i > 0 {
			w.str(", ")
		}
		w.ident(c)
	}
	w.str(")")
	return string(w.b)
}

// whole migrates in one transaction.
func (e *Engine) whole(ctx context.Context, s *store.Schema) error {
	x := &tx{Guard: store.NewGuard(store.Here()), begun: time.Now()}
	return e.run(ctx, x, func(ctx context.Context) error {
		if err := e.Lock(ctx, []string{stampTable}); err != nil {
			return err
		}
		// Look again, now that nobody else migrates.
		var m migration
		err := x.Statement(ctx, func() (err error) {
			if m, err = e.look(ctx, x.s, s); err != nil {
				return e.failure(ctx, err, nil)
			}
			return e.make(ctx, x.s, m, nil)
		})
		if err != nil {
			return err
		}
		for _, step := range m.due(s) {
			if err := x.Statement(ctx, func() error { return e.drop(ctx, x.s, s, step) }); err != nil {
				return err
			}
			if err := e.fill(ctx, s, step); err != nil {
				return err
			}
		}
		return x.Statement(ctx, func() error { return e.failure(ctx, e.stamp(ctx, x.s, s, m), nil) })
	})
}

// fillAndStamp is the part of a migration that can be a transaction where DDL can
// not: indexes that must go first, then the data and the stamp. ses is for DDL.
func (e *Engine) fillAndStamp(ctx context.Context, ses *session, s *store.Schema, m migration) error {
	for _, step := range m.due(s) {
		if err := e.drop(ctx, ses, s, step); err != nil {
			return err
		}
	}
	x := &tx{Guard: store.NewGuard(store.Here()), begun: time.Now()}
	return e.run(ctx, x, func(ctx context.Context) error {
		for _, step := range m.due(s) {
			if err := e.fill(ctx, s, step); err != nil {
				return err
			}
		}
		m.hasHome = true // e.make made it
		return x.Statement(ctx, func() error { return e.failure(ctx, e.stamp(ctx, x.s, s, m), nil) })
	})
}

// make runs the statements that are missing. With undo, which gathers what takes
// them back, it makes the stamp's table too.
func (e *Engine) make(ctx context.Context, ses *session, m migration, undo *[]string) error {
	if undo != nil && !m.hasHome {
		if err := e.makeHome(ctx, ses); err != nil {
			return e.failure(ctx, err, nil)
		}
	}
	for _, step := range m.steps {
		if _, err := ses.exec(ctx, plain(step.sql)); err != nil {
			return fmt.Errorf("store: making %s: %w", step.what, e.failure(ctx, err, step.def))
		}
		if undo != nil && step.undo != "" {
			*undo = append(*undo, step.undo)
		}
	}
	return nil
}

// due are the steps that an older database has before it.
func (m *migration) due(s *store.Schema) (due []store.Step) {
	if !m.stamped {
		return nil
	}
	for _, step := range slices.SortedFunc(slices.Values(s.Steps), func(a, b store.Step) int { return a.Version - b.Version }) {
		if step.Version > m.stamp {
			due = append(due, step)
		}
	}
	return due
}

// drop removes the indexes that a step does without.
func (e *Engine) drop(ctx context.Context, ses *session, s *store.Schema, step store.Step) error {
	quote := (&builder{d: e.dialect}).quote
	for _, name := range step.Drop {
		table, index, _ := strings.Cut(name, ".")
		if _, err := ses.exec(ctx, plain(e.dialect.dropIndex(quote(table), quote(indexName(table, index))))); err != nil {
			return fmt.Errorf("store: %s: step %d (%s): index %s: %w", s.Area, step.Version, step.Name, name, e.failure(ctx, err, nil))
		}
	}
	return nil
}

func (e *Engine) fill(ctx context.Context, s *store.Schema, step store.Step) error {
	if step.Fill == nil {
		return nil
	}
	if err := step.Fill(ctx, e); err != nil {
		return fmt.Errorf("store: %s: step %d (%s): %w", s.Area, step.Version, step.Name, err)
	}
	return nil
}

func (e *Engine) makeHome(ctx context.Context, ses *session) error {
	d := e.dialect
	area, version := &store.Column{Name: "area", Type: store.Text}, &store.Column{Name: "version", Type: store.Int}
	home := &store.TableDef{Name: stampTable, Key: area.Name}
	_, err := ses.exec(ctx, plain(fmt.Sprintf("CREATE TABLE %s (area %s NOT NULL PRIMARY KEY, version %s NOT NULL)%s",
		stampTable, d.columnType(home, area), d.columnType(home, version), d.tableOptions())))
	return err
}

func (e *Engine) stamp(ctx context.Context, ses *session, s *store.Schema, m migration) error {
	if !m.hasHome {
		if err := e.makeHome(ctx, ses); err != nil {
			return err
		}
	}
	w := &builder{d: e.dialect, once: true}
	if m.stamped {
		w.str("UPDATE " + stampTable + " SET version = " + w.arg(int64(max(m.stamp, s.Version))) + " WHERE area = " + w.arg(s.Area))
	} else {
		w.str("INSERT INTO " + stampTable + " (area, version) VALUES (" + w.arg(s.Area) + ", " + w.arg(int64(s.Version)) + ")")
	}
	_, err := ses.exec(ctx, w.query())
	return err
}
