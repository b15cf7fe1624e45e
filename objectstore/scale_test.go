package objectstore_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre/objectstore"
	"github.com/nacre-cloud/nacre/store"
	"github.com/nacre-cloud/nacre/store/bunstore"
)

// number is a count that the environment may set.
func number(b *testing.B, name string, def int) int {
	if v := os.Getenv(name); v != "" {
		_, err := fmt.Sscan(v, &def)
		require.NoError(b, err, name)
	}
	return def
}

// scaleEngine is SQLite in a directory of its own, or the PostgreSQL database that
// NACRE_BENCH_POSTGRES names, which should be empty.
func scaleEngine(b *testing.B, sync string) store.Engine {
	if url := os.Getenv("NACRE_BENCH_POSTGRES"); url != "" {
		e, err := bunstore.OpenPostgres(url, bunstore.Options{})
		require.NoError(b, err)
		return e
	}
	e, err := bunstore.OpenSQLite(b.TempDir()+"/db", bunstore.Options{Synchronous: sync})
	require.NoError(b, err)
	return e
}

// percentile is the time below which so many hundredths of some are.
func percentile(took []time.Duration, n int) time.Duration {
	slices.Sort(took)
	return took[min(len(took)*n/100, len(took)-1)]
}

// BenchmarkMillion lists pages of a container with a million objects, whose rows are
// made without bytes: at its begin, in the middle and at its end, and folded by a
// delimiter. No page may depend on how many objects there are. It says the mean and
// the 99th percentile. NACRE_BENCH_OBJECTS sets another number.
func BenchmarkMillion(b *testing.B) {
	total := number(b, "NACRE_BENCH_OBJECTS", 1000000)
	e := scaleEngine(b, "OFF")
	w := newWorld(b, objectstore.Config{Engine: e})
	w.container(b, "c")
	c, err := w.Container(w.ctx, ref("c"))
	require.NoError(b, err)
	objects, now := store.NewTable[objectstore.Object](e, "objects"), time.Now()
	name := func(i int) string { return fmt.Sprintf("%03d/object-%010d", i*1000/total, i) }
	const chunk = 20000
	for i := 0; i < total; i += chunk {
		os := make([]objectstore.Object, 0, chunk)
		for j := i; j < min(i+chunk, total); j++ {
			os = append(os, objectstore.Object{ID: c.ID + "/" + name(j), Data: objectstore.Data{At: now, Etag: sum(name(j)), Size: 100, Bytes: 100, Blob: fmt.Sprintf("s%026d", j), ContentType: "application/octet-stream"}})
		}
		require.NoError(b, store.InTx(b.Context(), e, func(ctx context.Context) error { return objects.Insert(ctx, os...) }))
	}
	b.Logf("%d rows in %s", total, time.Since(now).Round(time.Second))
	for _, page := range []struct {
		name string
		want int
		q    objectstore.ListQuery
	}{
		{"first-10000", 10000, objectstore.ListQuery{}}, {"middle-10000", 10000, objectstore.ListQuery{Marker: name(total / 2)}}, {"last-10000", 10000, objectstore.ListQuery{Marker: name(total - 10001)}},
		{"first-1000", 1000, objectstore.ListQuery{Limit: 1000}}, {"middle-1000", 1000, objectstore.ListQuery{Limit: 1000, Marker: name(total / 2)}}, {"last-1000", 1000, objectstore.ListQuery{Limit: 1000, Marker: name(total - 1001)}},
		{"reverse-1000", 1000, objectstore.ListQuery{Limit: 1000, Reverse: true}},
		{"prefix-1000", min(1000, total/1000), objectstore.ListQuery{Limit: 1000, Prefix: name(total / 2)[:4]}},
		{"delimiter-1000", 1000, objectstore.ListQuery{Delimiter: "/"}},
		{"prefix-delimiter-1000", min(1000, total/1000), objectstore.ListQuery{Limit: 1000, Prefix: name(total / 2)[:4], Delimiter: "/"}},
		{"versions-1000", 1000, objectstore.ListQuery{Limit: 1000, Versions: true, Marker: name(total / 2)}},
	} {
		b.Run(page.name, func(b *testing.B) {
			var took []time.Duration
			for b.Loop() {
				begun := time.Now()
				require.Len(b, w.names(b, "c", page.q), page.want)
				took = append(took, time.Since(begun))
			}
			b.ReportMetric(float64(percentile(took, 99).Microseconds())/1000, "p99-ms")
		})
	}
	b.Run("head", func(b *testing.B) {
		for b.Loop() {
			_, err := w.Container(w.ctx, ref("c"))
			require.NoError(b, err)
		}
	})
	b.Run("put", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			_, err := w.Put(w.ctx, objectstore.NewObject{Ref: ref("c", fmt.Sprintf("%s-%d", name(total/2), i)), Body: strings.NewReader("x"), Size: 1})
			require.NoError(b, err)
		}
	})
}

// BenchmarkPuts puts small objects for good, by 16 clients into one container, each
// synced to the disk, and then lists them. It says the rate and percentiles.
// NACRE_BENCH_PUTS sets how many, instead of 10,000; NACRE_BENCH_ENCRYPTED encrypts.
func BenchmarkPuts(b *testing.B) {
	total := number(b, "NACRE_BENCH_PUTS", 10000)
	var secrets *objectstore.Secrets
	if os.Getenv("NACRE_BENCH_ENCRYPTED") != "" {
		secrets = testSecrets
	}
	w := onDisk(b, b.TempDir(), time.Hour, secrets)
	w.container(b, "c")
	body := strings.Repeat("x", 1024)
	for b.Loop() {
		took := make([]time.Duration, total)
		var next atomic.Int64
		var wg sync.WaitGroup
		begun := time.Now()
		for range 16 {
			wg.Go(func() {
				for i := int(next.Add(1)) - 1; i < total; i = int(next.Add(1)) - 1 {
					at := time.Now()
					if _, err := w.Put(w.ctx, objectstore.NewObject{Ref: ref("c", fmt.Sprintf("%09d", i)), Body: strings.NewReader(body), Size: 1024}); err != nil {
						b.Error(err)
					}
					took[i] = time.Since(at)
				}
			})
		}
		wg.Wait()
		b.ReportMetric(float64(total)/time.Since(begun).Seconds(), "puts/s")
		b.ReportMetric(float64(percentile(took, 50).Microseconds())/1000, "put-p50-ms")
		b.ReportMetric(float64(percentile(took, 99).Microseconds())/1000, "put-p99-ms")
		var pages []time.Duration
		for marker := ""; ; {
			at := time.Now()
			names := w.names(b, "c", objectstore.ListQuery{Marker: marker, Limit: 1000})
			if pages = append(pages, time.Since(at)); len(names) < 1000 {
				break
			}
			marker = names[len(names)-1]
		}
		b.ReportMetric(float64(percentile(pages, 99).Microseconds())/1000, "list-p99-ms")
	}
}
