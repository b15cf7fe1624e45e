package api_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/identity"
	"github.com/nacre-cloud/nacre/identity/api"
	"github.com/nacre-cloud/nacre/identity/assignment"
	"github.com/nacre-cloud/nacre/identity/fernet"
	"github.com/nacre-cloud/nacre/identity/passhash"
	"github.com/nacre-cloud/nacre/internal/rest"
	"github.com/nacre-cloud/nacre/store"
	"github.com/nacre-cloud/nacre/store/bunstore"
	"github.com/nacre-cloud/nacre/store/memstore"
)

// ended is a row of the table of revocations.
type ended struct {
	ID           string    `store:"id,pk"`
	At           time.Time `store:"at,index=revocation_at"`
	AuditID      string    `store:"audit_id,null"`
	ChainID      string    `store:"audit_chain_id,null"`
	UserID       string    `store:"user_id,null"`
	ProjectID    string    `store:"project_id,null"`
	DomainID     string    `store:"domain_id,null"`
	IssuedBefore time.Time `store:"issued_before"`
	Stale        bool      `store:"stale"`
}

// fill inserts n rows a thousand at a time.
func fill[T any](tb testing.TB, t *store.Table[T], n int, row func(i int) T) {
	tb.Helper()
	const batch = 1000
	for from := 0; from < n; from += batch {
		rows := make([]T, 0, batch)
		for i := from; i < min(n, from+batch); i++ {
			rows = append(rows, row(i))
		}
		require.NoError(tb, store.InTx(tb.Context(), t.Engine(), func(ctx context.Context) error { return t.Insert(ctx, rows...) }))
	}
}

// bench is a cloud on an engine, and a token of its administrator.
func bench(b *testing.B, e store.Engine, keys *fernet.Keys) (*cloud, string) {
	b.Helper()
	svc, err := identity.New(identity.Config{Engine: e, Keys: keys, BcryptCost: 4})
	require.NoError(b, err)
	ids, err := svc.Bootstrap(b.Context(), identity.Bootstrap{Password: "secret", Services: []identity.BootstrapService{{Type: "identity", Name: "keystone", Public: base}}})
	require.NoError(b, err)
	c := &cloud{b, svc, rest.Mount("/identity", api.New(svc, api.Config{})), ids}
	return c, c.enter("admin", "secret", ids.ProjectID)
}

// repeat measures one request.
func (c *cloud) repeat(b *testing.B, want int, method, path, token, body string, headers ...string) {
	b.ReportAllocs()
	for b.Loop() {
		r, err := http.NewRequestWithContext(b.Context(), method, base+path, strings.NewReader(body))
		if err != nil {
			b.Fatal(err)
		}
		r.Header.Set("X-Auth-Token", token)
		for i := 0; i < len(headers); i += 2 {
			r.Header.Set(headers[i], headers[i+1])
		}
		w := httptest.NewRecorder()
		c.h.ServeHTTP(w, r)
		if w.Code != want {
			b.Fatal(w.Code, w.Body.String())
		}
	}
}

func BenchmarkValidate(b *testing.B) {
	for _, n := range []int{0, 100_000} {
		b.Run(fmt.Sprintf("revocations=%d", n), func(b *testing.B) {
			e := memstore.New(memstore.Options{})
			defer func() { require.NoError(b, e.Close()) }()
			require.NoError(b, e.Migrate(b.Context(), identity.Schema(), true))
			revoked(b, e, n)
			c, token := bench(b, e, fernet.Memory())
			c.repeat(b, 200, "GET", "/v3/auth/tokens", token, "", "X-Subject-Token", token)
		})
	}
}

// Of a cloud at scale.
const manyUsers, manyProjects = 100_000, 10_000

func at(i int) string { return fmt.Sprintf("%032x", i+1) }

// crowd is a cloud of 100,000 users, 10,000 projects and 100,000 assignments.
func crowd(b *testing.B, e store.Engine) (*cloud, string) {
	b.Helper()
	require.NoError(b, e.Migrate(b.Context(), identity.Schema(), true))
	c, token := bench(b, e, fernet.Memory())
	fill(b, store.NewTable[identity.User](e, "user"), manyUsers, func(i int) identity.User {
		return identity.User{ID: at(i), DomainID: "default", Name: fmt.Sprintf("user-%d", i), Enabled: true}
	})
	fill(b, store.NewTable[identity.Project](e, "project"), manyProjects, func(i int) identity.Project {
		return identity.Project{ID: at(i), DomainID: "default", ParentID: "default", Name: fmt.Sprintf("project-%d", i), Enabled: true}
	})
	fill(b, store.NewTable[assignment.Assignment](e, "assignment"), manyUsers, func(i int) assignment.Assignment {
		return assignment.Assignment{ID: "u" + at(i), UserID: at(i), ProjectID: at(i % manyProjects), RoleID: c.ids.Roles["member"]}
	})
	return c, token
}

func sqlite(b *testing.B) store.Engine {
	b.Helper()
	e, err := bunstore.OpenSQLite(filepath.Join(b.TempDir(), "identity.db"), bunstore.Options{})
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, e.Close()) })
	return e
}

// BenchmarkScale is a cloud at scale on SQLite, without a socket.
func BenchmarkScale(b *testing.B) { scale(b, sqlite(b)) }

func scale(b *testing.B, e store.Engine) {
	c, token := crowd(b, e)
	for name, path := range map[string]string{
		"users/first": "/v3/users?limit=100", "users/middle": "/v3/users?limit=100&marker=" + at(manyUsers/2), "users/named": "/v3/users?name=user-77777",
		"projects/middle": "/v3/projects?limit=100&marker=" + at(manyProjects/2), "assignments/effective-of-one": "/v3/role_assignments?effective&user.id=" + at(500),
		"assignments/of-a-project": "/v3/role_assignments?scope.project.id=" + at(500), "projects/of-a-user": "/v3/users/" + at(500) + "/projects",
	} {
		b.Run(name, func(b *testing.B) { c.repeat(b, 200, "GET", path, token, "") })
	}
	ctx, n := store.CountStatements(nacre.AsService(b.Context(), "bench"))
	_, err := c.svc.ListUsers(ctx, nacre.Query{Limit: 100, Marker: at(manyUsers / 2)})
	require.NoError(b, err)
	require.LessOrEqual(b, n.Load(), int64(3))
}

// BenchmarkLogin is a login by password on SQLite in turn with the hash that it must
// compute, at Keystone's own cost: login/hash is 1 where nothing else counts. Both are
// times on the cores.
func BenchmarkLogin(b *testing.B) {
	e := sqlite(b)
	require.NoError(b, e.Migrate(b.Context(), identity.Schema(), true))
	svc, err := identity.New(identity.Config{Engine: e})
	require.NoError(b, err)
	ids, err := svc.Bootstrap(b.Context(), identity.Bootstrap{Password: "secret"})
	require.NoError(b, err)
	c := &cloud{b, svc, rest.Mount("/identity", api.New(svc, api.Config{})), ids}
	h, err := passhash.New(passhash.Bcrypt, 12)
	require.NoError(b, err)
	text, err := h.Hash("secret")
	require.NoError(b, err)
	var hash, login time.Duration
	for b.Loop() {
		begun := cpu(b)
		require.True(b, passhash.Verify(text, "secret"))
		hashed := cpu(b)
		c.enter("admin", "secret", ids.ProjectID)
		hash, login = hash+hashed-begun, login+cpu(b)-hashed
	}
	b.ReportMetric(float64(login)/float64(hash), "login/hash")
}
