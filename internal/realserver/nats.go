package realserver

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// NATSUser is one of a NATS server's; without subjects it may use all.
type NATSUser struct {
	Name, Password     string
	Publish, Subscribe []string
}

// NATSServer is a NATS server with JetStream.
type NATSServer struct {
	process
	port int
}

// NATS starts a server (Debian's nats-server) with these users, or for anybody.
func NATS(t testing.TB, users ...NATSUser) *NATSServer {
	t.Helper()
	bin, err := exec.LookPath("nats-server")
	if err != nil {
		bin = "/usr/sbin/nats-server"
	}
	require.FileExists(t, bin, "NATS is not installed (apt-get install nats-server)")
	dir, attr := directory(t, "nats", "nats")
	s := &NATSServer{port: Port(t)}
	var conf strings.Builder
	fmt.Fprintf(&conf, "listen: \"127.0.0.1:%d\"\njetstream { store_dir: %q }\n", s.port, filepath.Join(dir, "js"))
	if len(users) > 0 {
		conf.WriteString("authorization { users: [\n")
		for _, u := range users {
			fmt.Fprintf(&conf, "{ user: %q, password: %q", u.Name, u.Password)
			if u.Publish != nil || u.Subscribe != nil {
				fmt.Fprintf(&conf, ", permissions: { publish: { allow: %s }, subscribe: { allow: %s } }", quoted(u.Publish), quoted(u.Subscribe))
			}
			conf.WriteString(" }\n")
		}
		conf.WriteString("] }\n")
	}
	path := filepath.Join(dir, "nats.conf")
	require.NoError(t, os.WriteFile(path, []byte(conf.String()), 0o644)) //nolint:gosec // the server's user reads it
	s.process = process{t: t, make: func() *exec.Cmd {
		c := exec.Command(bin, "-c", path)
		c.SysProcAttr, c.Dir = attr, dir
		return c
	}, up: func() error {
		c, err := net.DialTimeout("tcp", "127.0.0.1:"+strconv.Itoa(s.port), time.Second)
		if err != nil {
			return err
		}
		return c.Close()
	}}
	s.begin(t)
	return s
}

func quoted(list []string) string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = strconv.Quote(s)
	}
	return "[" + strings.Join(out, ", ") + "]"
}

// URL is the server's, for a user, or for anybody when name is empty.
func (s *NATSServer) URL(name, password string) string {
	if name == "" {
		return fmt.Sprintf("nats://127.0.0.1:%d", s.port)
	}
	return fmt.Sprintf("nats://%s:%s@127.0.0.1:%d", name, password, s.port)
}
