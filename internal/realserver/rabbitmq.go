package realserver

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Rabbit is a RabbitMQ broker.
type Rabbit struct {
	process
	port int
	env  []string
	attr *syscall.SysProcAttr
}

// RabbitMQ starts a broker (Debian's rabbitmq-server). It takes about ten seconds.
func RabbitMQ(t testing.TB) *Rabbit {
	t.Helper()
	const server = "/usr/lib/rabbitmq/bin/rabbitmq-server"
	require.FileExists(t, server, "RabbitMQ is not installed (apt-get install rabbitmq-server)")
	dir, attr := directory(t, "rabbitmq", "rabbitmq")
	r := &Rabbit{port: Port(t), attr: attr}
	epmd := Port(t)
	r.env = append(os.Environ(), "HOME="+dir, "RABBITMQ_NODENAME=nacre"+strconv.Itoa(r.port)+"@localhost", "RABBITMQ_NODE_IP_ADDRESS=127.0.0.1",
		"RABBITMQ_NODE_PORT="+strconv.Itoa(r.port), "RABBITMQ_DIST_PORT="+strconv.Itoa(Port(t)), "RABBITMQ_MNESIA_BASE="+dir, "RABBITMQ_LOG_BASE="+dir,
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

// UserURL is the broker's, for another user.
func (r *Rabbit) UserURL(user, password string) string {
	return fmt.Sprintf("amqp://%s:%s@127.0.0.1:%d/", user, password, r.port)
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
