package bunstore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nacre-cloud/nacre/store"
)

// query is a statement: text with the dialect's placeholders, and its arguments.
type query struct {
	text string
	args []any
	// once is a text that will hardly come again, so that preparing is of no use.
	once bool
}

func plain(text string) query { return query{text: text, once: true} }

// maxPrepared bounds the statements that a connection keeps prepared.
const maxPrepared = 400

// session is one connection, with its prepared statements where it keeps any.
type session struct {
	conn  *sql.Conn
	stmts map[string]*sql.Stmt
	// broken connections are not used again.
	broken bool
}

// prepared is the statement prepared, or nil when it is better run as it is.
func (s *session) prepared(ctx context.Context, q query) (*sql.Stmt, error) {
	if s.stmts == nil || q.once {
		return nil, nil
	}
	if st := s.stmts[q.text]; st != nil {
		return st, nil
	}
	st, err := s.conn.PrepareContext(ctx, q.text)
	if err != nil {
		return nil, err
	}
	if len(s.stmts) >= maxPrepared {
		for text, old := range s.stmts {
			old.Close()
			delete(s.stmts, text)
			break
		}
	}
	s.stmts[q.text] = st
	return st, nil
}

// noted remembers that the connection is gone.
func (s *session) noted(err error) error {
	if errors.Is(err, sql.ErrConnDone) || errors.Is(err, driver.ErrBadConn) {
		s.broken = true
	}
	return err
}

func (s *session) exec(ctx context.Context, q query) (int64, error) {
	n, err := s.execute(ctx, q)
	return n, s.noted(err)
}

func (s *session) execute(ctx context.Context, q query) (int64, error) {
	st, err := s.prepared(ctx, q)
	if err != nil {
		return 0, err
	}
	var res sql.Result
	if st != nil {
		res, err = st.ExecContext(ctx, q.args...)
	} else {
		res, err = s.conn.ExecContext(ctx, q.text, q.args...)
	}
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

// query calls each for every row.
func (s *session) query(ctx context.Context, q query, each func(*sql.Rows) error) error {
	return s.noted(s.ask(ctx, q, each))
}

func (s *session) ask(ctx context.Context, q query, each func(*sql.Rows) error) error {
	st, err := s.prepared(ctx, q)
	if err != nil {
		return err
	}
	var rows *sql.Rows
	if st != nil {
		rows, err = st.QueryContext(ctx, q.args...)
	} else {
		rows, err = s.conn.QueryContext(ctx, q.text, q.args...)
	}
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := each(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

func (s *session) close() error {
	for _, st := range s.stmts {
		st.Close()
	}
	return s.conn.Close()
}

// pool is a bounded set of sessions. A keeping one holds on to its connections
// and their prepared statements; any other gives them back to database/sql.
type pool struct {
	db   *sql.DB
	keep bool
	// slots holds one element per session in use.
	slots chan struct{}
	// full says that the server has no more connections to give; nil where there is no
	// such thing. Then a session waits for one of the others, and returned is pinged
	// when one is given back.
	full     func(error) bool
	returned chan struct{}

	mu   sync.Mutex
	idle []*session
	// holders are the transactions that have a session.
	holders map[*tx]struct{}
}

func newPool(db *sql.DB, size int, keep bool) *pool {
	db.SetMaxOpenConns(size)
	db.SetMaxIdleConns(size)
	return &pool{db: db, keep: keep, slots: make(chan struct{}, size), returned: make(chan struct{}, 1), holders: map[*tx]struct{}{}}
}

// idleTime is how long a connection to a server is kept that nobody uses: others may
// need it.
const idleTime = 5 * time.Second

// serverPool is one of connections to a server that has only so many.
func serverPool(db *sql.DB, size int, full func(error) bool) *pool {
	db.SetConnMaxIdleTime(idleTime)
	p := newPool(db, size, false)
	p.full = full
	return p
}

// acquire waits for a free session: as long as the context allows, and no longer
// than patience.
func (p *pool) acquire(ctx context.Context, patience time.Duration) (*session, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	end := time.Now().Add(patience)
	select {
	case p.slots <- struct{}{}:
	default:
		timer := time.NewTimer(patience)
		defer timer.Stop()
		select {
		case p.slots <- struct{}{}:
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-timer.C:
			return nil, store.Busy(patience, p.holder())
		}
	}
	p.mu.Lock()
	if n := len(p.idle); n > 0 {
		s := p.idle[n-1]
		p.idle = p.idle[:n-1]
		p.mu.Unlock()
		return s, nil
	}
	p.mu.Unlock()
	conn, err := p.connect(ctx, end)
	if err != nil {
		<-p.slots
		return nil, err
	}
	s := &session{conn: conn}
	if p.keep {
		s.stmts = map[string]*sql.Stmt{}
	}
	return s, nil
}

// connect gets a connection of database/sql. Where the server has no more to give, those
// that we have go round, and now and then it is asked again, until the end.
func (p *pool) connect(ctx context.Context, end time.Time) (*sql.Conn, error) {
	for {
		conn, err := p.db.Conn(ctx)
		if err == nil || p.full == nil || !p.full(err) || time.Now().After(end) {
			return conn, err
		}
		timer := time.NewTimer(200 * time.Millisecond)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil, err
		case <-p.returned:
			timer.Stop()
		case <-timer.C:
		}
	}
}

func (p *pool) release(s *session) {
	if p.keep && !s.broken {
		p.mu.Lock()
		p.idle = append(p.idle, s)
		p.mu.Unlock()
	} else {
		s.close()
		select {
		case p.returned <- struct{}{}:
		default:
		}
	}
	<-p.slots
}

// held and freed note which transactions have sessions.
func (p *pool) held(x *tx) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.holders[x] = struct{}{}
}

func (p *pool) freed(x *tx) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.holders, x)
}

// holder names the transaction that has been running longest.
func (p *pool) holder() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var oldest *tx
	for x := range p.holders {
		if oldest == nil || x.begun.Before(oldest.begun) {
			oldest = x
		}
	}
	if oldest == nil {
		return "single statements"
	}
	return fmt.Sprintf("the transaction begun %v ago at %s", time.Since(oldest.begun).Round(time.Millisecond), oldest.Site)
}

// close closes the idle sessions and the database; nothing may be in use.
func (p *pool) close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.idle {
		s.close()
	}
	p.idle = nil
	return p.db.Close()
}
