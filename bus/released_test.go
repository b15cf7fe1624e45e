package bus

import (
	"testing"

	"github.com/nacre-cloud/nacre/internal/released"
)

// The answers to calls are understood by the previous release.
func TestReleasedAnswers(t *testing.T) {
	released.Values(t, "testdata/released/answers.json", map[string]any{"answer": envelope{}})
}
