package image

import (
	"testing"

	"github.com/nacre-cloud/nacre/internal/reconcile"
	"github.com/nacre-cloud/nacre/internal/released"
)

// Work that one release began the other goes on with.
func TestReleasedWork(t *testing.T) {
	released.Values(t, "testdata/released/work.json", map[string]any{"blob": blobData{}, "import": importData{}})
	s := &Service{}
	var steps []string
	for kind, h := range map[string]reconcile.Handler{"blob": s.blobHandler(), "import": s.importHandler(), "cache": s.cacheHandler(), "task": s.taskHandler()} {
		for step := range h.Steps {
			steps = append(steps, kind+" "+step)
		}
	}
	released.Names(t, "testdata/released/steps.json", steps)
}
