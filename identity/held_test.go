package identity_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/identity"
	"github.com/nacre-cloud/nacre/identity/assignment"
	"github.com/nacre-cloud/nacre/identity/credential"
	"github.com/nacre-cloud/nacre/identity/domainconfig"
	"github.com/nacre-cloud/nacre/identity/federation"
	"github.com/nacre-cloud/nacre/identity/oauth1"
	"github.com/nacre-cloud/nacre/store"
	"github.com/nacre-cloud/nacre/store/memstore"
	"github.com/nacre-cloud/nacre/store/storetest"
)

// held is what is there when a row is written that refers to it.
type held struct {
	*cloud
	domain, idp string
	user        identity.User
	project     identity.Project
	consumer    oauth1.Consumer
	// own is the user's context.
	own context.Context
}

func (h *held) dropDomain() error {
	if _, err := h.UpdateDomain(h.admin, h.domain, identity.ProjectChange{Enabled: ref(false)}); err != nil {
		return err
	}
	return h.DeleteDomain(h.admin, h.domain)
}

func (h *held) dropProject() error  { return h.DeleteProject(h.admin, h.project.ID) }
func (h *held) dropUser() error     { return h.DeleteUser(h.admin, h.user.ID) }
func (h *held) dropConsumer() error { return h.OAuth.DeleteConsumer(h.admin, h.consumer.ID) }

func (h *held) request() (oauth1.RequestToken, error) {
	h.n++
	return h.OAuth.NewRequestToken(h.t.Context(), signed(h.n, h.consumer.ID, h.consumer.Secret, "", "", ""), h.project.ID)
}

func (h *held) access() error {
	req, err := h.request()
	if err != nil {
		return err
	}
	verifier, err := h.OAuth.Authorize(h.own, req.ID, nil)
	if err != nil {
		return err
	}
	h.n++
	_, err = h.OAuth.NewAccessToken(h.t.Context(), signed(h.n, h.consumer.ID, h.consumer.Secret, req.ID, req.Secret, verifier))
	return err
}

func (h *held) ec2() error {
	_, err := h.Credentials.CreateEC2(h.own, h.user.ID, h.project.ID)
	return err
}

func (h *held) idpIn(id string) (federation.IdentityProvider, error) {
	return h.Federation.CreateIdentityProvider(h.admin, id, federation.IdentityProviderChange{DomainID: &h.domain})
}

func (h *held) known() error {
	_, err := h.UpdateUser(h.admin, h.user.ID, identity.UserChange{Federated: &[]identity.Federated{
		{IdPID: h.idp, Protocols: []identity.FederatedAccount{{ProtocolID: "p", UniqueID: "u"}}}}})
	return err
}

func newHeld(t *testing.T, e store.Engine) *held {
	h := &held{cloud: newCloud(t, e)}
	d, err := h.CreateDomain(h.admin, identity.ProjectChange{Name: ref("d")})
	require.NoError(t, err)
	h.domain, h.user, h.project = d.ID, h.cloud.user("default"), h.cloud.project("default")
	h.grant(assignment.Grant{UserID: h.user.ID, ProjectID: h.project.ID}, "admin")
	h.own = h.login(on(byPassword(h.user), h.project))
	h.consumer, err = h.OAuth.CreateConsumer(h.admin, oauth1.ConsumerChange{})
	require.NoError(t, err)
	_, err = h.Federation.CreateMapping(h.admin, federation.Mapping{ID: "m", Rules: []any{map[string]any{
		"local": []any{map[string]any{"user": map[string]any{"name": "{0}"}}}, "remote": []any{map[string]any{"type": "X"}}}}})
	require.NoError(t, err)
	h.idp = "idp"
	_, err = h.Federation.CreateIdentityProvider(h.admin, h.idp, federation.IdentityProviderChange{})
	require.NoError(t, err)
	_, err = h.Federation.CreateProtocol(h.admin, h.idp, "p", federation.ProtocolChange{MappingID: ref("m")})
	require.NoError(t, err)
	h.Service = h.anotherWith(func(cfg *identity.Config) { cfg.Directories = map[string]identity.Directory{h.domain: newDirectory()} })
	return h
}

// TestDeletionWaitsForWhoRefers deletes something while a row is written that refers to
// it, after the look at it: the deletion waits, and takes the row too.
func TestDeletionWaitsForWhoRefers(t *testing.T) {
	request := func(h *held) error { _, err := h.request(); return err }
	config := func(h *held) error {
		_, _, err := h.DomainConfigs.Put(h.admin, h.domain, domainconfig.Options{"ldap": {"url": "ldap://x"}})
		return err
	}
	certificate := func(h *held) error {
		_, err := h.Credentials.Create(h.own, credential.Change{ProjectID: &h.project.ID, Type: ref("cert"), Blob: ref("x")})
		return err
	}
	listed := func(h *held) error { _, err := h.ListUsers(h.admin, query("domain_id", h.domain)); return err }
	member := func(h *held) error {
		us, err := h.ListUsers(h.admin, nacre.Query{Filters: []nacre.Filter{{Name: "domain_id", Value: h.domain}, {Name: "name", Value: "alice"}}})
		if err != nil {
			return err
		}
		if _, err = h.GetUser(h.admin, us[0].ID); errors.Is(err, nacre.NotFound) {
			err = nil // by now
		}
		return err
	}
	for name, r := range map[string]struct {
		// op on table is when the deletion begins.
		op, table string
		write     func(*held) error
		drop      func(*held) error
	}{
		"an identity provider's domain":   {"insert", "identity_provider", func(h *held) error { _, err := h.idpIn("new"); return err }, (*held).dropDomain},
		"a known user's protocol":         {"insert", "federated_user", (*held).known, func(h *held) error { return h.Federation.DeleteProtocol(h.admin, h.idp, "p") }},
		"a known user's provider":         {"insert", "federated_user", (*held).known, func(h *held) error { return h.Federation.DeleteIdentityProvider(h.admin, h.idp) }},
		"a request token's consumer":      {"insert", "request_token", request, (*held).dropConsumer},
		"a request token's project":       {"insert", "request_token", request, (*held).dropProject},
		"a request token's user":          {"update", "request_token", (*held).access, (*held).dropUser},
		"an access token's consumer":      {"insert", "access_token", (*held).access, (*held).dropConsumer},
		"an access token's project":       {"insert", "access_token", (*held).access, (*held).dropProject},
		"an access token's user":          {"insert", "access_token", (*held).access, (*held).dropUser},
		"an EC2 key's user":               {"insert", "credential", (*held).ec2, (*held).dropUser},
		"an EC2 key's project":            {"insert", "credential", (*held).ec2, (*held).dropProject},
		"a credential's user":             {"insert", "credential", certificate, (*held).dropUser},
		"a credential's project":          {"insert", "credential", certificate, (*held).dropProject},
		"a configuration's domain":        {"insert", "domain_config", config, (*held).dropDomain},
		"a directory's domain":            {"insert", "id_mapping", listed, (*held).dropDomain},
		"a member by a directory":         {"insert", "membership", member, (*held).dropDomain},
		"the domain of a directory's own": {"insert", "user", listed, (*held).dropDomain},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var then func()
				e := storetest.Faulty(memstore.New(memstore.Options{ReadCommitted: true}), func(op, table string) error {
					if f := then; op == r.op && table == r.table && f != nil {
						then = nil
						f()
					}
					return nil
				})
				defer func() { require.NoError(t, e.Close()) }()
				h := newHeld(t, e)
				before := h.rows(r.table)
				dropped := make(chan error, 1)
				then = func() {
					go func() { dropped <- r.drop(h) }()
					synctest.Wait()
				}
				// The writer goes on once it has what it refers to; where that takes a
				// step of its own, as an access token does, the next one may miss it.
				if err := r.write(h); r.op == "insert" {
					require.NoError(t, err)
				}
				require.Nil(t, then)
				require.NoError(t, <-dropped)
				require.Equal(t, before, h.rows(r.table))
				h.clean()
			})
		})
	}
}
