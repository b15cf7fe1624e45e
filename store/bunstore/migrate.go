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

// Migrate implements store.Engine. All of it is one transaction.
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
	x := &tx{Guard: store.NewGuard(store.Here()), begun: time.Now()}
	return e.run(ctx, x, func(ctx context.Context) error { return e.migrate(ctx, x, s) })
}

// ddl is one statement that the database lacks.
type ddl struct {
	what string
	sql  string
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
	have, err := e.dialect.tables(ctx, ses)
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
		if !have[def.Name] {
			m.steps = append(m.steps, ddl{"table " + def.Name, e.createTable(def), def})
		} else {
			for i := range def.Columns {
				if c := &def.Columns[i]; !have[def.Name+"."+c.Name] {
					m.steps = append(m.steps, ddl{"column " + def.Name + "." + c.Name, e.addColumn(def, c), def})
				}
			}
		}
		for _, ix := range def.Indexes {
			if !have[indexName(def.Name, ix.Name)] {
				m.steps = append(m.steps, ddl{"index " + ix.Name, e.createIndex(def, ix), def})
			}
		}
	}
	return m, nil
}

func (e *Engine) createTable(def *store.TableDef) string {
	w := &builder{d: e.dialect}
	w.str("CREATE TABLE ").ident(def.Name).str(" (")
	for i := range def.Columns {
		w.column(def, &def.Columns[i]).str(", ")
	}
	w.ident(store.RevColumn).str(" " + e.dialect.columnType(store.Int) + " NOT NULL DEFAULT 1)" + e.dialect.tableOptions())
	return string(w.b)
}

func (w *builder) column(def *store.TableDef, c *store.Column) *builder {
	w.ident(c.Name).str(" " + w.d.columnType(c.Type))
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

// migrate looks again, now that nobody else migrates, and does what is missing.
func (e *Engine) migrate(ctx context.Context, x *tx, s *store.Schema) error {
	if err := e.Lock(ctx, []string{stampTable}); err != nil {
		return err
	}
	var m migration
	err := x.Statement(ctx, func() (err error) {
		if m, err = e.look(ctx, x.s, s); err != nil {
			return e.failure(ctx, err, nil)
		}
		for _, step := range m.steps {
			if _, err := x.s.exec(ctx, plain(step.sql)); err != nil {
				return fmt.Errorf("store: making %s: %w", step.what, e.failure(ctx, err, step.def))
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if m.stamped {
		if err := e.runSteps(ctx, x, s, m.stamp); err != nil {
			return err
		}
	}
	return x.Statement(ctx, func() error { return e.failure(ctx, e.stamp(ctx, x.s, s, m), nil) })
}

func (e *Engine) runSteps(ctx context.Context, x *tx, s *store.Schema, stamp int) error {
	steps := slices.SortedFunc(slices.Values(s.Steps), func(a, b store.Step) int { return a.Version - b.Version })
	for _, step := range steps {
		if step.Version <= stamp {
			continue
		}
		for _, name := range step.Drop {
			table, index, _ := strings.Cut(name, ".")
			w := (&builder{d: e.dialect}).str("DROP INDEX IF EXISTS ").ident(indexName(table, index))
			if err := x.Statement(ctx, func() error { _, err := x.s.exec(ctx, plain(string(w.b))); return e.failure(ctx, err, nil) }); err != nil {
				return fmt.Errorf("store: %s: step %d (%s): index %s: %w", s.Area, step.Version, step.Name, name, err)
			}
		}
		if step.Fill == nil {
			continue
		}
		if err := step.Fill(ctx, e); err != nil {
			return fmt.Errorf("store: %s: step %d (%s): %w", s.Area, step.Version, step.Name, err)
		}
	}
	return nil
}

func (e *Engine) stamp(ctx context.Context, ses *session, s *store.Schema, m migration) error {
	if !m.hasHome {
		d := e.dialect
		sql := fmt.Sprintf("CREATE TABLE %s (area %s NOT NULL PRIMARY KEY, version %s NOT NULL)%s",
			stampTable, d.columnType(store.Text), d.columnType(store.Int), d.tableOptions())
		if _, err := ses.exec(ctx, plain(sql)); err != nil {
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
