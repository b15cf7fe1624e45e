// Package matrix holds who may do what against a file that was reviewed: a table of
// routes by callers, testdata/matrix.golden beside the test. A change in the file is
// a change in who may do what, and wants to be looked at.
//
//	m := matrix.New("Who may do what …", "anonymous", "reader", "member")
//	m.Row("GET /v2/images", "401", "200", "200")
//	m.Check(t)
//
// "go test -run Matrix -update" writes the file anew. It is for tests only.
package matrix

import (
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write testdata/matrix.golden anew")

// Matrix is a table in the making.
type Matrix struct {
	about   string
	columns []string
	rows    []row
}

// row is a heading where it has no cells.
type row struct {
	name  string
	cells []string
}

// New begins a table: what is said above it, and who tries.
func New(about string, columns ...string) *Matrix { return &Matrix{about: about, columns: columns} }

// Row adds what each caller gets from a route.
func (m *Matrix) Row(name string, cells ...string) { m.rows = append(m.rows, row{name, cells}) }

// Head adds a heading for the rows that follow.
func (m *Matrix) Head(name string) { m.rows = append(m.rows, row{name: name}) }

// Check compares with the file.
func (m *Matrix) Check(t *testing.T) {
	t.Helper()
	got := m.text(t)
	file := filepath.Join("testdata", "matrix.golden")
	if *update {
		require.NoError(t, os.MkdirAll("testdata", 0o755))
		require.NoError(t, os.WriteFile(file, []byte(got), 0o644))
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, string(want), got)
}

func (m *Matrix) text(t *testing.T) string {
	first, widths := 1, make([]int, len(m.columns))
	for i, c := range m.columns {
		widths[i] = len(c)
	}
	for _, r := range m.rows {
		if r.cells == nil {
			continue
		}
		require.Len(t, r.cells, len(m.columns), r.name)
		first = max(first, len(r.name))
		for i, c := range r.cells {
			widths[i] = max(widths[i], len(c))
		}
	}
	var out strings.Builder
	for line := range strings.Lines(strings.TrimSpace(m.about)) {
		out.WriteString("# " + strings.TrimSpace(line) + "\n")
	}
	for _, r := range slices.Concat([]row{{"#", m.columns}}, m.rows) {
		if r.cells == nil {
			out.WriteString("\n# " + r.name + "\n")
			continue
		}
		line := r.name + strings.Repeat(" ", first-len(r.name))
		for i, c := range r.cells {
			line += "  " + c + strings.Repeat(" ", widths[i]-len(c))
		}
		out.WriteString(strings.TrimRight(line, " ") + "\n")
	}
	return out.String()
}
