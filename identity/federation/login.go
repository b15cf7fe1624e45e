package federation

import (
	"context"
	"errors"
	"net/url"
	"time"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/identity/kit"
	"github.com/nacre-cloud/nacre/store"
)

// Verifier tells what is true of who holds a bearer token. A token that is not
// good is Unauthenticated.
type Verifier interface {
	VerifyBearer(ctx context.Context, token string) (Assertion, error)
}

// Login leads a browser through an identity provider's own login, or takes what
// that says without having been asked.
type Login interface {
	// Begin says where to send the browser, which is to come back to callback, and
	// what to keep with it until then.
	Begin(ctx context.Context, callback string) (location string, session []byte, err error)
	// Complete takes what the browser brought back, with what was kept of Begin:
	// nothing where the identity provider began. Unauthenticated when that is not
	// good.
	Complete(ctx context.Context, callback string, session []byte, form url.Values) (Proof, error)
}

// Proof is an assertion that is known to be true.
type Proof struct {
	Assertion Assertion
	// ID, if not empty, may be shown once until Until.
	ID    string
	Until time.Time
}

// Evaluated is what an assertion comes to.
type Evaluated struct {
	IdP      IdentityProvider
	Protocol Protocol
	Mapped
}

// Evaluate applies the mapping of an identity provider's protocol to an assertion
// that is known to be true. remoteAttribute is the attribute that names the
// identity provider, where the protocol has none of its own; empty is no check. A
// disabled identity provider is Forbidden. It asks no policy.
func (s *Service) Evaluate(ctx context.Context, idp, protocol, remoteAttribute string, a Assertion) (Evaluated, error) {
	out, err := s.Enabled(ctx, idp, protocol)
	if err != nil {
		return out, err
	}
	if p := out.Protocol.RemoteIDAttribute; p != nil && *p != "" {
		remoteAttribute = *p
	}
	if remoteAttribute != "" && len(out.IdP.RemoteIDs) > 0 {
		remote := a.Get(remoteAttribute)
		if remote == "" {
			return out, &nacre.Error{Kind: nacre.Unauthenticated, Code: "Unauthorized", Message: "Could not find Identity Provider identifier in environment"}
		}
		if known, err := s.remotes.Get(ctx, remote); errors.Is(err, store.ErrNoRow) || err == nil && known.IdPID != idp {
			return out, nacre.Errorf(nacre.Forbidden, "Forbidden", "Incoming identity provider identifier not included among the accepted identifiers.")
		} else if err != nil {
			return out, err
		}
	}
	m, err := s.mappings.Get(ctx, out.Protocol.MappingID)
	if err != nil {
		return out, noMapping(err, out.Protocol.MappingID)
	}
	out.Mapped, err = m.Evaluate(a)
	return out, err
}

// Enabled finds an identity provider and one of its protocols; a disabled one is
// Forbidden. It asks no policy.
func (s *Service) Enabled(ctx context.Context, idp, protocol string) (Evaluated, error) {
	var out Evaluated
	var err error
	if out.IdP, err = s.idps.Get(ctx, idp); err != nil {
		return out, noIdP(err, idp)
	}
	if !out.IdP.Enabled {
		return out, nacre.Errorf(nacre.Forbidden, "Forbidden", "Identity Provider %s is disabled", idp)
	}
	out.Protocol, err = s.protocols.Get(ctx, kit.Joined(idp, protocol))
	return out, noProtocol(err, idp, protocol)
}

// Hold keeps an identity provider's protocol from going until the transaction ends;
// NotFound when there is none. It asks no policy.
func (s *Service) Hold(ctx context.Context, idp, protocol string) error {
	_, err := s.protocols.GetForUpdate(ctx, kit.Joined(idp, protocol))
	return noProtocol(err, idp, protocol)
}

// ByRemoteID finds the identity provider that a remote id names. It asks no policy.
func (s *Service) ByRemoteID(ctx context.Context, remote string) (string, error) {
	r, err := s.remotes.Get(ctx, remote)
	return r.IdPID, noIdP(err, remote)
}

// RemoteAttributes are the attributes by which identity providers with a protocol
// of that name are named. It asks no policy.
func (s *Service) RemoteAttributes(ctx context.Context, protocol, otherwise string) ([]string, error) {
	ps, err := s.protocols.Where(ctx, store.Eq("id", protocol))
	var out []string
	for _, p := range ps {
		attr := otherwise
		if p.RemoteIDAttribute != nil && *p.RemoteIDAttribute != "" {
			attr = *p.RemoteIDAttribute
		}
		if attr != "" {
			out = append(out, attr)
		}
	}
	return out, err
}

// Symptoms are settings that nobody wants: identity providers that anybody can pass
// for, protocols that can't log anybody in. It asks no policy.
func (s *Service) Symptoms(ctx context.Context) ([]nacre.Finding, error) {
	var out []nacre.Finding
	add := func(kind, id, problem string) { out = append(out, nacre.Finding{Kind: kind, ID: id, Problem: problem}) }
	ps, err := s.protocols.Where(ctx)
	if err != nil {
		return nil, err
	}
	ms, err := s.mappings.Where(ctx)
	if err != nil {
		return nil, err
	}
	mappings := map[string]bool{}
	for _, m := range ms {
		mappings[m.ID] = true
		if wrong := CheckMapping(m.Rules, m.SchemaVersion); len(wrong) > 0 {
			add("mapping", m.ID, "its rules are wrong: "+wrong[0])
		}
	}
	used := map[string]bool{}
	for _, p := range ps {
		used[p.IdPID] = true
		if !mappings[p.MappingID] {
			add("protocol", p.IdPID+"/"+p.ID, "its mapping "+p.MappingID+" is not there: nobody can log in")
		}
	}
	idps, err := s.idps.Where(ctx, store.Eq("enabled", true))
	for _, i := range idps {
		if len(i.RemoteIDs) == 0 {
			add("identity_provider", i.ID, "it has no remote_ids: an assertion of any other passes for its own where one login serves several")
		}
		if !used[i.ID] {
			add("identity_provider", i.ID, "it has no protocol: nobody can log in")
		}
	}
	return out, err
}
