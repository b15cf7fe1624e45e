package image_test

import (
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/image"
	"github.com/nacre-cloud/nacre/image/metadefs"
	"github.com/nacre-cloud/nacre/store"
)

func pageOf(marker, filter, value string) nacre.Query {
	return nacre.Query{Limit: 2, Marker: marker, Filters: []nacre.Filter{{Name: filter, Value: value}}}
}

// Who goes through a list page by page may change what it lists: the image that ended a
// page stays a marker while its user may see it, whatever the filters.
func TestPagesOfImagesThatChange(t *testing.T) {
	onEach(t, func(w *world) {
		mine, theirs, admin := w.mine(), as(w.Context(), "p2"), as(w.Context(), "p0", "admin")
		var ids []string // the oldest first
		for i := range 4 {
			ids = append(ids, w.create(mine, "raw"))
			_, err := w.s.AddMember(mine, ids[i], "p2")
			require.NoError(w, err)
			time.Sleep(time.Millisecond)
		}
		list := func(who string, q nacre.Query) []string {
			w.Helper()
			ctx := mine
			if who == "p2" {
				ctx = theirs
			}
			ims, err := w.s.List(ctx, q)
			require.NoError(w, err)
			var out []string
			for _, im := range ims {
				out = append(out, im.ID)
			}
			return out
		}
		newest, oldest := []string{ids[3], ids[2]}, []string{ids[1], ids[0]}

		require.Equal(w, newest, list("p2", pageOf("", "member_status", "pending")))
		for _, id := range newest {
			_, err := w.s.SetMember(theirs, id, "p2", "accepted")
			require.NoError(w, err)
		}
		require.Equal(w, oldest, list("p2", pageOf(ids[2], "member_status", "pending")))

		update := func(id string, f func(im *image.Image)) {
			w.Helper()
			_, err := w.s.Update(mine, id, func(im *image.Image) error { f(im); return nil })
			require.NoError(w, err)
		}
		require.Equal(w, newest, list("p1", pageOf("", "name", "x")))
		update(ids[2], func(im *image.Image) { im.Name = "y" })
		require.Equal(w, oldest, list("p1", pageOf(ids[2], "name", "x")))

		for _, id := range ids {
			update(id, func(im *image.Image) { im.Visibility = "community" })
		}
		for _, who := range []string{"p1", "p2"} {
			require.Equal(w, newest, list(who, pageOf("", "visibility", "community")))
		}
		update(ids[2], func(im *image.Image) { im.Visibility = "private" })
		require.Equal(w, oldest, list("p1", pageOf(ids[2], "visibility", "community")))
		_, err := w.s.List(theirs, pageOf(ids[2], "visibility", "community"))
		require.ErrorIs(w, err, nacre.Invalid, "another's that went out of sight")
		ims, err := w.s.List(admin, pageOf(ids[2], "visibility", "community"))
		require.NoError(w, err)
		require.Len(w, ims, 2, "an administrator sees all")
		require.Equal(w, oldest, list("p2", pageOf(ids[3], "visibility", "community")))
		require.Empty(w, list("p2", pageOf(ids[3], "visibility", "public")), "a community image is one that all may see")
		require.NoError(w, w.s.Delete(mine, ids[2]))
		_, err = w.s.List(mine, pageOf(ids[2], "visibility", "community"))
		require.ErrorIs(w, err, nacre.Invalid, "one that is gone is no marker")
	})
}

func TestPagesOfTasksThatChange(t *testing.T) {
	onEach(t, func(w *world) {
		admin := as(w.Context(), "p0", "admin")
		tasks := store.NewTable[image.Task](w.engine, "image_task")
		for i := range 4 {
			require.NoError(w, tasks.Insert(w.Context(), image.Task{ID: strconv.Itoa(i), Status: "processing", Created: time.Now().UTC()}))
			time.Sleep(time.Millisecond)
		}
		list := func(marker string) (out []string) {
			w.Helper()
			ts, err := w.s.Tasks(admin, pageOf(marker, "status", "processing"))
			require.NoError(w, err)
			for _, task := range ts {
				out = append(out, task.ID)
			}
			return out
		}
		require.Equal(w, []string{"3", "2"}, list(""))
		_, err := tasks.Update(w.Context(), "2", func(t *image.Task) error { t.Status = "success"; return nil })
		require.NoError(w, err)
		require.Equal(w, []string{"1", "0"}, list("2"))
	})
}

func TestPagesOfNamespacesThatChange(t *testing.T) {
	onEach(t, func(w *world) {
		admin := as(w.Context(), "p0", "admin")
		for i := range 4 {
			_, err := w.s.Metadefs.CreateNamespace(admin, metadefs.Namespace{Name: "n" + strconv.Itoa(i), Visibility: "public"}, nil)
			require.NoError(w, err)
			time.Sleep(time.Millisecond)
		}
		list := func(marker string) (out []string) {
			w.Helper()
			nss, err := w.s.Metadefs.Namespaces(admin, pageOf(marker, "visibility", "public"))
			require.NoError(w, err)
			for _, ns := range nss {
				out = append(out, ns.Name)
			}
			return out
		}
		require.Equal(w, []string{"n3", "n2"}, list(""))
		_, err := w.s.Metadefs.UpdateNamespace(admin, "n2", metadefs.Namespace{Name: "n2", Visibility: "private"})
		require.NoError(w, err)
		require.Equal(w, []string{"n1", "n0"}, list("n2"))
	})
}
