package objectstore_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
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
func onDisk(tb testing.TB, dir string, grace time.Duration, secrets *objectstore.Secrets) *world {
	e, err := bunstore.OpenSQLite(filepath.Join(dir, "db"), bunstore.Options{})
	require.NoError(tb, err)
	blobs, err := fs.New(filepath.Join(dir, "blobs"), fs.Options{})
	require.NoError(tb, err)
	tb.Cleanup(func() { require.NoError(tb, blobs.Close()) })
	return newWorld(tb, objectstore.Config{Engine: e, Blobs: blobs, Grace: grace, Secrets: secrets})
}

// bodyOf is an object's body by its name. One named "slo-…" is large.
func bodyOf(name string) string {
	if strings.HasPrefix(name, "slo-") {
		return bodyOf("part-one") + bodyOf("part-two")
	}
	if strings.HasPrefix(name, "large-") {
		return strings.Repeat(name+"\n", 20000)
	}
	return strings.Repeat(name+"\n", 1+len(name)*len(name)*7%4000)
}

func (w *world) putNamed(name string) error {
	n := objectstore.NewObject{Ref: ref("c", name)}
	if strings.HasPrefix(name, "slo-") {
		n.Segments = []objectstore.Segment{{Path: "/c/part-one"}, {Path: "/c/part-two", Etag: sum(bodyOf("part-two"))}}
	} else {
		n.Body, n.Size = strings.NewReader(bodyOf(name)), int64(len(bodyOf(name)))
	}
	_, err := w.Put(w.ctx, n)
	return err
}

// TestMain lets the test's program be the process that is killed.
func TestMain(m *testing.M) {
	if dir := os.Getenv("NACRE_TEST_KILLED"); dir != "" {
		var secrets *objectstore.Secrets
		if os.Getenv("NACRE_TEST_ENCRYPTED") != "" {
			secrets = testSecrets
		}
		rounds, err := strconv.Atoi(os.Getenv("NACRE_TEST_ROUNDS"))
		if err != nil {
			rounds = math.MaxInt
		}
		load(dir, secrets, rounds)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// load puts, replaces and deletes objects, large ones among them, until the process
// is killed or so many rounds are done, and says what has been acknowledged.
func load(dir string, secrets *objectstore.Secrets, rounds int) {
	t := &testing.T{}
	w := onDisk(t, dir, time.Hour, secrets)
	go w.Run(context.Background()) //nolint:errcheck // it ends with the process
	w.container(t, "c")
	for _, part := range []string{"part-one", "part-two"} {
		if err := w.putNamed(part); err != nil {
			panic(err)
		}
	}
	var out sync.Mutex
	var workers sync.WaitGroup
	for worker := range 8 {
		workers.Go(func() {
			for i := 0; i < rounds; i++ {
				name := fmt.Sprintf("%d-%d", worker, i%50)
				switch {
				case i%5 == 4:
					name = "slo-" + name
				case i%9 == 8:
					name = "large-" + name
				}
				what := "put"
				var err error
				if i%7 == 6 {
					what = "delete"
					out.Lock()
					fmt.Println("deleting", name)
					out.Unlock()
					_, err = w.Delete(w.ctx, ref("c", name), objectstore.DeleteOptions{})
				} else {
					err = w.putNamed(name)
				}
				out.Lock()
				if err == nil {
					fmt.Println(what, name)
				}
				out.Unlock()
			}
		})
	}
	workers.Wait()
}

// The process is killed under load, again and again, in the end with encryption on
// over what was put in the open. Every put that it told of reads
// back with its tag, nothing is listed that does not, and counts are right.
func TestKilledUnderLoad(t *testing.T) {
	dir := t.TempDir()
	have := map[string]bool{}
	for round := range 4 {
		cmd := exec.Command(os.Args[0], "-test.run=^$")
		cmd.Env = append(os.Environ(), "NACRE_TEST_KILLED="+dir)
		if round >= 2 {
			cmd.Env = append(cmd.Env, "NACRE_TEST_ENCRYPTED=1")
		}
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
			require.NotEmpty(t, have)
			survived(t, dir, have)
		})
	}
}

// survived demands that what was acknowledged reads back, that what is listed does,
// and that nothing else is there.
func survived(t *testing.T, dir string, have map[string]bool) {
	w := onDisk(t, dir, -time.Hour, testSecrets)
	for name := range have {
		got, err := w.get(ref("c", name), objectstore.GetOptions{})
		require.NoError(t, err, name)
		require.True(t, got == bodyOf(name), name)
	}
	_, es, err := w.ListObjects(w.ctx, ref("c"), objectstore.ListQuery{})
	if len(have) > 0 {
		require.NoError(t, err)
	}
	for _, e := range es {
		got, err := w.get(ref("c", e.Name), objectstore.GetOptions{})
		require.NoError(t, err, e.Name)
		if e.SLOEtag == "" {
			require.Equal(t, e.Etag, sum(got), e.Name)
		}
		require.True(t, got == bodyOf(e.Name), e.Name)
	}
	require.NoError(t, w.Tidy(t.Context()))
	_, err = w.Sweep(t.Context())
	require.NoError(t, err)
	w.audit(t)
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
