package realserver_test

import (
	"bufio"
	"net"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre/internal/realserver"
)

// A link that is cut is silent in both directions; what was said meanwhile arrives when
// it is mended, the end of a connection too.
func TestRelay(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close() //nolint:errcheck // the test is over
	r := realserver.Relay(t, l.Addr().String())
	near, err := net.Dial("tcp", r.Address())
	require.NoError(t, err)
	defer near.Close() //nolint:errcheck // the test is over
	far, err := l.Accept()
	require.NoError(t, err)
	deadline := time.Now().Add(time.Minute)
	require.NoError(t, far.SetDeadline(deadline))
	heard, answered := bufio.NewReader(far), bufio.NewReader(near)
	say := func(c net.Conn, text string) {
		_, err := c.Write([]byte(text))
		require.NoError(t, err)
	}
	hears := func(from *bufio.Reader, want string) {
		line, err := from.ReadString('\n')
		require.NoError(t, err)
		require.Equal(t, want, line)
	}
	say(near, "one\n")
	hears(heard, "one\n")

	r.Cut()
	say(near, "two\n")
	say(far, "three\n")
	late, err := net.Dial("tcp", r.Address())
	require.NoError(t, err)
	defer late.Close() //nolint:errcheck // the test is over
	say(late, "four\n")
	require.NoError(t, near.SetDeadline(time.Now().Add(100*time.Millisecond)))
	_, err = answered.ReadString('\n')
	require.ErrorIs(t, err, os.ErrDeadlineExceeded, "neither words nor the end")
	require.NoError(t, far.Close())

	r.Mend()
	require.NoError(t, near.SetDeadline(deadline))
	hears(answered, "three\n")
	_, err = answered.ReadString('\n')
	require.Error(t, err, "the other end is gone")
	other, err := l.Accept()
	require.NoError(t, err)
	defer other.Close() //nolint:errcheck // the test is over
	require.NoError(t, other.SetDeadline(deadline))
	hears(bufio.NewReader(other), "four\n")
}
