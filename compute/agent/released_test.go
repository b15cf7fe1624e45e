package agent

import (
	"testing"

	"github.com/nacre-cloud/nacre/internal/released"
)

// What a host remembers is read by the program that takes the place of the one that
// wrote it.
func TestReleasedRecord(t *testing.T) {
	released.Values(t, "testdata/released/record.json", map[string]any{"record": record{}})
}
