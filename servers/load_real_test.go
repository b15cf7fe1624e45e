//go:build realtest

package servers_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/quotasets"
	computeapi "github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servers"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/tokens"
	"github.com/gophercloud/gophercloud/v2/openstack/image/v2/imagedata"
	"github.com/gophercloud/gophercloud/v2/openstack/image/v2/images"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/quotas"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/networks"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/subnets"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	computeagent "github.com/nacre-cloud/nacre/compute/agent"
	"github.com/nacre-cloud/nacre/internal/reconcile"
)

// restWithin is when every server is at rest after the last fault: work whose worker was
// killed waits for its lease, and what a host was not told, or said in vain, comes again
// with its next full report.
const restWithin = reconcile.DefaultLease + computeagent.DefaultInterval + computeagent.DefaultInterval/10

// unlimited takes the quotas off the load's project.
func (c *copies) unlimited(t *testing.T) {
	project, err := c.client("demo").GetAuthResult().(tokens.CreateResult).ExtractProject()
	require.NoError(t, err)
	compute, err := openstack.NewComputeV2(c.client("admin"), regionOne)
	require.NoError(t, err)
	require.NoError(t, quotasets.Update(t.Context(), compute, project.ID, quotasets.UpdateOpts{Instances: ptr(-1), Cores: ptr(-1), RAM: ptr(-1)}).Err)
	network, err := openstack.NewNetworkV2(c.client("admin"), regionOne)
	require.NoError(t, err)
	require.NoError(t, quotas.Update(t.Context(), network, project.ID, quotas.UpdateOpts{Port: ptr(-1)}).Err)
}

// begin makes what the load needs.
func (c *copies) begin(t *testing.T) string {
	demo := c.client("demo")
	network, err := openstack.NewNetworkV2(demo, regionOne)
	require.NoError(t, err)
	n, err := networks.Create(t.Context(), network, networks.CreateOpts{Name: "load"}).Extract()
	require.NoError(t, err)
	_, err = subnets.Create(t.Context(), network, subnets.CreateOpts{NetworkID: n.ID, CIDR: "10.9.0.0/16", IPVersion: 4}).Extract()
	require.NoError(t, err)
	store, err := openstack.NewImageV2(demo, regionOne)
	require.NoError(t, err)
	im, err := images.Create(t.Context(), store, images.CreateOpts{Name: "load", DiskFormat: "raw", ContainerFormat: "bare"}).Extract()
	require.NoError(t, err)
	require.NoError(t, imagedata.Upload(t.Context(), store, im.ID, bytes.NewReader(make([]byte, 64<<10))).ExtractErr())
	return im.ID
}

// fate is what is known of a server.
type fate int

const (
	held    fate = iota // its creation was acknowledged
	doomed              // its deletion was asked for; whether that was heard is not known
	deleted             // its deletion was acknowledged
)

// load makes servers and deletes them.
type load struct {
	c     *copies
	image string
	// total counts acknowledged creations, gone acknowledged deletions.
	total, gone, failed atomic.Int64
	end                 context.CancelFunc
	wg                  sync.WaitGroup

	mu   sync.Mutex
	why  map[string]int
	fate map[string]fate
	// lost are acknowledged servers that were not there when they were to be deleted.
	lost []string
	// booted is when servers that somebody waited for became active.
	booted []time.Time
}

// startLoad returns when work is well under way.
func startLoad(t *testing.T, c *copies, image string) *load {
	ctx, cancel := context.WithCancel(t.Context())
	l := &load{c: c, image: image, end: cancel, why: map[string]int{}, fate: map[string]fate{}}
	t.Cleanup(l.stop)
	for range clients {
		compute := c.compute(t)
		l.wg.Go(func() { l.run(ctx, compute) })
	}
	watcher := c.compute(t)
	l.wg.Go(func() { l.watch(ctx, watcher) })
	require.Eventually(t, func() bool { return l.gone.Load() >= clients }, time.Minute, 20*time.Millisecond, "no work is under way")
	return l
}

func (l *load) stop() {
	l.end()
	l.wg.Wait()
}

// compute is a user's client of the compute service. 2.37 is the first version whose
// servers need no network named.
func (c *copies) compute(t *testing.T) *gophercloud.ServiceClient {
	compute, err := openstack.NewComputeV2(c.client("demo"), regionOne)
	require.NoError(t, err)
	compute.Microversion = "2.37"
	return compute
}

// mostGoing is how many deleted servers of a client may not be gone yet: all clients
// together ask for no more than the hosts hold, and a host that can't be told of a
// deletion has the server for that long.
const mostGoing = 12

// run is one client: it has few servers at a time, and does not wait for each to be
// built. A request that has begun is waited for.
func (l *load) run(ctx context.Context, compute *gophercloud.ServiceClient) {
	var mine, going []string
	for ctx.Err() == nil {
		id, err := l.create(ctx, compute)
		if err != nil {
			pause(ctx, 50*time.Millisecond)
		} else {
			mine = append(mine, id)
		}
		if len(mine) > 1 && l.remove(ctx, compute, mine[0]) {
			if !l.left(ctx, compute, mine[0]) {
				going = append(going, mine[0])
			}
			mine = mine[1:]
		}
		for len(going) > mostGoing && ctx.Err() == nil {
			if l.left(ctx, compute, going[0]) {
				going = going[1:]
			}
		}
	}
}

func (l *load) create(ctx context.Context, compute *gophercloud.ServiceClient) (string, error) {
	sv, err := computeapi.Create(context.WithoutCancel(ctx), compute, computeapi.CreateOpts{Name: "load", ImageRef: l.image, FlavorRef: "42", Networks: "auto"}, nil).Extract()
	if err != nil {
		l.fail("create", err)
		return "", err
	}
	l.total.Add(1)
	l.note(sv.ID, held)
	return sv.ID, nil
}

// remove deletes a server and says whether that is acknowledged.
func (l *load) remove(ctx context.Context, compute *gophercloud.ServiceClient, id string) bool {
	err := computeapi.Delete(context.WithoutCancel(ctx), compute, id).ExtractErr()
	missing := gophercloud.ResponseCodeIs(err, http.StatusNotFound)
	if err != nil && !missing {
		l.fail("delete", err)
		l.note(id, doomed)
		pause(ctx, 50*time.Millisecond)
		return false
	}
	l.mu.Lock()
	if missing && l.fate[id] == held {
		l.lost = append(l.lost, id)
	}
	l.mu.Unlock()
	l.gone.Add(1)
	l.note(id, deleted)
	return true
}

// left waits until a server is gone, for two seconds at most, so that no more is asked
// for than is done, and says whether it is.
func (l *load) left(ctx context.Context, compute *gophercloud.ServiceClient, id string) bool {
	for end := time.Now().Add(2 * time.Second); ctx.Err() == nil && time.Now().Before(end); pause(ctx, 200*time.Millisecond) {
		if _, err := computeapi.Get(ctx, compute, id).Extract(); gophercloud.ResponseCodeIs(err, http.StatusNotFound) {
			return true
		}
	}
	return false
}

// watch makes one server after the other and waits for each, so that it is seen when
// boots end.
func (l *load) watch(ctx context.Context, compute *gophercloud.ServiceClient) {
	for ctx.Err() == nil {
		id, err := l.create(ctx, compute)
		if err != nil {
			pause(ctx, 50*time.Millisecond)
			continue
		}
		for end := time.Now().Add(5 * time.Second); ctx.Err() == nil && time.Now().Before(end); pause(ctx, 50*time.Millisecond) {
			if sv, err := computeapi.Get(ctx, compute, id).Extract(); err == nil && sv.Status == "ACTIVE" {
				l.mu.Lock()
				l.booted = append(l.booted, time.Now())
				l.mu.Unlock()
				break
			}
		}
		for ctx.Err() == nil && !l.remove(ctx, compute, id) {
		}
	}
}

// nextBoots are the times from each moment to the end of the next boot that was waited
// for.
func (l *load) nextBoots(after []time.Time) (out []time.Duration) {
	for _, at := range after {
		for _, b := range l.booted {
			if b.After(at) {
				out = append(out, b.Sub(at))
				break
			}
		}
	}
	return out
}

func (l *load) note(id string, f fate) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fate[id] = f
}

func (l *load) fail(what string, err error) {
	l.failed.Add(1)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.why[what+": "+reason(err)]++
}

// reason is an error in few words, without what differs from one to the next.
func reason(err error) string {
	var code gophercloud.ErrUnexpectedResponseCode
	if errors.As(err, &code) {
		return fmt.Sprintf("%d %.100s", code.Actual, strings.Join(strings.Fields(string(code.Body)), " "))
	}
	var cut *url.Error
	if errors.As(err, &cut) {
		if cut.Timeout() {
			return "no answer in time"
		}
		err = cut.Err
	}
	return fmt.Sprintf("%.100s", err)
}

func listed(ctx context.Context, compute *gophercloud.ServiceClient) ([]computeapi.Server, error) {
	pages, err := computeapi.List(compute, computeapi.ListOpts{}).AllPages(ctx)
	if err != nil {
		return nil, err
	}
	return computeapi.ExtractServers(pages)
}

// settle waits until all is at rest, compares it with what was acknowledged, deletes it,
// and says how long the rest took to come.
func (l *load) settle(t *testing.T) time.Duration {
	begun := time.Now()
	compute := l.c.compute(t)
	var at, busy []computeapi.Server
	assert.Eventually(t, func() bool {
		all, err := listed(t.Context(), compute)
		if !assert.NoError(t, err) {
			return false
		}
		at = all
		busy = slices.DeleteFunc(slices.Clone(all), func(s computeapi.Server) bool {
			return s.TaskState == "" && s.Status != "BUILD" && l.fate[s.ID] != deleted
		})
		return len(busy) == 0
	}, restWithin, 200*time.Millisecond)
	for _, s := range busy {
		assert.Fail(t, "not at rest", "%s: %s, task %q, on %q, changed %v ago", s.ID, s.Status, s.TaskState, s.HypervisorHostname, time.Since(s.Updated).Round(time.Second))
	}
	rest := time.Since(begun)
	there := map[string]bool{}
	for _, s := range at {
		there[s.ID] = true
		assert.Equal(t, "ACTIVE", s.Status, "%s: %s", s.ID, s.Fault.Message)
	}
	for id, f := range l.fate {
		assert.True(t, f != held || there[id], "server %s was acknowledged and is not there", id)
	}
	assert.Empty(t, l.lost, "servers that were acknowledged and were not there")
	require.NoError(t, l.c.audited(t.Context()))
	for _, s := range at {
		require.NoError(t, computeapi.Delete(t.Context(), compute, s.ID).ExtractErr())
	}
	require.Eventually(t, func() bool {
		left, err := listed(t.Context(), compute)
		return assert.NoError(t, err) && len(left) == 0
	}, restWithin, 200*time.Millisecond, "all servers gone")
	require.NoError(t, l.c.audited(t.Context()))
	for _, name := range hostNames {
		for _, what := range []string{"guests", "dataplane/port"} {
			var left []string
			assert.Eventually(t, func() bool {
				left, _ = filepath.Glob(filepath.Join(l.c.dir, name+".state", "hosts", name, what, "*.json"))
				return len(left) == 0
			}, restWithin, 200*time.Millisecond)
			require.Empty(t, left, "left on "+name)
		}
	}
	return rest
}

// prober asks each function, several times a second through the proxy, for what needs
// its database.
type prober struct {
	end context.CancelFunc
	wg  sync.WaitGroup

	mu     sync.Mutex
	probed map[string]*probed
}

// probed is what is known of a function.
type probed struct {
	n int
	// good is when the first answer came of those that were good without a break, zero
	// when the last was none; begun is when the last good one was asked for.
	good, begun time.Time
	last        error
	why         map[string]int
}

// probeTime is how long an answer may take to be a good one.
const probeTime = 2 * time.Second

func startProber(t *testing.T, c *copies) *prober {
	ctx, cancel := context.WithCancel(t.Context())
	p := &prober{end: cancel, probed: map[string]*probed{}}
	t.Cleanup(p.stop)
	a := c.auth("demo")
	login, err := json.Marshal(map[string]any{"auth": map[string]any{"identity": map[string]any{"methods": []string{"password"},
		"password": map[string]any{"user": map[string]any{"name": a.Username, "password": a.Password, "domain": map[string]string{"id": "default"}}}}}})
	require.NoError(t, err)
	token := c.client("demo").Token()
	for name, ask := range map[string]struct {
		method, path string
		body         []byte
	}{
		"identity": {http.MethodPost, "/identity/v3/auth/tokens", login},
		"image":    {http.MethodGet, "/image/v2/images?limit=1", nil},
		"network":  {http.MethodGet, "/network/v2.0/networks?limit=1", nil},
		"compute":  {http.MethodGet, "/compute/v2.1/servers?limit=1", nil},
	} {
		client := &http.Client{Transport: &http.Transport{}, Timeout: probeTime}
		p.probed[name] = &probed{why: map[string]int{}}
		p.wg.Go(func() {
			defer client.CloseIdleConnections()
			for ; ctx.Err() == nil; pause(ctx, 100*time.Millisecond) {
				begun := time.Now()
				err := probe(client, ask.method, c.url+ask.path, token, ask.body)
				p.note(name, begun, err)
			}
		})
	}
	_, ok := p.wait(t.Context(), time.Now())
	require.True(t, ok, "all answers well before the first fault: %s", p.state())
	return p
}

func probe(client *http.Client, method, url, token string, body []byte) error {
	req, err := http.NewRequest(method, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	if body == nil {
		req.Header.Set("X-Auth-Token", token)
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	text, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if err == nil && resp.StatusCode >= 300 {
		err = gophercloud.ErrUnexpectedResponseCode{Actual: resp.StatusCode, Body: text}
	}
	return err
}

func (p *prober) note(name string, begun time.Time, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	q := p.probed[name]
	q.n++
	if q.last = err; err != nil {
		q.good = time.Time{}
		q.why[reason(err)]++
		return
	}
	q.begun = begun
	if q.good.IsZero() {
		q.good = time.Now()
	}
}

// wait waits until every function has answered well for a second without a break, since
// a part is back, and says when that began.
func (p *prober) wait(ctx context.Context, back time.Time) (good time.Time, ok bool) {
	const calm = time.Second
	for end := back.Add(time.Minute); ctx.Err() == nil && time.Now().Before(end); pause(ctx, 20*time.Millisecond) {
		p.mu.Lock()
		good, ok = back, true
		for _, q := range p.probed {
			ok = ok && !q.good.IsZero() && q.begun.Sub(back) >= calm && q.begun.Sub(q.good) >= calm
			if q.good.After(good) {
				good = q.good
			}
		}
		p.mu.Unlock()
		if ok {
			return good, true
		}
	}
	return good, false
}

// state is what the functions last answered.
func (p *prober) state() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []string
	for _, name := range slices.Sorted(maps.Keys(p.probed)) {
		q := p.probed[name]
		out = append(out, fmt.Sprintf("%s: %v (failures: %v)", name, q.last, q.why))
	}
	return strings.Join(out, "; ")
}

func (p *prober) count() (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, q := range p.probed {
		n += q.n
	}
	return n
}

func (p *prober) failures() map[string]int {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := map[string]int{}
	for name, q := range p.probed {
		for why, n := range q.why {
			out[name+": "+why] += n
		}
	}
	return out
}

func (p *prober) stop() {
	p.end()
	p.wg.Wait()
}
