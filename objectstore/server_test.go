//go:build realtest

package objectstore_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/internal/realserver"
	"github.com/nacre-cloud/nacre/objectstore"
	"github.com/nacre-cloud/nacre/store"
)

// What holds on the embedded engines holds on those that serve several processes.
func TestOnDatabaseServers(t *testing.T) {
	embedded := engines
	defer func() { engines = embedded }()
	for name, database := range realserver.Engines(t) {
		engines = map[string]func(testing.TB) store.Engine{name: func(tb testing.TB) store.Engine { return database(tb)(tb) }}
		for what, test := range map[string]func(*testing.T){
			"objects": TestPutGetDelete, "wrong bodies": TestWrongBodiesLeaveNothing, "listings": TestListing, "folds": TestListingWithDelimiterIsAFold, "concurrent puts": TestConcurrentPutsIntoOneContainer,
			"deleted accounts": TestDeletedAccountIsEmptied, "secrets": TestSecretsRotate, "sealed rows": TestSealedRowsMove,
		} {
			t.Run(name+"/"+what, test)
		}
		t.Run(name+"/two processes", func(t *testing.T) { twoProcesses(t, database(t)) })
	}
}

// Two services on one database put and delete the same names at the same time: the
// counts are right afterwards, and each name is there once or not at all.
func twoProcesses(t *testing.T, open func(testing.TB) store.Engine) {
	first := newWorld(t, objectstore.Config{Engine: open(t)})
	s, err := objectstore.New(objectstore.Config{Engine: open(t), Blobs: first.blobs})
	require.NoError(t, err)
	second := &world{Service: s, engine: first.engine, blobs: first.blobs, ctx: first.ctx}
	first.container(t, "c")
	failed := make(chan error, 8)
	for i := range 8 {
		w := []*world{first, second}[i%2]
		go func() {
			ctx, cancel := context.WithTimeout(w.ctx, time.Minute)
			defer cancel()
			for n := range 40 {
				name := fmt.Sprint(n % 7)
				_, err := w.Put(ctx, objectstore.NewObject{Ref: ref("c", name), Body: strings.NewReader(name), Size: int64(len(name))})
				if err == nil && n%3 == 2 {
					if _, err = w.Delete(ctx, ref("c", name), objectstore.DeleteOptions{}); errors.Is(err, nacre.NotFound) {
						err = nil // another was faster
					}
				}
				if err != nil {
					failed <- err
					return
				}
			}
			failed <- nil
		}()
	}
	for range 8 {
		require.NoError(t, <-failed)
	}
	first.audit(t)
	long := strings.Repeat("ü", 512)
	first.put(t, "c", long, "a name of 1024 bytes")
	got, err := second.get(ref("c", long), objectstore.GetOptions{})
	require.NoError(t, err)
	require.Equal(t, "a name of 1024 bytes", got)
}
