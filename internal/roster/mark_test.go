package roster_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre/internal/roster"
)

func TestMark(t *testing.T) {
	m := func(epoch, sequence int64) roster.Mark { return roster.Mark{Epoch: epoch, Sequence: sequence} }
	for name, c := range map[string]struct {
		report, host roster.Mark
		alive, want  bool
	}{
		"the next one":                        {m(5, 3), m(5, 2), true, false},
		"the same again":                      {m(5, 2), m(5, 2), true, false},
		"an older one":                        {m(5, 1), m(5, 2), false, true},
		"a new agent":                         {m(6, 1), m(5, 9), true, false},
		"the agent that is gone":              {m(4, 9), m(5, 1), true, true},
		"a clock set back, the host is quiet": {m(4, 1), m(5, 9), false, false},
		"an agent that does not count":        {m(4, 0), m(5, 9), true, false},
	} {
		require.Equal(t, c.want, c.report.Overtaken(c.host, c.alive), name)
	}
	for name, c := range map[string]struct {
		report, row, host roster.Mark
		want              bool
	}{
		"the next one":                         {m(5, 3), m(5, 2), m(5, 1), false},
		"an older one":                         {m(5, 1), m(5, 2), m(5, 1), true},
		"a new agent's":                        {m(6, 1), m(5, 9), m(5, 1), false},
		"the agent's that is gone":             {m(4, 9), m(6, 1), m(5, 1), true},
		"the row was by another host":          {m(5, 1), m(9, 9), m(5, 1), false},
		"the agent of now, its clock set back": {m(4, 1), m(5, 9), m(4, 1), false},
		"an agent that does not count":         {m(4, 0), m(5, 9), m(5, 9), false},
	} {
		require.Equal(t, c.want, c.report.OvertakenBy(c.row, c.host), name)
	}
}
