//go:build realtest

package objectstore_test

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The system calls that a process makes on its files are recorded, and its disk is
// put together as it would be found after a power cut at many of them: what was
// synced is there; of what was written since, nothing, everything, or any pieces.

// inode is a file: what is on the disk for sure, and what has been done since.
type inode struct {
	synced []byte
	since  []fileOp
}

// fileOp is a write at an offset, or with cut a change of the size to off.
type fileOp struct {
	off  int64
	data []byte
	cut  bool
}

// disk is what a recorded process has made of a directory.
type disk struct {
	root string
	// live are the names as the process sees them, synced as the disk has them.
	live, synced map[string]*inode
	pos          map[string]int64 // of write, by descriptor
	begun        map[string]begun // calls that have not returned, by thread
	acked        map[string]bool
}

type begun struct {
	text string
	// since is how many operations a file had when its sync began.
	since int
}

// power says what of the unsynced survives.
type power int

const (
	nothing power = iota
	everything
	pieces
)

func (f *inode) content(p power, r *rand.Rand) []byte {
	b := slices.Clone(f.synced)
	for _, op := range f.since {
		if p == nothing || p == pieces && r.IntN(2) == 0 {
			continue
		}
		b = op.apply(b, p, r)
	}
	return b
}

// apply does an operation; in pieces, a write loses some of its sectors.
func (op fileOp) apply(b []byte, p power, r *rand.Rand) []byte {
	if op.cut {
		if op.off <= int64(len(b)) {
			return b[:op.off]
		}
		return append(b, make([]byte, op.off-int64(len(b)))...)
	}
	if end := op.off + int64(len(op.data)); end > int64(len(b)) {
		b = append(b, make([]byte, end-int64(len(b)))...)
	}
	for at := 0; at < len(op.data); at += 512 {
		if p != pieces || r.IntN(4) > 0 {
			copy(b[op.off+int64(at):], op.data[at:min(at+512, len(op.data))])
		}
	}
	return b
}

var (
	escaped = regexp.MustCompile(`(?:\\x[0-9a-f]{2})+`)
	called  = regexp.MustCompile(`^(\d+) +(\w+)\((.*)\) += (-?\d+)`)
	started = regexp.MustCompile(`^(\d+) +(\w+\(.*) <unfinished \.\.\.>$`)
	resumed = regexp.MustCompile(`^(\d+) +<\.\.\. \w+ resumed>(.*)$`)
	onFile  = regexp.MustCompile(`^(\d+)<([^>]*)>`)
	quoted  = regexp.MustCompile(`"([^"]*)"`)
)

func unescape(s string) string {
	return escaped.ReplaceAllStringFunc(s, func(x string) string {
		b := make([]byte, len(x)/4)
		for i := range b {
			n, _ := strconv.ParseUint(x[4*i+2:4*i+4], 16, 8)
			b[i] = byte(n)
		}
		return string(b)
	})
}

// line takes a line of the record, and says whether it changed anything.
func (d *disk) line(t *testing.T, text string) bool {
	if m := started.FindStringSubmatch(text); m != nil {
		d.begun[m[1]] = begun{m[2], d.ops(m[2])}
		return false
	}
	since := -1
	if m := resumed.FindStringSubmatch(text); m != nil {
		b := d.begun[m[1]]
		text, since = m[1]+" "+b.text+m[2], b.since
	}
	m := called.FindStringSubmatch(text)
	if m == nil || m[4][0] == '-' {
		return false
	}
	if since < 0 {
		since = d.ops(m[2] + "(" + m[3])
	}
	result, err := strconv.ParseInt(m[4], 10, 64)
	require.NoError(t, err)
	return d.call(t, m[2], m[3], result, since)
}

// ops is how many unsynced operations there are on the file that a call is about.
func (d *disk) ops(call string) int {
	_, args, _ := strings.Cut(call, "(")
	if f := d.live[d.path(args)]; f != nil {
		return len(f.since)
	}
	return 0
}

// path is the file of a call's descriptor; empty is one that isn't the disk's.
func (d *disk) path(args string) string {
	m := onFile.FindStringSubmatch(args)
	if m == nil {
		return ""
	}
	if p := unescape(m[2]); strings.HasPrefix(p, d.root) && !strings.HasSuffix(p, "-shm") {
		return p
	}
	return ""
}

func (d *disk) call(t *testing.T, name, args string, result int64, since int) bool {
	path := d.path(args)
	f := d.live[path]
	var strs []string
	for _, m := range quoted.FindAllStringSubmatch(args, -1) {
		strs = append(strs, unescape(m[1]))
	}
	fields := strings.Split(args, ", ")
	last := func(i int) int64 {
		n, err := strconv.ParseInt(fields[len(fields)-i], 10, 64)
		require.NoError(t, err, args)
		return n
	}
	fd, _, _ := strings.Cut(args, "<")
	switch name {
	case "open", "openat", "creat":
		d.pos[strconv.FormatInt(result, 10)] = 0
		p := strs[0]
		if !strings.HasPrefix(p, d.root) || strings.HasSuffix(p, "-shm") {
			return false
		}
		if d.live[p] == nil && strings.Contains(args, "O_CREAT") {
			d.live[p] = &inode{}
		} else if d.live[p] != nil && strings.Contains(args, "O_TRUNC") {
			d.live[p].since = append(d.live[p].since, fileOp{cut: true})
		}
		return true
	case "write":
		if strings.HasPrefix(args, "1<") {
			for l := range strings.Lines(strs[0]) {
				told(d.acked, strings.TrimSpace(l))
			}
			return true
		}
		if f != nil {
			f.since = append(f.since, fileOp{off: d.pos[fd], data: []byte(strs[0])[:result]})
			d.pos[fd] += result
		}
	case "pwrite64":
		if f != nil {
			f.since = append(f.since, fileOp{off: last(1), data: []byte(strs[0])[:result]})
		}
	case "ftruncate":
		if f != nil {
			f.since = append(f.since, fileOp{off: last(1), cut: true})
		}
	case "fallocate":
		if f != nil {
			require.Contains(t, args, "FALLOC_FL_PUNCH_HOLE")
			f.since = append(f.since, fileOp{off: last(2), data: make([]byte, last(1))})
		}
	case "fsync", "fdatasync":
		d.fsync(path, f, since)
	case "rename", "renameat", "renameat2":
		if strings.HasPrefix(strs[0], d.root) {
			d.live[strs[1]] = d.live[strs[0]]
			delete(d.live, strs[0])
		}
	case "unlink", "unlinkat":
		delete(d.live, strs[0])
	default:
		require.Failf(t, "a call that the simulation does not know", "%s(%.200s", name, args)
	}
	return path != "" || f != nil
}

func (d *disk) fsync(path string, f *inode, since int) {
	if f != nil {
		for _, op := range f.since[:since] {
			f.synced = op.apply(f.synced, everything, nil)
		}
		f.since = f.since[since:]
		return
	}
	for p := range d.synced {
		if filepath.Dir(p) == path && d.live[p] == nil {
			delete(d.synced, p)
		}
	}
	for p, f := range d.live {
		if filepath.Dir(p) == path {
			d.synced[p] = f
		}
	}
}

// cut writes what is on the disk when the power fails now.
func (d *disk) cut(t *testing.T, to string, p power, r *rand.Rand) {
	names := d.synced
	if p == everything || p == pieces && r.IntN(2) == 0 {
		names = d.live
	}
	for path, f := range names {
		rel, err := filepath.Rel(d.root, path)
		require.NoError(t, err)
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(to, rel)), 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(to, rel), f.content(p, r), 0o600))
	}
}

func TestPowerCut(t *testing.T) {
	tool, err := exec.LookPath("strace")
	require.NoError(t, err, "this test records system calls with strace")
	dir, record := t.TempDir(), filepath.Join(t.TempDir(), "record")
	cmd := exec.CommandContext(t.Context(), tool, "-f", "-y", "-xx", "-s", "1000000", "-o", record,
		"-e", "trace=open,openat,creat,write,writev,pwrite64,pwritev,pwritev2,ftruncate,truncate,fallocate,fsync,fdatasync,rename,renameat,renameat2,link,linkat,unlink,unlinkat,copy_file_range,sendfile,splice",
		os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), "NACRE_TEST_KILLED="+dir, "NACRE_TEST_ENCRYPTED=1", "NACRE_TEST_ROUNDS=20")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)

	f, err := os.Open(record)
	require.NoError(t, err)
	defer f.Close() //nolint:errcheck // read only
	seed := uint64(os.Getpid())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // a test's
	d := &disk{root: dir, live: map[string]*inode{}, synced: map[string]*inode{}, pos: map[string]int64{}, begun: map[string]begun{}, acked: map[string]bool{}}
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 64<<20)
	changes, cuts, most := 0, 0, 0
	for lines.Scan() {
		if !d.line(t, lines.Text()) {
			continue
		}
		if changes++; r.IntN(30) > 0 {
			continue
		}
		cuts++
		most = max(most, len(d.acked))
		p := power(r.IntN(3))
		to := filepath.Join(t.TempDir(), fmt.Sprint(cuts))
		require.NoError(t, os.Mkdir(to, 0o700))
		d.cut(t, to, p, r)
		ok := t.Run(fmt.Sprintf("cut %d after %d calls, %d acknowledged, %s survives", cuts, changes, len(d.acked), []string{"nothing", "everything", "any piece"}[p]), func(t *testing.T) {
			survived(t, to, d.acked)
		})
		require.NoError(t, os.RemoveAll(to))
		if !ok {
			return
		}
	}
	require.NoError(t, lines.Err())
	require.Greater(t, most, 50, "the process got somewhere")
	require.Greater(t, cuts, 20)
}
