//go:build realtest

package jws

import (
	"encoding/json"
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const keystoneJWS = `
import json, sys, logging
logging.disable(logging.CRITICAL)
import keystone.conf
keystone.conf.configure()
CONF = keystone.conf.CONF
CONF([], project="keystone")
CONF.set_override("jws_private_key_repository", sys.argv[1], "jwt_tokens")
CONF.set_override("jws_public_key_repository", sys.argv[2], "jwt_tokens")
from keystone.token.providers.jws import core
f = core.JWSFormatter()
(user, methods, audit, system, domain, project, trust, groups, idp, proto, access, app, *rest) = f.validate_token(sys.argv[3])
token, issued = f.create_token(user, rest[-1], audit, methods, system=system, domain_id=domain, project_id=project, trust_id=trust,
    federated_group_ids=groups, identity_provider_id=idp, protocol_id=proto, access_token_id=access, app_cred_id=app)
print(json.dumps({"user": user, "project": project, "methods": methods, "idp": idp, "groups": [g["id"] for g in groups], "token": token}))
`

// TestSameAsKeystone has the real Keystone read our token and make its own.
func TestSameAsKeystone(t *testing.T) {
	private, public := repository(t)
	keys, err := Open(private, public)
	require.NoError(t, err)
	ours := sample()
	ours.IdPID, ours.ProtocolID, ours.GroupIDs = "i", "saml2", []string{"g"}
	text, err := keys.Pack(ours)
	require.NoError(t, err)
	out, err := exec.Command("/usr/bin/python3", "-c", keystoneJWS, private, public, text).Output()
	require.NoError(t, err, "needs Debian's python3-keystone")
	var got struct {
		User, Project, IdP, Token string
		Methods, Groups           []string
	}
	require.NoError(t, json.Unmarshal(out, &got))
	require.Equal(t, ours.UserID, got.User)
	require.Equal(t, ours.ProjectID, got.Project)
	require.Equal(t, ours.Methods, got.Methods)
	require.Equal(t, ours.GroupIDs, got.Groups)
	theirs, err := keys.Unpack(got.Token)
	require.NoError(t, err)
	require.WithinDuration(t, time.Now(), theirs.IssuedAt, time.Minute)
	theirs.IssuedAt = ours.IssuedAt
	require.Equal(t, ours, theirs)
}
