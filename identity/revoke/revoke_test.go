package revoke_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/identity/fernet"
	"github.com/nacre-cloud/nacre/identity/kit"
	"github.com/nacre-cloud/nacre/identity/revoke"
	"github.com/nacre-cloud/nacre/store"
	"github.com/nacre-cloud/nacre/store/memstore"
)

type anybody struct{}

func (anybody) Enforce(context.Context, string, nacre.Target) error { return nil }

// TestCheck has one process revoke, and another look.
func TestCheck(t *testing.T) {
	e := memstore.New(memstore.Options{})
	t.Cleanup(func() { require.NoError(t, e.Close()) })
	require.NoError(t, e.Migrate(t.Context(), &store.Schema{Area: "identity", Tables: revoke.Tables()}, true))
	open := func() *revoke.Service {
		s, err := revoke.New(revoke.Config{TTL: time.Hour, Area: kit.Area{Engine: e, Policy: anybody{}, Happened: func(context.Context, string, string, string) error { return nil }}})
		require.NoError(t, err)
		require.NoError(t, s.Sync(t.Context()))
		return s
	}
	here, there := open(), open()
	issued := time.Now().UTC().Truncate(time.Second)
	token := &fernet.Token{UserID: "u", ProjectID: "p", AuditIDs: []string{"mine", "first"}, IssuedAt: issued}
	subject := &revoke.Subject{Token: token, UserDomainID: "d", DomainID: "e", Others: []string{"trustor"}}
	for name, row := range map[string]revoke.Row{
		"itself": {AuditID: "mine"}, "its chain": {ChainID: "first"}, "its user": {UserID: "u"}, "another whom it rests on": {UserID: "trustor"},
		"its project": {ProjectID: "p"}, "its user's domain": {DomainID: "d"}, "its scope's domain": {DomainID: "e"},
	} {
		fresh := *token
		fresh.IssuedAt = issued.Add(10 * time.Second)
		row.IssuedBefore = fresh.IssuedAt
		one := *subject
		one.Token = &fresh
		seq := there.Now()
		require.NoError(t, store.InTx(t.Context(), e, func(ctx context.Context) error {
			stale := row
			stale.Stale = true
			return here.Record(ctx, stale)
		}))
		require.NoError(t, there.Sync(t.Context()))
		_, stale := there.Check(&one, seq)
		require.True(t, stale, name)
		require.NoError(t, store.InTx(t.Context(), e, func(ctx context.Context) error { return here.Record(ctx, row) }))
		ended, _ := here.Check(&one, here.Now())
		require.True(t, ended, "%s: at once where it was written", name)
		require.NoError(t, there.Sync(t.Context()))
		ended, _ = there.Check(&one, there.Now())
		require.True(t, ended, "%s: elsewhere once the table was read", name)
		fresh.IssuedAt = fresh.IssuedAt.Add(time.Second)
		ended, stale = there.Check(&one, there.Now())
		require.False(t, ended || stale, "%s: what was issued later goes on", name)
		issued = fresh.IssuedAt.Add(time.Second)
	}
	ended, stale := there.Check(&revoke.Subject{Token: &fernet.Token{UserID: "v", IssuedAt: issued}, UserDomainID: "f"}, 0)
	require.False(t, ended || stale, "somebody else")
	events, err := there.Events(t.Context(), time.Time{})
	require.NoError(t, err)
	require.Len(t, events, 7, "what is stale is no event")
}
