package objectstore_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre/objectstore"
	"github.com/nacre-cloud/nacre/objectstore/blob/mem"
	"github.com/nacre-cloud/nacre/store"
	"github.com/nacre-cloud/nacre/store/memstore"
)

// counted counts the statements that an engine is asked for.
type counted struct {
	store.Engine
	n *atomic.Int64
}

func (e counted) Unwrap() store.Engine { return e.Engine }

func (e counted) Get(ctx context.Context, t *store.TableDef, id string, forUpdate bool) (store.Row, error) {
	e.n.Add(1)
	return e.Engine.Get(ctx, t, id, forUpdate)
}

func (e counted) Select(ctx context.Context, t *store.TableDef, q store.Select) ([]store.Row, error) {
	e.n.Add(1)
	return e.Engine.Select(ctx, t, q)
}

func (e counted) Aggregate(ctx context.Context, t *store.TableDef, q store.Aggregate) ([]store.Group, error) {
	e.n.Add(1)
	return e.Engine.Aggregate(ctx, t, q)
}

func (e counted) Insert(ctx context.Context, t *store.TableDef, rows []store.Row) error {
	e.n.Add(1)
	return e.Engine.Insert(ctx, t, rows)
}

func (e counted) Update(ctx context.Context, t *store.TableDef, w store.Where, set store.Set) (int64, error) {
	e.n.Add(1)
	return e.Engine.Update(ctx, t, w, set)
}

func (e counted) Delete(ctx context.Context, t *store.TableDef, w store.Where) (int64, error) {
	e.n.Add(1)
	return e.Engine.Delete(ctx, t, w)
}

// TestStatements holds what each operation costs: of a service that knows nothing yet,
// and of one that has just looked at the container.
func TestStatements(t *testing.T) {
	n := &atomic.Int64{}
	e := counted{memstore.New(memstore.Options{}), n}
	blobs := &mem.Store{}
	w := newWorld(t, objectstore.Config{Engine: e, Blobs: blobs})
	c := objectstore.Ref{Account: "AUTH_p", Container: "c"}
	_, err := w.PutContainer(w.ctx, c, objectstore.ContainerChange{})
	require.NoError(t, err)
	put := func(s *objectstore.Service, name string) error {
		r := c
		r.Object = name
		_, err := s.Put(w.ctx, objectstore.NewObject{Ref: r, Body: strings.NewReader("x"), Size: 1})
		return err
	}
	const prefixes = 4
	for i := range 400 {
		require.NoError(t, put(w.Service, fmt.Sprintf("dir%d/o%03d", i%prefixes, i)))
	}
	at := func(name string) objectstore.Ref {
		return objectstore.Ref{Account: c.Account, Container: c.Container, Object: name}
	}
	list := func(q objectstore.ListQuery) func(*objectstore.Service) error {
		return func(s *objectstore.Service) error { _, _, err := s.ListObjects(w.ctx, c, q); return err }
	}
	for _, x := range []struct {
		name       string
		cold, warm int64
		do         func(s *objectstore.Service) error
	}{
		{"an account's containers", 3, 2, func(s *objectstore.Service) error {
			_, _, err := s.ListContainers(w.ctx, "AUTH_p", objectstore.ListQuery{})
			return err
		}},
		{"an account's head", 2, 1, func(s *objectstore.Service) error { _, err := s.Account(w.ctx, "AUTH_p"); return err }},
		{"a container's objects", 3, 2, list(objectstore.ListQuery{})},
		{"those with a prefix", 3, 2, list(objectstore.ListQuery{Prefix: "dir1/"})},
		{"those behind a marker", 3, 2, list(objectstore.ListQuery{Marker: "dir1/o001"})},
		{"its directories, of many objects each", 3 + prefixes, 2 + prefixes, list(objectstore.ListQuery{Delimiter: "/"})},
		{"a container's head", 2, 1, func(s *objectstore.Service) error { _, err := s.Container(w.ctx, c); return err }},
		{"an object", 3, 1, func(s *objectstore.Service) error {
			_, body, err := s.Read(w.ctx, at("dir0/o000"), objectstore.GetOptions{})
			if err == nil {
				err = body.Close()
			}
			return err
		}},
		{"a new object", 6, 4, func(s *objectstore.Service) error { return put(s, fmt.Sprint("new", n.Load())) }},
		{"an object again", 6, 4, func(s *objectstore.Service) error { return put(s, "dir0/o000") }},
		{"an object's metadata", 5, 3, func(s *objectstore.Service) error {
			_, err := s.PostObject(w.ctx, at("dir0/o000"), objectstore.ObjectChange{Meta: map[string]string{"X-Object-Meta-A": fmt.Sprint(n.Load())}})
			return err
		}},
	} {
		s, err := objectstore.New(objectstore.Config{Engine: e, Blobs: blobs})
		require.NoError(t, err)
		for _, state := range []string{"cold", "warm"} {
			most := x.cold
			if state == "warm" {
				most = x.warm
			}
			before := n.Load()
			require.NoError(t, x.do(s), x.name)
			require.LessOrEqual(t, n.Load()-before, most, "%s, %s", x.name, state)
		}
	}
	w.audit(t)
}
