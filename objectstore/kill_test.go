package objectstore_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre/objectstore"
	"github.com/nacre-cloud/nacre/objectstore/blob/fs"
	"github.com/nacre-cloud/nacre/store/bunstore"
)

// onDisk is a service on real files.
func onDisk(tb testing.TB, dir string, grace time.Duration) *world {
	e, err := bunstore.OpenSQLite(filepath.Join(dir, "db"), bunstore.Options{})
	require.NoError(tb, err)
	blobs, err := fs.New(filepath.Join(dir, "blobs"), fs.Options{})
	require.NoError(tb, err)
	tb.Cleanup(func() { require.NoError(tb, blobs.Close()) })
	return newWorld(tb, objectstore.Config{Engine: e, Blobs: blobs, Grace: grace})
}

func bodyOf(name string) string { return strings.Repeat(name+"\n", 1+len(name)*len(name)*7%4000) }

// TestMain lets the test's program be the process that is killed.
func TestMain(m *testing.M) {
	if dir := os.Getenv("NACRE_TEST_KILLED"); dir != "" {
		load(dir)
	}
	os.Exit(m.Run())
}

// load puts, replaces and deletes until the process is killed, and says what has
// been acknowledged.
func load(dir string) {
	t := &testing.T{}
	w := onDisk(t, dir, time.Hour)
	go w.Run(context.Background()) //nolint:errcheck // it ends with the process
	w.container(t, "c")
	var out sync.Mutex
	for worker := range 8 {
		go func() {
			for i := 0; ; i++ {
				name := fmt.Sprintf("%d-%d", worker, i%50)
				what := "put"
				var err error
				if i%7 == 6 {
					what = "delete"
					out.Lock()
					fmt.Println("deleting", name)
					out.Unlock()
					_, err = w.Delete(w.ctx, ref("c", name), objectstore.DeleteOptions{})
				} else {
					body := bodyOf(name)
					_, err = w.Put(w.ctx, objectstore.NewObject{Ref: ref("c", name), Body: strings.NewReader(body), Size: int64(len(body))})
				}
				out.Lock()
				if err == nil {
					fmt.Println(what, name)
				}
				out.Unlock()
			}
		}()
	}
	select {}
}

// The process is killed under load, again and again. Every put that it told of reads
// back with its tag, nothing is listed that does not, and counts are right.
func TestKilledUnderLoad(t *testing.T) {
	dir := t.TempDir()
	have := map[string]bool{}
	for round := range 4 {
		cmd := exec.Command(os.Args[0], "-test.run=^$")
		cmd.Env = append(os.Environ(), "NACRE_TEST_KILLED="+dir)
		stdout, err := cmd.StdoutPipe()
		require.NoError(t, err)
		cmd.Stderr = os.Stderr
		require.NoError(t, cmd.Start())
		// One reader to the end: what it has read ahead when the process is killed
		// was told too.
		lines := bufio.NewReader(stdout)
		for n := 0; ; n++ {
			if n == 300+200*round {
				require.NoError(t, cmd.Process.Kill())
			}
			line, err := lines.ReadString('\n')
			if err != nil { // what is left has no end, and was not told
				require.ErrorIs(t, err, io.EOF)
				break
			}
			told(have, strings.TrimSpace(line))
		}
		require.Error(t, cmd.Wait(), "it was killed")
		t.Run(fmt.Sprint("round ", round), func(t *testing.T) {
			w := onDisk(t, dir, -time.Hour)
			require.NotEmpty(t, have)
			for name := range have {
				got, err := w.get(ref("c", name), objectstore.GetOptions{})
				require.NoError(t, err, name)
				require.True(t, got == bodyOf(name), name)
			}
			_, es, err := w.ListObjects(w.ctx, ref("c"), objectstore.ListQuery{})
			require.NoError(t, err)
			for _, e := range es {
				got, err := w.get(ref("c", e.Name), objectstore.GetOptions{})
				require.NoError(t, err)
				require.Equal(t, e.Etag, sum(got))
			}
			require.NoError(t, w.Tidy(t.Context()))
			_, err = w.Sweep(t.Context())
			require.NoError(t, err)
			w.audit(t)
		})
	}
}

// told notes what has been acknowledged; what a deletion was under way for may be
// there or not.
func told(have map[string]bool, line string) {
	switch what, name, _ := strings.Cut(line, " "); what {
	case "put":
		have[name] = true
	case "deleting", "delete":
		delete(have, name)
	}
}
