package remote

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/network"
)

// far is the other services: the log-in works, and answer decides of all else. With life
// its tokens are "own1", "own2" and so on, and last so long.
type far struct {
	answer func(r *http.Request, body string) (int, string, error)
	life   time.Duration
	// more are further entries of the catalog.
	more string

	mu       sync.Mutex
	logins   int
	requests []*http.Request
}

func (f *far) RoundTrip(r *http.Request) (*http.Response, error) {
	var body []byte
	if r.Body != nil {
		body, _ = io.ReadAll(r.Body)
	}
	token, ends := "own", "2100-01-01T00:00:00.000000Z"
	if f.life > 0 {
		token, ends = fmt.Sprintf("own%d", f.logins+1), time.Now().Add(f.life).UTC().Format(time.RFC3339)
	}
	status, text, err, header := 201, `{"token": {"expires_at": "`+ends+`", "user": {"id": "u"}, "catalog": [
		{"type": "network", "endpoints": [{"interface": "internal", "region_id": "R", "region": "R", "url": "http://net/network"}, {"interface": "public", "region_id": "R", "region": "R", "url": "http://wrong"}]},
		{"type": "compute", "endpoints": [{"interface": "internal", "region_id": "R", "region": "R", "url": "http://nova/v2.1"}]}`+f.more+`]}}`, error(nil), http.Header{}
	if strings.HasSuffix(r.URL.Path, "/auth/tokens") {
		f.logins++
		header.Set("X-Subject-Token", token)
	} else {
		f.mu.Lock()
		f.requests = append(f.requests, r)
		f.mu.Unlock()
		if status, text, err = f.answer(r, string(body)); err != nil {
			return nil, err
		}
	}
	return &http.Response{StatusCode: status, Header: header, Body: io.NopCloser(strings.NewReader(text)), Request: r}, nil
}

func others(t *testing.T, f *far) *Cloud {
	t.Helper()
	c, err := New(Config{IdentityURL: "http://id/v3", Username: "nova", Password: "x", Region: "R", Transport: f})
	require.NoError(t, err)
	return c
}

// What services say of a fault, and what we make of it.
func TestFaults(t *testing.T) {
	for _, x := range []struct {
		typ     string
		status  int
		body    string
		kind    nacre.Kind
		code    string
		message string
	}{
		{"network", 409, `{"NeutronError": {"type": "OverQuota", "message": "Quota exceeded for resources: ['port'].", "detail": ""}}`, nacre.QuotaExceeded, "OverQuota", "Quota exceeded for resources: ['port']."},
		{"network", 409, `{"NeutronError": {"type": "PortInUse", "message": "in use", "detail": ""}}`, nacre.Conflict, "PortInUse", "in use"},
		{"network", 412, `{"NeutronError": {"type": "RevisionNumberConstraintFailed", "message": "m", "detail": ""}}`, nacre.Precondition, "RevisionNumberConstraintFailed", "m"},
		{"network", 500, `{"NeutronError": {"type": "PortBindingError", "message": "m", "detail": ""}}`, nacre.Unavailable, "PortBindingError", "m"},
		{"network", 401, `{"error": {"code": 401, "message": "no", "title": "Unauthorized"}}`, nacre.Unauthenticated, "", "no"},
		{"network", 502, `<html>bad gateway</html>`, nacre.Unavailable, "network", "The network service does not answer."},
		{"image", 404, "<html>\n <head>\n  <title>404 Not Found</title>\n </head>\n <body>\n  <h1>404 Not Found</h1>\n  No image found with ID x<br /><br />\n </body>\n</html>", nacre.NotFound, "", "No image found with ID x"},
		{"image", 413, "<html><body>over</body></html>", nacre.QuotaExceeded, "", "over"},
		{"compute", 403, `{"forbidden": {"code": 403, "message": "Quota exceeded for cores"}}`, nacre.QuotaExceeded, "", "Quota exceeded for cores"},
		{"compute", 403, `{"forbidden": {"code": 403, "message": "Policy doesn't allow it"}}`, nacre.Forbidden, "", "Policy doesn't allow it"},
		{"identity", 403, `{"error": {"code": 403, "message": "no", "title": "Forbidden"}}`, nacre.Forbidden, "", "no"},
		{"identity", 409, ``, nacre.Conflict, "", "Conflict"},
	} {
		f := &far{answer: func(*http.Request, string) (int, string, error) { return x.status, x.body, nil }}
		c := others(t, f)
		c.c.Endpoints = map[string]string{"image": "http://glance"}
		a, err := c.as(nacre.WithCaller(t.Context(), &nacre.Caller{UserID: "u", Token: "user"}), x.typ, "v")
		require.NoError(t, err)
		err = a.post(t.Context(), "x", object{}, nil)
		var e *nacre.Error
		require.ErrorAs(t, err, &e)
		require.Equal(t, []any{x.kind, x.code, x.message}, []any{e.Kind, e.Code, e.Message}, x.body)
	}
	// A fault of our own token is none of the user's.
	f := &far{answer: func(*http.Request, string) (int, string, error) { return 401, "", nil }}
	a, err := others(t, f).as(nacre.AsService(t.Context(), "compute"), "network", "v2.0")
	require.NoError(t, err)
	require.ErrorIs(t, a.post(t.Context(), "x", object{}, nil), nacre.Unavailable)
}

// Who asks, where, and how often.
func TestRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var fail error
		status := 503
		f := &far{answer: func(*http.Request, string) (int, string, error) { return status, `{}`, fail }}
		c := others(t, f)
		count := func(err error) int {
			require.ErrorIs(t, err, nacre.Unavailable)
			n := len(f.requests)
			f.requests = nil
			return n
		}
		user := nacre.WithCaller(t.Context(), &nacre.Caller{UserID: "u", Token: "user", RequestID: "req-1", GlobalRequestID: "req-2"})
		a, err := c.as(user, "network", "v2.0")
		require.NoError(t, err)
		require.Equal(t, tries, count(a.get(user, "ports", nil)))
		require.Equal(t, 1, count(a.post(user, "ports", object{}, nil)))
		require.Equal(t, tries, count(a.remove(user, "ports/x")))
		fail = &net.OpError{Op: "dial", Err: errors.New("connection refused")}
		require.Equal(t, tries, count(a.post(user, "ports", object{}, nil)), "what was never sent")
		fail = io.ErrUnexpectedEOF
		require.Equal(t, 1, count(a.post(user, "ports", object{}, nil)))
		require.Equal(t, tries, count(a.get(user, "ports", nil)))

		fail, status = nil, 200
		require.NoError(t, a.get(user, "ports", nil))
		r := f.requests[0]
		require.Equal(t, "http://net/network/v2.0/ports", r.URL.String())
		require.Equal(t, []string{"user", "own", "req-2"}, []string{r.Header.Get("X-Auth-Token"), r.Header.Get("X-Service-Token"), r.Header.Get("X-OpenStack-Request-ID")})
		own, err := c.as(nacre.AsService(user, "compute"), "compute", "v2.1")
		require.NoError(t, err)
		require.NoError(t, own.get(user, "servers", nil))
		r = f.requests[1]
		require.Equal(t, "http://nova/v2.1/servers", r.URL.String())
		require.Equal(t, []string{"own", "", "req-2"}, []string{r.Header.Get("X-Auth-Token"), r.Header.Get("X-Service-Token"), r.Header.Get("X-OpenStack-Request-ID")})

		for _, nobody := range []context.Context{t.Context(), nacre.WithCaller(t.Context(), &nacre.Caller{UserID: "u", Roles: []string{"admin"}})} {
			_, err = c.as(nobody, "network", "v2.0")
			require.ErrorIs(t, err, nacre.Unauthenticated)
		}
		_, err = c.as(user, "volume", "v3")
		require.ErrorIs(t, err, nacre.Unavailable)
	})
}

// The service's own token is renewed before it ends, and when it is refused though it has
// not; who comes with a token of his own notices nothing. The catalog comes along.
func TestOwnTokenIsRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		revoked := map[string]bool{}
		f := &far{life: time.Hour, answer: func(r *http.Request, _ string) (int, string, error) {
			shown := []string{r.Header.Get("X-Auth-Token"), r.Header.Get("X-Service-Token")}
			if shown[0] == "bad" || revoked[shown[0]] || revoked[shown[1]] {
				return 401, `{"error": {"code": 401, "message": "no", "title": "Unauthorized"}}`, nil
			}
			return 200, `{}`, nil
		}}
		c := others(t, f)
		user := nacre.WithCaller(t.Context(), &nacre.Caller{UserID: "u", Token: "user"})
		service := nacre.AsService(t.Context(), "compute")
		ask := func(ctx context.Context, typ string, how func(a *api) error) (token, shown string, sent int, err error) {
			f.requests = nil
			a, err := c.as(ctx, typ, "v2")
			if err != nil {
				return "", "", 0, err
			}
			err = how(a)
			last := f.requests[len(f.requests)-1].Header
			return last.Get("X-Auth-Token"), last.Get("X-Service-Token"), len(f.requests), err
		}
		get := func(a *api) error { return a.get(t.Context(), "ports", nil) }
		post := func(a *api) error { return a.post(t.Context(), "ports", object{}, nil) }
		data := func(a *api) error {
			body, err := a.data(t.Context(), "x")
			if err == nil {
				err = body.Close()
			}
			return err
		}
		check := func(ctx context.Context, how func(a *api) error, token, shown string, sent int) {
			t.Helper()
			gotToken, gotShown, gotSent, err := ask(ctx, "network", how)
			require.NoError(t, err)
			require.Equal(t, []any{token, shown, sent}, []any{gotToken, gotShown, gotSent})
		}
		check(user, get, "user", "own1", 1)
		time.Sleep(2 * time.Hour)
		check(user, get, "user", "own2", 1)
		time.Sleep(59*time.Minute + 30*time.Second)
		check(user, get, "user", "own3", 1)
		check(service, get, "own3", "", 1)

		revoked["own3"] = true
		check(user, post, "user", "own4", 2)
		revoked["own4"] = true
		check(service, post, "own5", "", 2)
		revoked["own5"] = true
		check(user, data, "user", "own6", 2)
		require.Equal(t, 6, f.logins)

		// Who was found before the renewal gets the new token too, and no further one is made.
		a, err := c.as(user, "network", "v2")
		require.NoError(t, err)
		b, err := c.as(user, "network", "v2")
		require.NoError(t, err)
		revoked["own6"] = true
		require.NoError(t, get(a))
		require.NoError(t, get(b))
		require.Equal(t, 7, f.logins)

		// A user whose own token is bad is told so, after one new log-in.
		_, _, sent, err := ask(nacre.WithCaller(t.Context(), &nacre.Caller{UserID: "u", Token: "bad"}), "network", post)
		require.ErrorIs(t, err, nacre.Unauthenticated)
		require.Equal(t, []int{2, 8}, []int{sent, f.logins})

		// A service that enters the catalog is found, and one that is not there is looked
		// for once a minute.
		f.more = `, {"type": "volume", "endpoints": [{"interface": "internal", "region_id": "R", "region": "R", "url": "http://cinder"}]}`
		for range 3 {
			_, _, _, err = ask(user, "volume", get)
			require.ErrorIs(t, err, nacre.Unavailable)
		}
		require.Equal(t, 8, f.logins)
		time.Sleep(time.Minute + time.Second)
		_, _, _, err = ask(user, "volume", get)
		require.NoError(t, err)
		require.Equal(t, "http://cinder/v2/ports", f.requests[0].URL.String())
		for range 3 {
			_, _, _, err = ask(user, "dns", get)
			require.ErrorIs(t, err, nacre.Unavailable)
		}
		require.Equal(t, 9, f.logins)
	})
}

// A change that is under way when its caller gives up is waited for: it may happen.
func TestChangesAreWaitedFor(t *testing.T) {
	ctx, cancel := context.WithCancel(nacre.AsService(t.Context(), "compute"))
	f := &far{answer: func(r *http.Request, _ string) (int, string, error) {
		cancel()
		return 201, "{}", r.Context().Err()
	}}
	a, err := others(t, f).as(ctx, "network", "v2.0")
	require.NoError(t, err)
	require.NoError(t, a.post(ctx, "ports", object{}, nil))
	require.ErrorIs(t, a.post(ctx, "ports", object{}, nil), context.Canceled, "and none is begun")
	require.Len(t, f.requests, 1)
	require.Error(t, a.get(ctx, "ports", nil))
}

// Hints are gathered, told once, and told again when compute did not hear.
func TestEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var told []string
		broken := true
		f := &far{answer: func(_ *http.Request, body string) (int, string, error) {
			mu.Lock()
			defer mu.Unlock()
			if broken {
				broken = false
				return 503, "", nil
			}
			var b struct {
				Events []struct {
					Name, Tag string
					Server    string `json:"server_uuid"`
				}
			}
			if err := json.Unmarshal([]byte(body), &b); err != nil {
				return 400, "", err
			}
			for _, e := range b.Events {
				told = append(told, e.Name+" "+e.Server[:8]+" "+e.Tag)
			}
			return 207, `{"events": []}`, nil
		}}
		e := others(t, f).Events()
		ctx, stop := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { _ = e.Run(ctx) })
		const vm = "11111111-2222-4333-8444-555555555551"
		hook := e.Hooks().PortEvent
		for range 3 {
			hook(ctx, network.PortEvent{Name: network.VIFPlugged, DeviceID: vm, PortID: "p"})
		}
		hook(ctx, network.PortEvent{Name: network.NetworkChanged, DeviceID: vm, PortID: "p"})
		hook(ctx, network.PortEvent{Name: network.NetworkChanged, DeviceID: "a-load-balancer", PortID: "q"})
		time.Sleep(time.Second)
		synctest.Wait()
		mu.Lock()
		require.Equal(t, []string{"network-vif-plugged 11111111 p", "network-changed 11111111 p"}, told)
		mu.Unlock()
		stop()
		wg.Wait()
	})
}

// What others have written into a port's profile goes with it to its next host, as does
// what compute wrote, and stays when the port is given back.
func TestProfileOfAPort(t *testing.T) {
	const port = `{"id": "p", "device_id": "vm", "project_id": "t", "binding:host_id": "one", "binding:profile": {"nacre_nic": {"index": 1, "made": false}, "trusted": true}}`
	sent := map[string]string{}
	f := &far{answer: func(r *http.Request, body string) (int, string, error) {
		if r.Method == http.MethodGet {
			return 200, `{"ports": [` + port + `], "port": ` + port + `}`, nil
		}
		sent[r.Method+" "+r.URL.Path] = body
		return 200, `{"port": {}}`, nil
	}}
	ctx := nacre.AsService(t.Context(), "compute")
	e := others(t, f).Networks()
	require.NoError(t, e.BindPorts(ctx, "t", "vm", "two"))
	require.JSONEq(t, `{"binding": {"host": "two", "profile": {"nacre_nic": {"index": 1, "made": false}, "trusted": true}}}`, sent["POST /network/v2.0/ports/p/bindings"])
	require.NoError(t, e.Release(ctx, "t", "vm"))
	require.JSONEq(t, `{"port": {"device_id": "", "device_owner": "", "binding:host_id": "", "binding:profile": {"trusted": true}}}`, sent["PUT /network/v2.0/ports/p"])
}
