package servers

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/bus"
	"github.com/nacre-cloud/nacre/identity"
	"github.com/nacre-cloud/nacre/identity/assignment"
	"github.com/nacre-cloud/nacre/objectstore"
	objectapi "github.com/nacre-cloud/nacre/objectstore/api"
	"github.com/nacre-cloud/nacre/objectstore/s3api"
	"github.com/nacre-cloud/nacre/servers/kit"
	"github.com/nacre-cloud/nacre/store"
)

// resellerAdmin is the role that owns every account of the object store.
const resellerAdmin = "ResellerAdmin"

// objectHandler is Swift's API, with S3's on the same address.
func (cl *Cloud) objectHandler(observe func(method, route string, status int, took time.Duration)) http.Handler {
	s3 := s3api.New(s3api.Config{Service: cl.Objects, Keys: &ec2Keys{find: cl.ec2Key}, Region: cl.c.Region, Domains: cl.c.ObjectDomains, Log: cl.log})
	c := objectapi.Config{Service: cl.Objects, Tokens: cl.tokens, Login: cl.objectLogin, AuthURI: cl.c.URL + "/identity/v3", Domains: cl.c.ObjectDomains,
		S3: s3, Features: s3api.Features(), Observe: observe, Log: cl.log}
	if cl.c.ObjectAPI != nil {
		cl.c.ObjectAPI(&c)
	}
	return objectapi.New(c)
}

// objectConfig is what the object store is made of.
func (cl *Cloud) objectConfig() objectstore.Config {
	c := &cl.c
	out := objectstore.Config{Engine: c.Engines["objectstore"], Blobs: c.Objects, ResellerAdmin: resellerAdmin, Projects: cl.projectsEdge(), Log: c.Log}
	if c.ObjectSetup != nil {
		c.ObjectSetup(&out)
	}
	return out
}

// projects is the edge from the object store to identity: which projects there are.
type projects struct{ svc *identity.Service }

var _ objectstore.Projects = projects{}

func (w projects) Existing(ctx context.Context, ids ...string) (map[string]bool, error) {
	if err := store.Outside(ctx); err != nil {
		return nil, err
	}
	return w.svc.ExistingProjects(nacre.AsService(ctx, "objectstore"), ids...)
}

// followProjects tells the object store of projects that were deleted.
func (cl *Cloud) followProjects(ctx context.Context) error {
	_, err := cl.Bus.Subscribe(ctx, bus.FanOut, "notifications.identity", "objectstore", func(ctx context.Context, body []byte) error {
		var e nacre.Event
		if err := json.Unmarshal(body, &e); err != nil {
			return err
		}
		if e.Type != "identity.project.deleted" && e.Type != "identity.domain.deleted" {
			return nil
		}
		return cl.Objects.ProjectChanged(nacre.AsService(ctx, "servers"), e.Resource)
	})
	return err
}

// objectSetup is what the settings say of the object store.
func objectSetup(cfg kit.Config) (func(*objectstore.Config), error) {
	delay, err := time.ParseDuration(cmp.Or(cfg.ObjectReap, "0s"))
	if err != nil || delay < 0 {
		return nil, fmt.Errorf("object_reap_delay: %q is no time, as 24h", cfg.ObjectReap)
	}
	file := cfg.ObjectSecrets
	if file == "" {
		const name = "keymaster.conf"
		file = filepath.Join(cfg.Shared(), name)
		// Of two copies one would encrypt and the other would not.
		if own := filepath.Join(cfg.StateDir, name); own != file {
			if _, err := os.Stat(own); !errors.Is(err, os.ErrNotExist) {
				return nil, errors.Join(fmt.Errorf("%s: with shared_dir the secrets of objects are in %s, or where object_secrets says", own, file), err)
			}
		}
	}
	var secrets *objectstore.Secrets
	f, err := os.Open(file)
	switch {
	case err == nil:
		defer f.Close() //nolint:errcheck // only read
		if secrets, err = objectstore.ReadSecrets(f); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
	case cfg.ObjectSecrets != "" || !errors.Is(err, os.ErrNotExist):
		return nil, err
	}
	return func(c *objectstore.Config) {
		c.Secrets, c.ReapDelay, c.ServicePrefix = secrets, delay, cfg.ObjectService
	}, nil
}

// objectAPI is what the settings say of the object store's API.
func objectAPI(cfg kit.Config) (func(*objectapi.Config), error) {
	writes, err := strconv.Atoi(cmp.Or(cfg.ObjectWrites, "0"))
	if err != nil || writes < 0 {
		return nil, fmt.Errorf("object_write_rate: %q is no number", cfg.ObjectWrites)
	}
	return func(c *objectapi.Config) {
		c.Writes, c.Origins = writes, cfg.ObjectOrigins
		if cfg.ObjectCNAME {
			c.Alias = net.DefaultResolver.LookupCNAME
		}
	}, nil
}

// ObjectHandler serves the object store alone, at its root, for a listener of its
// own: "/v1/AUTH_…", "/info", "/healthcheck", and S3.
func (cl *Cloud) ObjectHandler() http.Handler { return cl.objects }

// seedRoles makes the roles that the object store knows and identity's bootstrap
// does not.
func (cl *Cloud) seedRoles(ctx context.Context) error {
	ctx = nacre.AsService(ctx, "servers")
	name := resellerAdmin
	have, err := cl.Identity.Assignments.ListRoles(ctx, byName(name))
	if err != nil || len(have) > 0 {
		return err
	}
	_, err = cl.Identity.Assignments.CreateRole(ctx, assignment.RoleChange{Name: &name})
	return err
}

// objectLogin is the old authentication of Swift's: "project:user" and a password,
// both in the default domain.
func (cl *Cloud) objectLogin(ctx context.Context, user, key string) (token, account string, expires time.Time, err error) {
	project, name, ok := strings.Cut(user, ":")
	if !ok || key == "" {
		return "", "", expires, nacre.Errorf(nacre.Unauthenticated, "", "The user is \"project:user\"")
	}
	if cl.Identity == nil {
		token, projectID, expires, err := cl.c.Others.Login(ctx, project, name, key)
		return token, cl.Objects.Prefix() + projectID, expires, err
	}
	in := identity.DomainRef{ID: identity.DefaultDomain}
	token, info, err := cl.Identity.Authenticate(ctx, identity.AuthRequest{Methods: []string{"password"}, User: identity.NameRef{Name: name, Domain: in}, Password: key,
		Project: &identity.NameRef{Name: project, Domain: in}})
	if err != nil {
		return "", "", expires, err
	}
	return token, cl.Objects.Prefix() + info.ProjectID, info.ExpiresAt, nil
}

// ec2Keys is the edge from the object store's S3 to identity: the secret behind an
// access key, and who has it. What was found is kept for a few seconds.
type ec2Keys struct {
	find  func(ctx context.Context, access string) (secret string, caller *nacre.Caller, err error)
	mu    sync.Mutex
	known map[string]ec2Key
}

type ec2Key struct {
	secret string
	caller *nacre.Caller
	at     time.Time
}

var _ s3api.Keys = (*ec2Keys)(nil)

// keyFor is how long a key that was revoked may still work.
const keyFor = 3 * time.Second

func (k *ec2Keys) Key(ctx context.Context, access string) (string, *nacre.Caller, error) {
	if err := store.Outside(ctx); err != nil {
		return "", nil, err
	}
	k.mu.Lock()
	known, ok := k.known[access]
	k.mu.Unlock()
	if ok && time.Since(known.at) < keyFor {
		return known.secret, known.caller, nil
	}
	secret, caller, err := k.find(nacre.AsService(ctx, "objectstore"), access)
	if err != nil {
		return "", nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.known == nil || len(k.known) > 10000 {
		k.known = map[string]ec2Key{}
	}
	k.known[access] = ec2Key{secret, caller, time.Now()}
	return secret, caller, nil
}

// ec2Key asks for the secret, and then has identity say, by a signature made with
// it, who stands behind it now.
func (cl *Cloud) ec2Key(ctx context.Context, access string) (string, *nacre.Caller, error) {
	unknown := nacre.Errorf(nacre.NotFound, "InvalidAccessKeyId", "The AWS Access Key Id you provided does not exist in our records.")
	sum := sha256.Sum256([]byte(access))
	typ, blob, err := cl.credential(ctx, hex.EncodeToString(sum[:]))
	if errors.Is(err, nacre.NotFound) || err == nil && typ != "ec2" {
		return "", nil, unknown
	}
	if err != nil {
		return "", nil, err
	}
	var b struct {
		Secret string `json:"secret"`
	}
	if err := json.Unmarshal([]byte(blob), &b); err != nil {
		return "", nil, unknown
	}
	text := []byte("nacre")
	caller, err := cl.validateS3(ctx, access, s3api.SignV1(b.Secret, text), text)
	if errors.Is(err, nacre.NotFound) || errors.Is(err, nacre.Unauthenticated) {
		return "", nil, unknown
	}
	if err != nil {
		return "", nil, err
	}
	return b.Secret, caller, nil
}

func (cl *Cloud) credential(ctx context.Context, id string) (typ, blob string, err error) {
	if cl.Identity == nil {
		return cl.c.Others.Credential(ctx, id)
	}
	c, err := cl.Identity.Credentials.Get(ctx, id)
	return c.Type, c.Blob, err
}

func (cl *Cloud) validateS3(ctx context.Context, access, signature string, text []byte) (*nacre.Caller, error) {
	if cl.Identity == nil {
		return cl.c.Others.ValidateS3(ctx, access, signature, text)
	}
	info, err := cl.Identity.ValidateS3(ctx, access, signature, text)
	if err != nil {
		return nil, err
	}
	caller := *info.Caller()
	caller.Roles = slices.Clone(caller.Roles)
	return &caller, nil
}
