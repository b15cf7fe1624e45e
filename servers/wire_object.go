package servers

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/identity"
	objectapi "github.com/nacre-cloud/nacre/objectstore/api"
	"github.com/nacre-cloud/nacre/objectstore/s3api"
	"github.com/nacre-cloud/nacre/store"
)

// resellerAdmin is the role that owns every account of the object store.
const resellerAdmin = "ResellerAdmin"

// objectHandler is Swift's API, with S3's on the same address.
func (cl *Cloud) objectHandler(observe func(method, route string, status int, took time.Duration)) http.Handler {
	s3 := s3api.New(s3api.Config{Service: cl.Objects, Keys: &ec2Keys{identity: cl.Identity}, Region: cl.c.Region, Domains: cl.c.ObjectDomains, Log: cl.log})
	return objectapi.New(objectapi.Config{Service: cl.Objects, Tokens: cl.Identity, Login: cl.objectLogin, AuthURI: cl.c.URL + "/identity/v3", Domains: cl.c.ObjectDomains,
		S3: s3, Features: s3api.Features(), Observe: observe, Log: cl.log})
}

// ObjectHandler serves the object store alone, at its root, for a listener of its
// own: "/v1/AUTH_…", "/info", "/healthcheck", and S3.
func (cl *Cloud) ObjectHandler() http.Handler { return cl.objects }

// seedRoles makes the roles that the object store knows and identity's bootstrap
// does not.
func (cl *Cloud) seedRoles(ctx context.Context) error {
	ctx = nacre.AsService(ctx, "servers")
	name := resellerAdmin
	have, err := cl.Identity.ListRoles(ctx, byName(name))
	if err != nil || len(have) > 0 {
		return err
	}
	_, err = cl.Identity.CreateRole(ctx, identity.RoleChange{Name: &name})
	return err
}

// objectLogin is the old authentication of Swift's: "project:user" and a password,
// both in the default domain.
func (cl *Cloud) objectLogin(ctx context.Context, user, key string) (token, account string, expires time.Time, err error) {
	project, name, ok := strings.Cut(user, ":")
	if !ok || key == "" {
		return "", "", expires, nacre.Errorf(nacre.Unauthenticated, "", "The user is \"project:user\"")
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
	identity *identity.Service
	mu       sync.Mutex
	known    map[string]ec2Key
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

// find asks for the secret, and then has identity say, by a signature made with
// it, who stands behind it now.
func (k *ec2Keys) find(ctx context.Context, access string) (string, *nacre.Caller, error) {
	unknown := nacre.Errorf(nacre.NotFound, "InvalidAccessKeyId", "The AWS Access Key Id you provided does not exist in our records.")
	sum := sha256.Sum256([]byte(access))
	c, err := k.identity.GetCredential(ctx, hex.EncodeToString(sum[:]))
	if errors.Is(err, nacre.NotFound) || err == nil && c.Type != "ec2" {
		return "", nil, unknown
	}
	if err != nil {
		return "", nil, err
	}
	var b struct {
		Secret string `json:"secret"`
	}
	if err := json.Unmarshal([]byte(c.Blob), &b); err != nil {
		return "", nil, unknown
	}
	text := []byte("nacre")
	info, err := k.identity.ValidateS3(ctx, access, s3api.SignV1(b.Secret, text), text)
	if errors.Is(err, nacre.NotFound) || errors.Is(err, nacre.Unauthenticated) {
		return "", nil, unknown
	}
	if err != nil {
		return "", nil, err
	}
	caller := *info.Caller()
	caller.Roles = slices.Clone(caller.Roles)
	return b.Secret, &caller, nil
}
