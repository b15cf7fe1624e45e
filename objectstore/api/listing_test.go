package api

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre/objectstore"
)

// What is written by hand is what the library would have written.
func TestObjectsJSON(t *testing.T) {
	type entry struct {
		Hash     string `json:"hash,omitempty"`
		Modified string `json:"last_modified,omitempty"`
		Bytes    *int64 `json:"bytes,omitempty"`
		Name     string `json:"name,omitempty"`
		Type     string `json:"content_type,omitempty"`
		SLO      string `json:"slo_etag,omitempty"`
		Link     string `json:"symlink_path,omitempty"`
		Version  string `json:"version_id,omitempty"`
		Latest   *bool  `json:"is_latest,omitempty"`
		Subdir   string `json:"subdir,omitempty"`
	}
	when := time.Date(2026, 2, 3, 4, 5, 6, 78900, time.FixedZone("", 3600))
	for i, es := range [][]objectstore.ObjectEntry{
		nil,
		{{Name: "a", Etag: "e", ContentType: "text/plain", Modified: when}},
		{{Name: "sub/", Subdir: true}, {Name: "b\"\\<&>\n\x00\x7f€\u2028\xff", Etag: "e", ContentType: "a/<b>", Bytes: 1 << 40, Modified: when.Add(999999 * time.Microsecond), SLOEtag: "s"}},
		{{Name: "l", Kind: objectstore.KindSymlink, Target: "AUTH_a/c/o p€", Etag: "e", ContentType: "t", Modified: time.Time{}, Version: "1.2", Latest: true}, {Name: "m", Etag: "e", ContentType: "t", Modified: time.Unix(1e12, 0), Version: "null"}},
	} {
		for _, versions := range []bool{false, true} {
			want := make([]entry, len(es))
			for j, e := range es {
				if e.Subdir {
					want[j] = entry{Subdir: e.Name}
					continue
				}
				want[j] = entry{Hash: e.Etag, Modified: stamp(e.Modified), Bytes: &e.Bytes, Name: e.Name, Type: e.ContentType, SLO: e.SLOEtag}
				if e.Kind == objectstore.KindSymlink {
					want[j].Link = "/v1/" + escapePath(e.Target)
				}
				if versions {
					want[j].Version, want[j].Latest = e.Version, &e.Latest
				}
			}
			if versions && i == 1 || i == 2 && versions {
				continue // an entry always has a version there
			}
			text, err := json.Marshal(want)
			require.NoError(t, err)
			require.Equal(t, string(text), objectsJSON(es, versions), fmt.Sprint(i))
		}
	}
}
