package compute

import (
	"maps"
	"slices"
	"testing"

	"github.com/nacre-cloud/nacre/internal/released"
)

// Work that one release began the other goes on with.
func TestReleasedWork(t *testing.T) {
	released.Values(t, "testdata/released/work.json", map[string]any{kindServer: progress{}})
	released.Names(t, "testdata/released/steps.json", slices.Collect(maps.Keys((&Service{}).serverHandler().Steps)))
}
