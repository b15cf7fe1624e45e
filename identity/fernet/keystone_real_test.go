//go:build realtest

package fernet

import (
	"encoding/json"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// keystone reads lines of JSON with Debian's real Keystone code: tokens to take
// apart and tokens to make.
const keystone = `
import json, sys, logging
logging.disable(logging.CRITICAL)
import keystone.conf
keystone.conf.configure()
CONF = keystone.conf.CONF
CONF([], project="keystone")
CONF.set_override("key_repository", sys.argv[1], "fernet_tokens")
CONF.set_override("key_repository", sys.argv[1], "fernet_receipts")
CONF.set_override("methods", ["external", "password", "token", "oauth1", "mapped", "application_credential", "totp"], "auth")
from keystone.token import token_formatters as tf
f = tf.TokenFormatter()
kinds = {"unscoped": tf.UnscopedPayload, "domain": tf.DomainScopedPayload, "project": tf.ProjectScopedPayload,
  "trust": tf.TrustScopedPayload, "system": tf.SystemScopedPayload, "app": tf.ApplicationCredentialScopedPayload,
  "fed": tf.FederatedUnscopedPayload, "fed-project": tf.FederatedProjectScopedPayload, "fed-domain": tf.FederatedDomainScopedPayload,
  "oauth": tf.OauthScopedPayload, "totp": tf.UnscopedPayload}
for line in sys.stdin:
    c = json.loads(line)
    (user, methods, audit, system, domain, project, trust, groups, idp, proto, access, app, *rest) = f.validate_token(c["token"])
    out = {"user": user, "methods": methods, "audit": audit, "system": system or "", "domain": domain or "", "project": project or "",
           "trust": trust or "", "app": app or "", "issued": rest[-2], "expires": rest[-1],
           "groups": [g["id"] for g in groups or []] or None, "idp": idp or "", "protocol": proto or "", "access": access or ""}
    try:
        out["token"] = f.create_token(user, rest[-1], audit, kinds[c["kind"]], methods=methods, system=system, domain_id=domain,
            project_id=project, trust_id=trust, app_cred_id=app, federated_group_ids=groups, identity_provider_id=idp,
            protocol_id=proto, access_token_id=access)
    except TypeError as e:
        raise SystemExit(e)
    print(json.dumps(out))
`

// TestSameAsKeystone has the real Keystone read our tokens and make its own,
// which we read, under the same keys.
func TestSameAsKeystone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	require.NoError(t, Init(dir))
	keys, err := Open(dir)
	require.NoError(t, err)
	const stamp = "2006-01-02T15:04:05.000000Z"
	var in strings.Builder
	all := samples()
	// The version for certificates is younger than Debian's Keystone.
	delete(all, "oauth2")
	delete(all, "oauth2-domain")
	for kind, tok := range all {
		text, err := keys.Pack(tok)
		require.NoError(t, err)
		b, err := json.Marshal(map[string]string{"token": text, "kind": strings.TrimSuffix(kind, "-raw")})
		require.NoError(t, err)
		in.WriteString(string(b) + "\n")
	}
	cmd := exec.Command("/usr/bin/python3", "-c", keystone, dir)
	cmd.Stdin = strings.NewReader(in.String())
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoError(t, err, "needs Debian's python3-keystone: %s", stderr.String())
	dec := json.NewDecoder(strings.NewReader(string(out)))
	seen := 0
	for dec.More() {
		var got struct {
			User, System, Domain, Project, Trust, App, Issued, Expires, Token string
			IdP, Protocol, Access                                             string
			Methods, Audit, Groups                                            []string
		}
		require.NoError(t, dec.Decode(&got))
		theirs, err := keys.Unpack(got.Token)
		require.NoError(t, err)
		found := false
		for _, ours := range all {
			if ours.AuditIDs[0] != got.Audit[0] {
				continue
			}
			found = true
			require.Equal(t, ours.UserID, got.User)
			require.Equal(t, ours.System, got.System)
			require.Equal(t, ours.DomainID, got.Domain)
			require.Equal(t, ours.ProjectID, got.Project)
			require.Equal(t, ours.TrustID, got.Trust)
			require.Equal(t, ours.AppCredID, got.App)
			require.Equal(t, ours.Methods, got.Methods)
			require.Equal(t, ours.IdPID, got.IdP)
			require.Equal(t, ours.ProtocolID, got.Protocol)
			require.Equal(t, ours.AccessTokenID, got.Access)
			require.Equal(t, ours.GroupIDs, got.Groups)
			require.Equal(t, ours.AuditIDs, got.Audit)
			require.Equal(t, ours.IssuedAt.Format(stamp), got.Issued)
			require.Equal(t, ours.ExpiresAt.Format(stamp), got.Expires)
			require.WithinDuration(t, time.Now(), theirs.IssuedAt, time.Minute)
			theirs.IssuedAt = ours.IssuedAt
			require.Equal(t, ours, theirs)
		}
		require.True(t, found)
		seen++
	}
	require.Equal(t, len(all), seen)
}

const keystoneReceipt = `
import sys, logging
logging.disable(logging.CRITICAL)
import keystone.conf
keystone.conf.configure()
CONF = keystone.conf.CONF
CONF([], project="keystone")
CONF.set_override("key_repository", sys.argv[1], "fernet_receipts")
CONF.set_override("methods", ["external", "password", "token", "oauth1", "mapped", "application_credential", "totp"], "auth")
from keystone.receipt import receipt_formatters as rf
f = rf.ReceiptFormatter()
user, methods, issued, expires = f.validate_receipt(sys.argv[2])
print(user, ",".join(methods), issued, expires, f.create_receipt(user, methods, expires))
`

// TestReceiptSameAsKeystone is the same for receipts.
func TestReceiptSameAsKeystone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	require.NoError(t, Init(dir))
	keys, err := Open(dir)
	require.NoError(t, err)
	now := time.Now().UTC().Truncate(time.Second)
	ours := Receipt{UserID: user, Methods: []string{"totp", "password"}, IssuedAt: now, ExpiresAt: now.Add(5 * time.Minute)}
	text, err := keys.PackReceipt(ours)
	require.NoError(t, err)
	out, err := exec.Command("/usr/bin/python3", "-c", keystoneReceipt, dir, text).Output()
	require.NoError(t, err, "needs Debian's python3-keystone")
	parts := strings.Fields(string(out))
	require.Len(t, parts, 5)
	const stamp = "2006-01-02T15:04:05.000000Z"
	require.Equal(t, []string{user, "totp,password", ours.IssuedAt.Format(stamp), ours.ExpiresAt.Format(stamp)}, parts[:4])
	theirs, err := keys.UnpackReceipt(parts[4])
	require.NoError(t, err)
	require.WithinDuration(t, now, theirs.IssuedAt, time.Minute)
	theirs.IssuedAt = ours.IssuedAt
	require.Equal(t, ours, theirs)
}
