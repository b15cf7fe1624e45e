package realserver

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Rabbit is a RabbitMQ broker.
type Rabbit struct {
	process
	port int
	tls  int
	env  []string
	attr *syscall.SysProcAttr
}

// RabbitMQ starts a broker (Debian's rabbitmq-server). It takes about ten seconds.
func RabbitMQ(t testing.TB) *Rabbit {
	t.Helper()
	const server = "/usr/lib/rabbitmq/bin/rabbitmq-server"
	require.FileExists(t, server, "RabbitMQ is not installed (apt-get install rabbitmq-server)")
	dir, attr := directory(t, "rabbitmq", "rabbitmq")
	r := &Rabbit{port: Port(t), tls: Port(t), attr: attr}
	cert, key := certificate(t, dir, attr)
	conf := filepath.Join(dir, "rabbitmq.conf")
	require.NoError(t, os.WriteFile(conf, fmt.Appendf(nil, "listeners.ssl.1 = 127.0.0.1:%d\nssl_options.certfile = %s\nssl_options.keyfile = %s\n", r.tls, cert, key), 0o644)) //nolint:gosec // the server's user reads it
	epmd := Port(t)
	r.env = append(os.Environ(), "HOME="+dir, "RABBITMQ_NODENAME=nacre"+strconv.Itoa(r.port)+"@localhost", "RABBITMQ_NODE_IP_ADDRESS=127.0.0.1",
		"RABBITMQ_NODE_PORT="+strconv.Itoa(r.port), "RABBITMQ_DIST_PORT="+strconv.Itoa(Port(t)), "RABBITMQ_CONFIG_FILE="+conf, "RABBITMQ_MNESIA_BASE="+dir, "RABBITMQ_LOG_BASE="+dir,
		"RABBITMQ_ENABLED_PLUGINS_FILE="+filepath.Join(dir, "plugins"), "ERL_EPMD_PORT="+strconv.Itoa(epmd), "ERL_EPMD_ADDRESS=127.0.0.1",
		`RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=-kernel inet_dist_use_interface {127,0,0,1}`)
	r.process = process{t: t, make: func() *exec.Cmd {
		c := exec.Command(server)
		c.Env, c.SysProcAttr, c.Dir = r.env, attr, dir
		return c
	}, up: func() error {
		c, err := net.DialTimeout("tcp", "127.0.0.1:"+strconv.Itoa(r.port), time.Second)
		if err != nil {
			return err
		}
		return c.Close()
	}}
	t.Cleanup(func() { // the broker's name service is a daemon of its own
		c := exec.Command("epmd", "-port", strconv.Itoa(epmd), "-kill")
		c.Env, c.SysProcAttr = r.env, attr
		_ = c.Run()
	})
	r.begin(t)
	return r
}

// URL is the broker's, for its default user.
func (r *Rabbit) URL() string { return fmt.Sprintf("amqp://guest:guest@127.0.0.1:%d/", r.port) }

// TLSURL is the broker's with TLS.
func (r *Rabbit) TLSURL() string { return fmt.Sprintf("amqps://guest:guest@127.0.0.1:%d/", r.tls) }

// TLSPort is where the broker speaks TLS.
func (r *Rabbit) TLSPort() string { return strconv.Itoa(r.tls) }

// UserURL is the broker's, for another user.
func (r *Rabbit) UserURL(user, password string) string {
	return fmt.Sprintf("amqp://%s:%s@127.0.0.1:%d/", user, password, r.port)
}

// Tell does what an operator does with what `nacre host add` says of the broker.
func (r *Rabbit) Tell(lines []string) {
	r.t.Helper()
	for _, line := range lines {
		line, _, _ = strings.Cut(line, " || ")
		words := strings.Fields(line)
		for i := range words {
			words[i] = strings.Trim(words[i], "'")
		}
		r.Ctl(words[1:]...)
	}
}

// Ctl runs rabbitmqctl.
func (r *Rabbit) Ctl(args ...string) string {
	r.t.Helper()
	c := exec.Command("/usr/lib/rabbitmq/bin/rabbitmqctl", args...)
	c.Env, c.SysProcAttr = r.env, r.attr
	out, err := c.CombinedOutput()
	require.NoError(r.t, err, "%s", out)
	return string(out)
}
