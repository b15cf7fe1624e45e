package identity

import (
	"context"
	"maps"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/store"
)

// revocation says which tokens ended, or (Stale) of which nothing remembered
// may be believed: they must be looked up again.
type revocation struct {
	// ID sorts by time.
	ID string    `store:"id,pk"`
	At time.Time `store:"at,index=revocation_at"`
	// One of these is set, or none: then all tokens are meant.
	AuditID   string `store:"audit_id,null"`
	ChainID   string `store:"audit_chain_id,null"`
	UserID    string `store:"user_id,null"`
	ProjectID string `store:"project_id,null"`
	DomainID  string `store:"domain_id,null"`
	// IssuedBefore bounds what ends: tokens issued then or earlier.
	IssuedBefore time.Time `store:"issued_before"`
	Stale        bool      `store:"stale"`
}

func (r *revocation) key() string {
	switch {
	case r.AuditID != "":
		return "audit " + r.AuditID
	case r.ChainID != "":
		return "chain " + r.ChainID
	case r.UserID != "":
		return "user " + r.UserID
	case r.ProjectID != "":
		return "project " + r.ProjectID
	case r.DomainID != "":
		return "domain " + r.DomainID
	}
	return ""
}

// The bounds of what a process may believe without having read the table.
const (
	syncEvery = 1500 * time.Millisecond
	blindFor  = 10 * time.Second
	// overlap is read again each time: a row's time is that of its statement,
	// and its commit may come later, on a clock that is behind.
	overlap     = time.Minute
	nearOverlap = 5 * time.Second
)

// revocations are the table's rows in memory.
type revocations struct {
	table *store.Table[revocation]
	ttl   time.Duration

	syncing chan struct{} // held while the table is read

	mu     sync.RWMutex
	marks  map[string]mark
	seen   map[string]time.Time // ids of the last minute's rows
	seq    uint64               // of the last change
	synced time.Time            // when sync last began to read
	last   time.Time            // when anything last did
}

// mark is what is known of one key.
type mark struct {
	before time.Time // tokens issued then or earlier ended
	seq    uint64    // what was read before this is stale
	at     time.Time
}

func newRevocations(t *store.Table[revocation], ttl time.Duration) *revocations {
	return &revocations{table: t, ttl: ttl, syncing: make(chan struct{}, 1), marks: map[string]mark{}, seen: map[string]time.Time{}}
}

// keep is how long rows matter: as long as a token that they end could live, and
// a day for those that are shown after their end.
func (r *revocations) keep() time.Duration { return r.ttl + 49*time.Hour }

// sync reads what is new since the last time, and what came late.
func (r *revocations) sync(ctx context.Context) error { return r.read(ctx, false) }

// syncNear reads only what is newest, for a new token: the rows that it misses end
// or reload that token when sync reads them. Those who wait share one reading.
func (r *revocations) syncNear(ctx context.Context) error { return r.read(ctx, true) }

func (r *revocations) read(ctx context.Context, near bool) error {
	came := time.Now()
	select {
	case r.syncing <- struct{}{}:
		defer func() { <-r.syncing }()
	case <-ctx.Done():
		return ctx.Err()
	}
	start := time.Now()
	r.mu.RLock()
	synced, last := r.synced, r.last
	r.mu.RUnlock()
	from := synced.Add(-overlap)
	switch {
	case synced.IsZero():
		from, near = start.Add(-r.keep()), false
	case near && last.After(came):
		return nil
	case near:
		from = last.Add(-nearOverlap)
	}
	ctx, cancel := context.WithTimeout(store.Detach(ctx), blindFor/2)
	defer cancel()
	rows, err := r.table.Where(ctx, store.GreaterEq("at", from))
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range rows {
		r.apply(&rows[i])
	}
	maps.DeleteFunc(r.seen, func(_ string, at time.Time) bool { return at.Before(start.Add(-2 * overlap)) })
	if r.last = start; !near {
		r.synced = start
	}
	return nil
}

// apply notes a row; the lock is held.
func (r *revocations) apply(row *revocation) {
	if _, dup := r.seen[row.ID]; dup {
		return
	}
	r.seen[row.ID] = row.At
	r.seq++
	m := r.marks[row.key()]
	m.seq, m.at = r.seq, time.Now()
	if !row.Stale && row.IssuedBefore.After(m.before) {
		m.before = row.IssuedBefore
	}
	r.marks[row.key()] = m
}

// fresh makes sure that what is known is recent enough, or says Unavailable.
func (r *revocations) fresh(ctx context.Context) error {
	r.mu.RLock()
	age := time.Since(r.synced)
	r.mu.RUnlock()
	if age < syncEvery {
		return nil
	}
	// Somebody who reads already is not waited for while the past still holds.
	if age < blindFor && len(r.syncing) > 0 {
		return nil
	}
	if err := r.sync(ctx); err != nil && age >= blindFor {
		return &nacre.Error{Kind: nacre.Unavailable, Code: "blind", Message: "The identity service can't tell just now which tokens were revoked.", Err: err}
	}
	return nil
}

// now is the number of the last change, to be read before what it guards.
func (r *revocations) now() uint64 {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.seq
}

// check says whether a token ended, and whether what was read of it at seq still
// holds.
func (r *revocations) check(i *TokenInfo, seq uint64) (ended, stale bool) {
	t := &i.Token
	r.mu.RLock()
	defer r.mu.RUnlock()
	look := func(kind, id string) {
		if id == "" {
			return
		}
		var buf [96]byte
		if m, ok := r.marks[string(append(append(buf[:0], kind...), id...))]; ok {
			ended = ended || !t.IssuedAt.After(m.before)
			stale = stale || m.seq > seq
		}
	}
	if m, ok := r.marks[""]; ok {
		ended, stale = !t.IssuedAt.After(m.before), m.seq > seq
	}
	if n := len(t.AuditIDs); n > 0 {
		look("audit ", t.AuditIDs[0])
		look("chain ", t.AuditIDs[n-1])
	}
	look("user ", t.UserID)
	for _, id := range i.others {
		look("user ", id)
	}
	look("project ", t.ProjectID)
	look("domain ", i.User.DomainID)
	if i.Domain != nil {
		look("domain ", i.Domain.ID)
	}
	return ended, stale
}

// issueTime is when a token can be issued so that no revocation before it ends
// it: tokens count whole seconds, so it may be the next one.
func (r *revocations) issueTime(i *TokenInfo, now time.Time) time.Time {
	at := now.Truncate(time.Second)
	r.mu.RLock()
	defer r.mu.RUnlock()
	keys := []string{"", "user " + i.UserID, "project " + i.ProjectID, "domain " + i.User.DomainID, "domain " + i.projectDomain()}
	for _, id := range i.others {
		keys = append(keys, "user "+id)
	}
	for _, key := range keys {
		if m, ok := r.marks[key]; ok && !at.After(m.before) && m.before.Sub(at) < 2*time.Second {
			at = m.before.Truncate(time.Second).Add(time.Second)
		}
	}
	return at
}

// prune removes rows and marks that can't matter any more.
func (r *revocations) prune(ctx context.Context) error {
	old := time.Now().Add(-r.keep())
	r.mu.Lock()
	maps.DeleteFunc(r.marks, func(_ string, m mark) bool { return m.at.Before(old) })
	r.mu.Unlock()
	_, err := r.table.DeleteWhere(ctx, store.Less("at", old))
	return err
}

// revoke records revocations in the context's transaction; they hold in this
// process once it is committed.
func (s *Service) revoke(ctx context.Context, rows ...revocation) error {
	now := time.Now().UTC()
	for i := range rows {
		id, err := uuid.NewV7()
		if err != nil {
			return err
		}
		rows[i].ID, rows[i].At = id.String(), now
		if !rows[i].Stale && rows[i].IssuedBefore.IsZero() {
			rows[i].IssuedBefore = now.Truncate(time.Second)
		}
	}
	store.AfterCommit(ctx, func() {
		s.revoked.mu.Lock()
		defer s.revoked.mu.Unlock()
		for i := range rows {
			s.revoked.apply(&rows[i])
		}
	})
	return s.revocations.Insert(ctx, rows...)
}

// allSeq is the number of the last change that concerns everything.
func (r *revocations) allSeq() uint64 {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.marks[""].seq
}

// RevocationEvent says which tokens ended: those to which each field that is set
// applies and that were issued before.
type RevocationEvent struct {
	AuditID      string `json:"audit_id,omitempty"`
	AuditChainID string `json:"audit_chain_id,omitempty"`
	UserID       string `json:"user_id,omitempty"`
	ProjectID    string `json:"project_id,omitempty"`
	DomainID     string `json:"domain_id,omitempty"`
	// IssuedBefore bounds what ended; RevokedAt is when that was said.
	IssuedBefore, RevokedAt time.Time `json:"-"`
}

// RevocationEvents lists what ended since a time (zero: all that still matters).
// It is for services that validate tokens by themselves.
func (s *Service) RevocationEvents(ctx context.Context, since time.Time) ([]RevocationEvent, error) {
	if err := s.enforce(ctx, "list_revoke_events", nil); err != nil {
		return nil, err
	}
	rows, err := s.revocations.Where(ctx, store.Eq("stale", false), store.Greater("at", since))
	out := make([]RevocationEvent, len(rows))
	for i, r := range rows {
		out[i] = RevocationEvent{r.AuditID, r.ChainID, r.UserID, r.ProjectID, r.DomainID, r.IssuedBefore, r.At}
	}
	return out, err
}
