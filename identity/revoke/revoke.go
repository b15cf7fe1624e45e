package revoke

import (
	"context"
	"maps"
	"time"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/store"
)

// The bounds of what a process may believe without having read the table.
const (
	syncEvery = 1500 * time.Millisecond
	blindFor  = 10 * time.Second
	// overlap is read again each time: a row's time is that of its statement,
	// and its commit may come later, on a clock that is behind.
	overlap     = time.Minute
	nearOverlap = 5 * time.Second
)

// mark is what is known of one key.
type mark struct {
	before time.Time // tokens issued then or earlier ended
	seq    uint64    // what was read before this is stale
	at     time.Time
}

// keep is how long rows matter: as long as a token that they end could live, and
// a day for those that are shown after their end.
func (s *Service) keep() time.Duration { return s.ttl + 49*time.Hour }

// Sync reads what is new since the last time, and what came late.
func (s *Service) Sync(ctx context.Context) error { return s.read(ctx, false) }

// SyncNear reads only what is newest, for a new token: the rows that it misses end
// or reload that token when sync reads them. Those who wait share one reading.
func (s *Service) SyncNear(ctx context.Context) error { return s.read(ctx, true) }

func (s *Service) read(ctx context.Context, near bool) error {
	came := time.Now()
	select {
	case s.syncing <- struct{}{}:
		defer func() { <-s.syncing }()
	case <-ctx.Done():
		return ctx.Err()
	}
	start := time.Now()
	s.mu.RLock()
	synced, last := s.synced, s.last
	s.mu.RUnlock()
	from := synced.Add(-overlap)
	switch {
	case synced.IsZero():
		from, near = start.Add(-s.keep()), false
	case near && last.After(came):
		return nil
	case near:
		from = last.Add(-nearOverlap)
	}
	ctx, cancel := context.WithTimeout(store.Detach(ctx), blindFor/2)
	defer cancel()
	rows, err := s.table.Where(ctx, store.GreaterEq("at", from))
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range rows {
		s.apply(&rows[i])
	}
	maps.DeleteFunc(s.seen, func(_ string, at time.Time) bool { return at.Before(start.Add(-2 * overlap)) })
	if s.last = start; !near {
		s.synced = start
	}
	return nil
}

// apply notes a row; the lock is held.
func (s *Service) apply(row *Row) {
	if _, dup := s.seen[row.ID]; dup {
		return
	}
	s.seen[row.ID] = row.At
	s.seq++
	m := s.marks[row.key()]
	m.seq, m.at = s.seq, time.Now()
	if !row.Stale && row.IssuedBefore.After(m.before) {
		m.before = row.IssuedBefore
	}
	s.marks[row.key()] = m
}

// Fresh makes sure that what is known is recent enough, or says Unavailable.
func (s *Service) Fresh(ctx context.Context) error {
	s.mu.RLock()
	age := time.Since(s.synced)
	s.mu.RUnlock()
	if age < syncEvery {
		return nil
	}
	// Somebody who reads already is not waited for while the past still holds.
	if age < blindFor && len(s.syncing) > 0 {
		return nil
	}
	if err := s.Sync(ctx); err != nil && age >= blindFor {
		return &nacre.Error{Kind: nacre.Unavailable, Code: "blind", Message: "The identity service can't tell just now which tokens were revoked.", Err: err}
	}
	return nil
}

// Now is the number of the last change, to be read before what it guards.
func (s *Service) Now() uint64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.seq
}

// Check says whether a token ended, and whether what was read of it at seq still
// holds.
func (s *Service) Check(i *Subject, seq uint64) (ended, stale bool) {
	t := i.Token
	s.mu.RLock()
	defer s.mu.RUnlock()
	look := func(kind, id string) {
		if id == "" {
			return
		}
		var buf [96]byte
		if m, ok := s.marks[string(append(append(buf[:0], kind...), id...))]; ok {
			ended = ended || !t.IssuedAt.After(m.before)
			stale = stale || m.seq > seq
		}
	}
	if m, ok := s.marks[""]; ok {
		ended, stale = !t.IssuedAt.After(m.before), m.seq > seq
	}
	if n := len(t.AuditIDs); n > 0 {
		look("audit ", t.AuditIDs[0])
		look("chain ", t.AuditIDs[n-1])
	}
	look("user ", t.UserID)
	for _, id := range i.Others {
		look("user ", id)
	}
	look("project ", t.ProjectID)
	look("domain ", i.UserDomainID)
	look("domain ", i.DomainID)
	return ended, stale
}

// IssueTime is when a token can be issued so that no revocation before it ends
// it: tokens count whole seconds, so it may be the next one.
func (s *Service) IssueTime(i *Subject, now time.Time) time.Time {
	at := now.Truncate(time.Second)
	s.mu.RLock()
	defer s.mu.RUnlock()
	keys := []string{"", "user " + i.Token.UserID, "project " + i.Token.ProjectID, "domain " + i.UserDomainID, "domain " + i.DomainID}
	for _, id := range i.Others {
		keys = append(keys, "user "+id)
	}
	for _, key := range keys {
		if m, ok := s.marks[key]; ok && !at.After(m.before) && m.before.Sub(at) < 2*time.Second {
			at = m.before.Truncate(time.Second).Add(time.Second)
		}
	}
	return at
}

// Prune removes rows and marks that can't matter any more.
func (s *Service) Prune(ctx context.Context) error {
	old := time.Now().Add(-s.keep())
	s.mu.Lock()
	maps.DeleteFunc(s.marks, func(_ string, m mark) bool { return m.at.Before(old) })
	s.mu.Unlock()
	_, err := s.table.DeleteWhere(ctx, store.Less("at", old))
	return err
}

// LastOfAll is the number of the last change that concerns everything.
func (s *Service) LastOfAll() uint64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.marks[""].seq
}
