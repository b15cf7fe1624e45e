//go:build realtest

package main

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack"
	computeapi "github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servers"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/tokens"
	"github.com/gophercloud/gophercloud/v2/pagination"
	amqpclient "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre/bus"
	"github.com/nacre-cloud/nacre/bus/amqp"
	hypervisorfake "github.com/nacre-cloud/nacre/compute/hypervisor/fake"
	dataplanefake "github.com/nacre-cloud/nacre/network/dataplane/fake"
	"github.com/nacre-cloud/nacre/servers/host"
)

// many is how many hosts and boots TestManyHosts has: NACRE_HOSTS, and twice as many.
func many(t *testing.T) int {
	n, err := strconv.Atoi(getenv("NACRE_HOSTS", "50"))
	require.NoError(t, err)
	return n
}

func getenv(name, other string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return other
}

// TestManyHosts has many simulated hosts, each with a connection and an account of its
// own at the broker, on one control plane over PostgreSQL and RabbitMQ. It tells what
// the control plane costs when nothing happens, how long after the broker is back all
// hosts are connected, and how fast servers boot; none may fail.
func TestManyHosts(t *testing.T) {
	n := many(t)
	s := rabbitPostgres(t)
	s.run(t) // no node: the hosts are in this process
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("host-%04d", i+1)
	}
	s.accounts(t, names)
	begun := time.Now()
	s.join(t, names)
	connected := func() int { return s.consumers(names) }
	s.up(n)
	t.Logf("%d hosts joined in %v", n, time.Since(begun).Round(time.Millisecond))

	s.idle(t)
	s.brokerBack(t, n, connected)
	s.boots(t, n)
}

// accounts makes the hosts' accounts at the broker, all at once.
func (s *spread) accounts(t *testing.T, names []string) {
	type m = map[string]any
	var users, permissions, topics []any
	salt := []byte("salt")
	sum := sha256.Sum256(append(salt, password...))
	hash := base64.StdEncoding.EncodeToString(append(salt, sum[:]...))
	for _, name := range names {
		user, p := "host-"+name, amqp.HostPermissions("", name)
		users = append(users, m{"name": user, "password_hash": hash, "hashing_algorithm": "rabbit_password_hashing_sha256", "tags": ""})
		permissions = append(permissions, m{"user": user, "vhost": "/", "configure": p.Configure, "write": p.Write, "read": p.Read})
		for x, keys := range p.Topics {
			topics = append(topics, m{"user": user, "vhost": "/", "exchange": x, "write": keys[0], "read": keys[1]})
		}
	}
	text, err := json.Marshal(m{"users": users, "permissions": permissions, "topic_permissions": topics})
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "definitions.json")
	require.NoError(t, os.WriteFile(file, text, 0o644))                   //nolint:gosec // the broker's user reads it
	require.NoError(t, os.Chmod(filepath.Dir(file), 0o755))               //nolint:gosec // the same
	require.NoError(t, os.Chmod(filepath.Dir(filepath.Dir(file)), 0o755)) //nolint:gosec // the same
	s.broker.(interface{ Ctl(...string) string }).Ctl("import_definitions", file)
}

// join makes the hosts known and starts them.
func (s *spread) join(t *testing.T, names []string) {
	admin, err := openstack.AuthenticatedClient(t.Context(), s.auth("nacre-admin"))
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	buses := make([]*bus.Bus, len(names))
	t.Cleanup(func() {
		cancel()
		wg.Wait()
		for _, b := range buses {
			if b != nil {
				_ = b.Close()
			}
		}
	})
	next := make(chan int)
	for range 8 {
		wg.Go(func() {
			for i := range next {
				name := names[i]
				resp, err := admin.Request(ctx, "POST", "http://"+s.listen+"/host/v1/hosts", &gophercloud.RequestOpts{
					JSONBody: map[string]any{"host": map[string]string{"name": name}}, OkCodes: []int{201}})
				if !assert.NoError(t, err) {
					continue
				}
				_ = resp.Body.Close()
				u, err := url.Parse(s.address)
				if !assert.NoError(t, err) {
					continue
				}
				u.User = url.UserPassword("host-"+name, password)
				transport, err := amqp.Open(ctx, amqp.Options{URL: u.String(), Host: name})
				if !assert.NoError(t, err) {
					continue
				}
				buses[i] = bus.New(transport, slog.New(slog.DiscardHandler))
				hv, err := hypervisorfake.New(hypervisorfake.Config{Name: name})
				assert.NoError(t, err)
				dp, err := dataplanefake.New(dataplanefake.Config{})
				assert.NoError(t, err)
				assert.NoError(t, host.Start(ctx, host.Config{Name: name, Bus: buses[i], Hypervisor: hv, Dataplane: dp, Log: slog.New(slog.DiscardHandler)},
					func(ctx context.Context, _ string, f func(context.Context) error) { wg.Go(func() { _ = f(ctx) }) }))
			}
		})
	}
	for i := range names {
		next <- i
	}
	close(next)
}

// consumers are the hosts that take in what is sent to both of their agents.
func (s *spread) consumers(names []string) (n int) {
	c, err := amqpclient.Dial(s.cfg.BusURL)
	if err != nil {
		return 0
	}
	defer c.Close() //nolint:errcheck // it only looked
	ch, err := c.Channel()
	if err != nil {
		return 0
	}
	for _, name := range names {
		both := true
		for _, area := range []string{"compute", "network"} {
			q, err := ch.QueueDeclarePassive("nacre.q."+area+".host."+name, true, false, false, false, nil)
			if err != nil {
				if ch, err = c.Channel(); err != nil {
					return 0
				}
			}
			both = both && q.Consumers == 1
		}
		if both {
			n++
		}
	}
	return n
}

// idle tells what an idle minute costs.
func (s *spread) idle(t *testing.T) {
	time.Sleep(5 * time.Second)
	before, begun := cpu(t, s.cmd.Process.Pid), time.Now()
	time.Sleep(20 * time.Second)
	used, took := cpu(t, s.cmd.Process.Pid)-before, time.Since(begun)
	t.Logf("idle: %.1f %% of a core, %d MB resident", 100*used.Seconds()/took.Seconds(), resident(t, s.cmd.Process.Pid)>>20)
}

// cpu is what a process has used.
func cpu(t *testing.T, pid int) time.Duration {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	require.NoError(t, err)
	f := strings.Fields(string(text)[strings.LastIndexByte(string(text), ')')+1:])
	user, err := strconv.ParseInt(f[11], 10, 64)
	require.NoError(t, err)
	system, err := strconv.ParseInt(f[12], 10, 64)
	require.NoError(t, err)
	return time.Duration(user+system) * 10 * time.Millisecond
}

func resident(t *testing.T, pid int) int64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	require.NoError(t, err)
	pages, err := strconv.ParseInt(strings.Fields(string(text))[1], 10, 64)
	require.NoError(t, err)
	return pages * int64(os.Getpagesize())
}

// brokerBack restarts the broker.
func (s *spread) brokerBack(t *testing.T, n int, connected func() int) {
	s.broker.Stop()
	require.Eventually(t, func() bool { return connected() == 0 }, time.Minute, 10*time.Millisecond)
	u, err := url.Parse(s.address)
	require.NoError(t, err)
	began := time.Now()
	accepts := make(chan time.Time, 1)
	go func() {
		for end := time.Now().Add(5 * time.Minute); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
			if c, err := net.DialTimeout("tcp", u.Host, time.Second); err == nil {
				_ = c.Close()
				accepts <- time.Now()
				return
			}
		}
		close(accepts)
	}()
	s.broker.Start()
	up, ok := <-accepts
	require.True(t, ok, "the broker does not come back")
	require.Eventually(t, func() bool { return connected() == n }, time.Minute, 10*time.Millisecond, "hosts that are connected again")
	t.Logf("the broker accepted connections %v after its start, and %v later all hosts were connected", up.Sub(began).Round(time.Millisecond), time.Since(up).Round(time.Millisecond))
	s.up(n)
}

// boots has 16 clients boot two servers a host and delete them.
func (s *spread) boots(t *testing.T, hosts int) {
	ctx := t.Context()
	admin, err := openstack.AuthenticatedClient(ctx, s.auth("nacre-admin"))
	require.NoError(t, err)
	c, err := openstack.NewComputeV2(admin, gophercloud.EndpointOpts{Region: "RegionOne"})
	require.NoError(t, err)
	c.Microversion = "2.60"
	project, err := admin.GetAuthResult().(tokens.CreateResult).ExtractProject()
	require.NoError(t, err)
	resp, err := c.Put(ctx, c.ServiceURL("os-quota-sets", project.ID), map[string]any{"quota_set": map[string]int{"instances": -1, "cores": -1, "ram": -1}}, nil, &gophercloud.RequestOpts{OkCodes: []int{200}})
	require.NoError(t, err)
	_ = resp.Body.Close()
	image := s.imageID(ctx)
	total := 2 * hosts
	begun, before := time.Now(), cpu(t, s.cmd.Process.Pid)
	var made atomic.Int64
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for i := made.Add(1); i <= int64(total); i = made.Add(1) {
				_, err := computeapi.Create(ctx, c, computeapi.CreateOpts{Name: fmt.Sprintf("many-%d", i), ImageRef: image, FlavorRef: "42", Networks: "none"}, nil).Extract()
				assert.NoError(t, err)
			}
		})
	}
	wg.Wait()
	accepted := time.Since(begun)
	var failed []string
	count := func(status string) (n int) {
		err := computeapi.List(c, computeapi.ListOpts{Status: status}).EachPage(ctx, func(_ context.Context, p pagination.Page) (bool, error) {
			list, err := computeapi.ExtractServers(p)
			for _, sv := range list {
				n++
				if status == "ERROR" {
					failed = append(failed, sv.Name+": "+sv.Fault.Message)
				}
			}
			return true, err
		})
		assert.NoError(t, err)
		return n
	}
	require.Eventually(t, func() bool { // a look at one server: long lists would be most of the work
		var body struct{ Servers []struct{ ID string } }
		resp, err := c.Get(ctx, c.ServiceURL("servers")+"?status=BUILD&limit=1", &body, nil)
		return assert.NoError(t, err) && resp.Body.Close() == nil && len(body.Servers) == 0
	}, 5*time.Minute, 100*time.Millisecond, "servers that are still building")
	took, used := time.Since(begun), cpu(t, s.cmd.Process.Pid)-before
	require.Zero(t, count("ERROR"), failed)
	require.Equal(t, total, count("ACTIVE"))
	t.Logf("%d boots in %v (%.0f/s; the last was accepted after %v), none failed; each took %.1f ms of the control plane's processor time", total, took.Round(time.Millisecond),
		float64(total)/took.Seconds(), accepted.Round(time.Millisecond), 1000*used.Seconds()/float64(total))
}
