package main

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack"
	computeapi "github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servers"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/nacre-cloud/nacre/servers"
	"github.com/nacre-cloud/nacre/servers/kit"
	"github.com/nacre-cloud/nacre/servers/parts"
)

// process is an all-in-one in a process of its own, with simulated guests.
type process struct {
	t      *testing.T
	binary string
	state  string
	listen string
	image  string
	more   []string // further flags
	cmd    *exec.Cmd
	// cfg is how the audit opens its state.
	cfg kit.Config
}

func newProcess(t *testing.T) *process {
	dir := t.TempDir()
	p := &process{t: t, binary: filepath.Join(dir, "allinone"), state: filepath.Join(dir, "state"), image: filepath.Join(dir, "small.raw")}
	out, err := exec.Command("go", "build", "-o", p.binary, ".").CombinedOutput()
	require.NoError(t, err, string(out))
	require.NoError(t, os.WriteFile(p.image, make([]byte, 64<<10), 0o600))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p.listen = l.Addr().String()
	require.NoError(t, l.Close())
	p.cfg = kit.Default()
	p.cfg.StateDir = p.state
	return p
}

// start runs it until it says that it is ready.
func (p *process) start() {
	p.t.Helper()
	p.cmd = exec.Command(p.binary, "-state-dir", p.state, "-listen", p.listen, "-image", p.image)
	p.cmd.Args = append(p.cmd.Args, p.more...)
	p.cmd.Stderr = os.Stderr
	out, err := p.cmd.StdoutPipe()
	require.NoError(p.t, err)
	require.NoError(p.t, p.cmd.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(p.t, err, "it ended before it was ready")
	require.Contains(p.t, line, "ready in")
}

func (p *process) kill() {
	require.NoError(p.t, p.cmd.Process.Kill())
	_ = p.cmd.Wait()
}

func (p *process) stop() {
	require.NoError(p.t, p.cmd.Process.Signal(os.Interrupt))
	require.NoError(p.t, p.cmd.Wait())
}

// client is the demo user's compute.
func (p *process) client(ctx context.Context) *gophercloud.ServiceClient {
	pc, err := openstack.AuthenticatedClient(ctx, p.auth("nacre"))
	require.NoError(p.t, err)
	c, err := openstack.NewComputeV2(pc, gophercloud.EndpointOpts{Region: "RegionOne"})
	require.NoError(p.t, err)
	c.Microversion = "2.60"
	return c
}

// auth is what clouds.yaml says of a cloud.
func (p *process) auth(cloud string) gophercloud.AuthOptions {
	b, err := os.ReadFile(filepath.Join(p.state, "clouds.yaml"))
	require.NoError(p.t, err)
	var doc struct {
		Clouds map[string]struct{ Auth map[string]string }
	}
	require.NoError(p.t, yaml.Unmarshal(b, &doc))
	a := doc.Clouds[cloud].Auth
	return gophercloud.AuthOptions{IdentityEndpoint: a["auth_url"], Username: a["username"], Password: a["password"], TenantName: a["project_name"], DomainID: "default", AllowReauth: true}
}

// work asks for boots and deletions until the process is killed under it.
func (p *process) work(ctx context.Context, c *gophercloud.ServiceClient, image string, round int) {
	for i := 0; ctx.Err() == nil; i++ {
		s, err := computeapi.Create(ctx, c, computeapi.CreateOpts{Name: fmt.Sprintf("vm-%d-%d", round, i), ImageRef: image, FlavorRef: "42", Networks: "auto"}, nil).Extract()
		if err != nil {
			if gophercloud.ResponseCodeIs(err, 403) { // over quota: make room
				list, lerr := p.list(ctx, c)
				if lerr != nil {
					return
				}
				for _, old := range list[:len(list)/2] {
					_ = computeapi.Delete(ctx, c, old.ID)
				}
				continue
			}
			return
		}
		if rand.IntN(3) == 0 {
			_ = computeapi.Delete(ctx, c, s.ID)
		}
	}
}

func (p *process) list(ctx context.Context, c *gophercloud.ServiceClient) ([]computeapi.Server, error) {
	pages, err := computeapi.List(c, computeapi.ListOpts{}).AllPages(ctx)
	if err != nil {
		return nil, err
	}
	return computeapi.ExtractServers(pages)
}

// TestKilledAtAnyMoment kills the all-in-one at random moments of boots and
// deletions, NACRE_KILLS times. After each restart every server reaches ACTIVE,
// ERROR with a reason, or is gone, and the audit finds nothing; in the end nothing
// is left.
func TestKilledAtAnyMoment(t *testing.T) {
	kills := 4
	if v := os.Getenv("NACRE_KILLS"); v != "" {
		var err error
		kills, err = strconv.Atoi(v)
		require.NoError(t, err)
	}
	p := newProcess(t)
	p.start()
	image := p.imageID(t.Context())
	for round := range kills {
		ctx, cancel := context.WithCancel(t.Context())
		c := p.client(ctx)
		done := make(chan struct{})
		go func() { defer close(done); p.work(ctx, c, image, round) }()
		time.Sleep(time.Duration(rand.IntN(400)) * time.Millisecond) // the random moment
		p.kill()
		cancel()
		<-done
		p.start()
		p.settle(t.Context(), round)
	}
	c := p.client(t.Context())
	list, err := p.list(t.Context(), c)
	require.NoError(t, err)
	for _, s := range list {
		require.NoError(t, computeapi.Delete(t.Context(), c, s.ID).ExtractErr())
	}
	p.settle(t.Context(), kills)
	list, err = p.list(t.Context(), c)
	require.NoError(t, err)
	require.Empty(t, list)
	p.stop()
	left, err := os.ReadDir(filepath.Join(p.state, "hosts", "node1", "guests"))
	require.NoError(t, err)
	for _, f := range left {
		require.NotContains(t, f.Name(), ".json", "a guest is left on the host")
	}
}

func (p *process) imageID(ctx context.Context) string {
	c := p.client(ctx)
	im, err := openstack.NewImageV2(c.ProviderClient, gophercloud.EndpointOpts{Region: "RegionOne"})
	require.NoError(p.t, err)
	var body struct{ Images []struct{ ID string } }
	resp, err := im.Get(ctx, im.ServiceURL("images"), &body, nil)
	require.NoError(p.t, err)
	defer resp.Body.Close() //nolint:errcheck // read by Get
	require.Len(p.t, body.Images, 1)
	return body.Images[0].ID
}

// settle waits until every server is at rest and holds the audit to nothing.
func (p *process) settle(ctx context.Context, round int) {
	c := p.client(ctx)
	deadline := time.Now().Add(60 * time.Second)
	for {
		list, err := p.list(ctx, c)
		require.NoError(p.t, err)
		var moving []string
		for _, s := range list {
			switch {
			case s.TaskState != "" || s.Status == "BUILD":
				moving = append(moving, s.ID+" "+s.Status+"/"+s.TaskState)
			case s.Status == "ERROR":
				require.NotEmpty(p.t, s.Fault.Message, "an error without a reason")
			default:
				require.Equal(p.t, "ACTIVE", s.Status)
			}
		}
		if len(moving) == 0 {
			fs, err := servers.AuditLocal(ctx, p.cfg, parts.All)
			require.NoError(p.t, err)
			if len(fs) == 0 {
				return
			}
			if time.Now().After(deadline) {
				require.Empty(p.t, fs, "round %d", round)
			}
		} else if time.Now().After(deadline) {
			require.Fail(p.t, "stuck", "round %d: %s", round, strings.Join(moving, ", "))
		}
		time.Sleep(50 * time.Millisecond)
	}
}
