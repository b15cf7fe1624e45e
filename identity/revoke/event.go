package revoke

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/nacre-cloud/nacre/store"
)

// Record records revocations in the context's transaction; they hold in this
// process once it is committed.
func (s *Service) Record(ctx context.Context, rows ...Row) error {
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
		s.mu.Lock()
		defer s.mu.Unlock()
		for i := range rows {
			s.apply(&rows[i])
		}
	})
	return s.table.Insert(ctx, rows...)
}

// Event says which tokens ended: those to which each field that is set
// applies and that were issued before.
type Event struct {
	AuditID      string `json:"audit_id,omitempty"`
	AuditChainID string `json:"audit_chain_id,omitempty"`
	UserID       string `json:"user_id,omitempty"`
	ProjectID    string `json:"project_id,omitempty"`
	DomainID     string `json:"domain_id,omitempty"`
	// IssuedBefore bounds what ended; RevokedAt is when that was said.
	IssuedBefore, RevokedAt time.Time `json:"-"`
}

// Events lists what ended since a time (zero: all that still matters).
// It is for services that validate tokens by themselves.
func (s *Service) Events(ctx context.Context, since time.Time) ([]Event, error) {
	if err := s.area.Enforce(ctx, "list_revoke_events", nil); err != nil {
		return nil, err
	}
	rows, err := s.table.Where(ctx, store.Eq("stale", false), store.Greater("at", since))
	out := make([]Event, len(rows))
	for i, r := range rows {
		out[i] = Event{r.AuditID, r.ChainID, r.UserID, r.ProjectID, r.DomainID, r.IssuedBefore, r.At}
	}
	return out, err
}
