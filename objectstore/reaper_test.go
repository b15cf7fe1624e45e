package objectstore_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/objectstore"
	"github.com/nacre-cloud/nacre/objectstore/blob"
)

// projects are those that identity has.
type projects struct {
	mu    sync.Mutex
	there map[string]bool
	err   error
}

func (p *projects) Existing(_ context.Context, ids ...string) (map[string]bool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := map[string]bool{}
	for _, id := range ids {
		out[id] = p.there[id]
	}
	return out, p.err
}

func (p *projects) set(id string, there bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.there[id], p.err = there, err
}

// reaping is a world with a clock of its own, whose accounts follow their projects.
func reaping(t *testing.T) (w *world, ps *projects, forward func(time.Duration)) {
	var mu sync.Mutex
	now := time.Now()
	ps = &projects{there: map[string]bool{"p": true, "q": true}}
	w = newWorld(t, objectstore.Config{Projects: ps, ReapDelay: time.Hour, Now: func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		return now
	}})
	on := true
	_, err := w.PutContainer(w.ctx, ref("v"), objectstore.ContainerChange{Versions: &on, Meta: map[string]string{"X-Container-Read": ".r:*"}})
	require.NoError(t, err)
	for i := range 5 {
		w.put(t, "v", "o", fmt.Sprint(i))
	}
	w.container(t, "c")
	for i := range 700 {
		w.put(t, "c", fmt.Sprint(i), "x")
	}
	return w, ps, func(d time.Duration) {
		mu.Lock()
		defer mu.Unlock()
		now = now.Add(d)
	}
}

// The account of a project that is gone is gone for everybody at once, and what it
// holds after a while; until then all is as it was if the project comes back.
func TestAccountFollowsItsProject(t *testing.T) {
	w, ps, forward := reaping(t)
	service := nacre.AsService(t.Context(), "test")
	require.NoError(t, w.ProjectChanged(service, "p"))
	_, err := w.Account(w.ctx, "AUTH_p")
	require.NoError(t, err, "a hint alone deletes nothing")

	ps.set("p", false, errors.New("identity is down"))
	require.Error(t, w.ProjectChanged(service, "p"))
	_, err = w.Account(w.ctx, "AUTH_p")
	require.NoError(t, err, "no answer deletes nothing")

	ps.set("p", false, nil)
	require.NoError(t, w.ProjectChanged(service, "p"))
	_, err = w.Account(w.ctx, "AUTH_p")
	require.ErrorIs(t, err, objectstore.ErrGone)
	for ctx, want := range map[context.Context]error{w.ctx: nacre.NotFound, service: nacre.NotFound, context.Background(): nacre.Unauthenticated} {
		_, err = w.Get(ctx, ref("v", "o"), objectstore.GetOptions{})
		require.ErrorIs(t, err, want, "public as it was")
	}
	_, _, err = w.ListObjects(w.ctx, ref("c"), objectstore.ListQuery{})
	require.ErrorIs(t, err, nacre.NotFound)
	_, err = w.PutContainer(w.ctx, ref("d"), objectstore.ContainerChange{})
	require.ErrorIs(t, err, nacre.NotFound)
	require.ErrorIs(t, w.PostContainer(w.ctx, ref("c"), objectstore.ContainerChange{}), nacre.NotFound)

	require.NoError(t, w.Reap(t.Context()))
	ps.set("p", true, nil)
	require.NoError(t, w.Compare(t.Context()))
	got, err := w.get(ref("v", "o"), objectstore.GetOptions{})
	require.NoError(t, err)
	require.Equal(t, "4", got)

	// An identity that knows nobody deletes nothing.
	ps.set("p", false, nil)
	require.ErrorContains(t, w.Compare(t.Context()), "less than half")
	_, err = w.Account(w.ctx, "AUTH_p")
	require.NoError(t, err)
	// Nobody told of it this time: the comparison finds it.
	_, err = w.PutContainer(as("q", "u", "member"), objectstore.Ref{Account: "AUTH_q", Container: "c"}, objectstore.ContainerChange{})
	require.NoError(t, err)
	require.NoError(t, w.Compare(t.Context()))
	forward(59 * time.Minute)
	require.NoError(t, w.Reap(t.Context()))
	_, err = w.Account(w.ctx, "AUTH_p")
	require.ErrorIs(t, err, objectstore.ErrGone)
	forward(2 * time.Minute)
	ps.set("p", true, nil)
	require.NoError(t, w.Compare(t.Context()))
	_, err = w.Account(w.ctx, "AUTH_p")
	require.ErrorIs(t, err, objectstore.ErrGone, "it is too late")
	ps.set("p", false, nil)
	require.NoError(t, w.Reap(t.Context()))
	a, err := w.Account(w.ctx, "AUTH_p")
	require.NoError(t, err)
	require.Zero(t, a.Containers)
	require.True(t, a.Created.IsZero())
	w.audit(t)
	n := 0
	require.NoError(t, w.blobs.Walk(t.Context(), countBlobs(&n)))
	require.Zero(t, n)
}

// Accounts that never were a project's stay, whatever their name.
func TestAccountsWithoutAProjectStay(t *testing.T) {
	w, ps, forward := reaping(t)
	admin := as("adm", "u", "ResellerAdmin")
	for _, account := range []string{"AUTH_q", "AUTH_service", "other"} {
		_, err := w.PutContainer(admin, objectstore.Ref{Account: account, Container: "c"}, objectstore.ContainerChange{})
		require.NoError(t, err)
	}
	// q's account was made by somebody else; that it is a project's is seen here.
	require.NoError(t, w.Compare(t.Context()))
	ps.set("p", true, nil)
	ps.set("q", false, nil)
	require.NoError(t, w.Compare(t.Context()))
	forward(2 * time.Hour)
	require.NoError(t, w.Reap(t.Context()))
	for account, want := range map[string]int64{"AUTH_p": 2, "AUTH_q": 0, "AUTH_service": 1, "other": 1} {
		a, err := w.Account(admin, account)
		require.NoError(t, err)
		require.Equal(t, want, a.Containers, account)
	}
	w.audit(t)
}

func countBlobs(n *int) func(blob.Info) error {
	return func(blob.Info) error {
		*n++
		return nil
	}
}
