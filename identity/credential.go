package identity

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/internal/policy"
	"github.com/nacre-cloud/nacre/store"
)

// Credential is a secret kept for a user: an EC2 key pair, a certificate. The
// blob is encrypted with Config.CredentialKeys in the database.
type Credential struct {
	// ID of an EC2 credential is the SHA-256 of its access key.
	ID        string         `store:"id,pk" json:"id"`
	UserID    string         `store:"user_id,index=credential_user" json:"user_id"`
	ProjectID Ref            `store:"project_id,index=credential_project" json:"project_id"`
	Type      string         `store:"type" json:"type"`
	Sealed    string         `store:"encrypted_blob" json:"-"`
	Blob      string         `store:"-" json:"blob"`
	Extra     map[string]any `store:"extra,json" json:"-" extra:"true"`
}

// CredentialChange is what is given of a credential; in an update nil leaves a
// field as it is.
type CredentialChange struct {
	UserID, ProjectID, Type, Blob *string
	Extra                         map[string]any
}

// EC2Credential is an EC2 key pair of a user for a project.
type EC2Credential struct {
	Access   string `json:"access"`
	Secret   string `json:"secret"`
	UserID   string `json:"user_id"`
	TenantID string `json:"tenant_id"`
	TrustID  Ref    `json:"trust_id"`
}

// ec2Blob is an EC2 credential's blob. Others that are in it bind it to what it
// was made with.
type ec2Blob struct {
	Access  string  `json:"access"`
	Secret  string  `json:"secret"`
	TrustID *string `json:"trust_id"`
}

func credentialTarget(c *Credential) policy.Map {
	if c.UserID == "" {
		return nil
	}
	return policy.Map{"target.credential.user_id": c.UserID, "target.credential.project_id": string(c.ProjectID)}
}

func (s *Service) seal(c *Credential) (err error) {
	if s.credentialKeys == nil {
		return nacre.Errorf(nacre.NotImplemented, "no_credential_keys", "This identity service has no keys to keep credentials with.")
	}
	c.Sealed, err = s.credentialKeys.Encrypt([]byte(c.Blob))
	return err
}

func (s *Service) unseal(c *Credential) error {
	if s.credentialKeys == nil {
		return nacre.Errorf(nacre.NotImplemented, "no_credential_keys", "This identity service has no keys to keep credentials with.")
	}
	b, err := s.credentialKeys.Decrypt(c.Sealed)
	c.Blob = string(b)
	return err
}

// withinDelegation refuses a token made from an application credential or a trust
// for the credentials of other projects than its own.
func (s *Service) withinDelegation(ctx context.Context, project Ref) error {
	if i, ok := s.delegated(ctx); ok && (i == nil || string(project) == i.ProjectID) {
		return nil
	}
	return forbidden("You are not authorized to perform the requested action: Credential project does not match the project scope of the delegated token.")
}

// bind marks an EC2 credential with what its maker's token was made from, so that
// it gives no more.
func (s *Service) bind(ctx context.Context, blob map[string]any) {
	if i, _ := s.delegated(ctx); i != nil {
		if i.AppCred != nil {
			blob["app_cred_id"] = i.AppCred.ID
		}
		if i.Trust != nil {
			blob["trust_id"] = i.Trust.ID
		}
	}
}

// CreateCredential keeps a credential.
func (s *Service) CreateCredential(ctx context.Context, ch CredentialChange) (Credential, error) {
	c := Credential{ID: s.newID(), Extra: ch.Extra}
	if who := nacre.CallerFrom(ctx); who != nil {
		c.UserID = who.UserID
	}
	setIf(&c.UserID, ch.UserID)
	setIf(&c.Type, ch.Type)
	setIf(&c.Blob, ch.Blob)
	if ch.ProjectID != nil {
		c.ProjectID = Ref(*ch.ProjectID)
	}
	if err := s.enforce(ctx, "create_credential", credentialTarget(&c)); err != nil {
		return c, err
	}
	if err := s.withinDelegation(ctx, c.ProjectID); err != nil {
		return c, err
	}
	if err := checkName("type", c.Type, 255); err != nil {
		return c, err
	}
	if c.Type == "ec2" {
		if err := restricted(ctx, s); err != nil {
			return c, err
		}
		b, err := readEC2(c.Blob)
		if err != nil {
			return c, err
		}
		if c.ProjectID == "" {
			return c, expecting("project_id", "credential")
		}
		c.ID = ec2ID(b["access"].(string))
		for _, k := range []string{"trust_id", "app_cred_id", "access_token_id"} {
			if v, ok := b[k]; ok && v != nil {
				return c, invalid("%s can not be given for credential", k)
			}
			delete(b, k)
		}
		had := len(b)
		if s.bind(ctx, b); len(b) != had {
			text, err := json.Marshal(b)
			if err != nil {
				return c, err
			}
			c.Blob = string(text)
		}
	}
	if c.Type == "totp" {
		if err := checkTOTPBlob(c.Blob); err != nil {
			return c, err
		}
	}
	if err := s.seal(&c); err != nil {
		return c, err
	}
	return c, s.tx(ctx, func(ctx context.Context) error {
		if err := s.credentials.Insert(ctx, c); err != nil {
			return orConflict(err, "credential", "", "")
		}
		return s.emit(ctx, "credential", "created", c.ID)
	})
}

func ec2ID(access string) string {
	sum := sha256.Sum256([]byte(access))
	return hex.EncodeToString(sum[:])
}

// readEC2 checks the blob of an EC2 credential.
func readEC2(blob string) (map[string]any, error) {
	var b map[string]any
	if err := json.Unmarshal([]byte(blob), &b); err != nil {
		return nil, invalid("Invalid blob in credential")
	}
	if access, ok := b["access"].(string); !ok || access == "" {
		return nil, expecting("access", "credential")
	}
	return b, nil
}

func (s *Service) credential(ctx context.Context, id, rule string) (Credential, error) {
	c, err := s.credentials.Get(ctx, id)
	if deny := s.enforce(ctx, rule, credentialTarget(&c)); deny != nil {
		return Credential{}, deny
	}
	if err != nil {
		return c, orNotFound(err, "credential", id)
	}
	if err := s.withinDelegation(ctx, c.ProjectID); err != nil {
		return Credential{}, err
	}
	return c, s.unseal(&c)
}

// GetCredential shows a credential with its secret.
func (s *Service) GetCredential(ctx context.Context, id string) (Credential, error) {
	return s.credential(ctx, id, "get_credential")
}

// ListCredentials lists the credentials that the caller may see.
func (s *Service) ListCredentials(ctx context.Context, q nacre.Query) ([]Credential, error) {
	who := nacre.CallerFrom(ctx)
	target := policy.Map{}
	if who != nil && who.System == "" {
		target["target.credential.user_id"] = who.UserID
	}
	if err := s.enforce(ctx, "list_credentials", target); err != nil {
		return nil, err
	}
	all, err := list(ctx, s.credentials, q, columns{"id", "user_id", "type", "project_id"})
	if err != nil {
		return nil, err
	}
	out := []Credential{}
	for _, c := range all {
		if s.enforce(ctx, "get_credential", credentialTarget(&c)) != nil || s.withinDelegation(ctx, c.ProjectID) != nil {
			continue
		}
		if err := s.unseal(&c); err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	return out, nil
}

// UpdateCredential changes a credential, to an owner that the caller may create
// one for. An EC2 credential is found by the access key that it was made with, as
// in Keystone, whatever its blob says later.
func (s *Service) UpdateCredential(ctx context.Context, id string, ch CredentialChange) (Credential, error) {
	c, err := s.credential(ctx, id, "update_credential")
	if err != nil {
		return c, err
	}
	before := c.Blob
	setIf(&c.UserID, ch.UserID)
	setIf(&c.Type, ch.Type)
	setIf(&c.Blob, ch.Blob)
	if ch.ProjectID != nil {
		c.ProjectID = Ref(*ch.ProjectID)
	}
	if err := s.enforce(ctx, "update_credential", credentialTarget(&c)); err != nil {
		return Credential{}, err
	}
	if err := s.withinDelegation(ctx, c.ProjectID); err != nil {
		return Credential{}, err
	}
	if c.Type == "ec2" {
		was, err := readEC2(before)
		if err != nil {
			return Credential{}, err
		}
		now, err := readEC2(c.Blob)
		if err != nil {
			return Credential{}, err
		}
		for _, k := range []string{"trust_id", "app_cred_id", "access_token_id"} {
			if was[k] != now[k] {
				return Credential{}, invalid("%s can not be updated for credential", k)
			}
		}
	}
	if err := s.seal(&c); err != nil {
		return Credential{}, err
	}
	return c, s.tx(ctx, func(ctx context.Context) error {
		_, err := s.credentials.Update(ctx, id, func(row *Credential) error {
			c.Extra = merge(row.Extra, ch.Extra)
			*row = c
			return nil
		})
		if err != nil {
			return orNotFound(err, "credential", id)
		}
		return s.emit(ctx, "credential", "updated", id)
	})
}

// DeleteCredential removes a credential.
func (s *Service) DeleteCredential(ctx context.Context, id string) error {
	if _, err := s.credential(ctx, id, "delete_credential"); err != nil {
		return err
	}
	return s.dropCredential(ctx, id)
}

func (s *Service) dropCredential(ctx context.Context, id string) error {
	return s.tx(ctx, func(ctx context.Context) error {
		if err := s.credentials.Delete(ctx, id); err != nil {
			return orNotFound(err, "credential", id)
		}
		if _, err := s.totpUses.DeleteWhere(ctx, store.Eq("credential_id", id)); err != nil {
			return err
		}
		return s.emit(ctx, "credential", "deleted", id)
	})
}

// dropCredentials removes credentials with what is noted of their use.
func (s *Service) dropCredentials(ctx context.Context, w store.Where) (int64, error) {
	if _, err := s.totpUses.DeleteWhere(ctx, store.InSelect("credential_id", s.credentials, "id", w)); err != nil {
		return 0, err
	}
	return s.credentials.DeleteWhere(ctx, w)
}

// CreateEC2 makes an EC2 key pair for a user on a project where it has a role.
func (s *Service) CreateEC2(ctx context.Context, userID, projectID string) (EC2Credential, error) {
	c := Credential{UserID: userID, ProjectID: Ref(projectID), Type: "ec2"}
	target := credentialTarget(&c)
	if target == nil {
		target = policy.Map{}
	}
	target["user_id"] = userID
	if err := s.enforce(ctx, "ec2_create_credential", target); err != nil {
		return EC2Credential{}, err
	}
	if err := s.withinDelegation(ctx, c.ProjectID); err != nil {
		return EC2Credential{}, err
	}
	if err := restricted(ctx, s); err != nil {
		return EC2Credential{}, err
	}
	if _, err := s.users.Get(ctx, userID); err != nil {
		return EC2Credential{}, orNotFound(err, "user", userID)
	}
	if _, err := s.projects.Get(ctx, projectID); err != nil {
		return EC2Credential{}, orNotFound(err, "project", projectID)
	}
	access, secret := hexSecret(), hexSecret()
	b := map[string]any{"access": access, "secret": secret, "trust_id": nil}
	s.bind(ctx, b)
	text, err := json.Marshal(b)
	if err != nil {
		return EC2Credential{}, err
	}
	c.ID, c.Blob = ec2ID(access), string(text)
	if err := s.seal(&c); err != nil {
		return EC2Credential{}, err
	}
	err = s.tx(ctx, func(ctx context.Context) error {
		if err := s.credentials.Insert(ctx, c); err != nil {
			return err
		}
		return s.emit(ctx, "credential", "created", c.ID)
	})
	return EC2Credential{Access: access, Secret: secret, UserID: userID, TenantID: projectID}, err
}

// hexSecret is 128 random bits in hex, as Keystone's EC2 keys look.
func hexSecret() string {
	var b [16]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

func (s *Service) asEC2(c *Credential) (EC2Credential, error) {
	if err := s.unseal(c); err != nil {
		return EC2Credential{}, err
	}
	var b ec2Blob
	err := json.Unmarshal([]byte(c.Blob), &b)
	e := EC2Credential{Access: b.Access, Secret: b.Secret, UserID: c.UserID, TenantID: string(c.ProjectID)}
	if b.TrustID != nil {
		e.TrustID = Ref(*b.TrustID)
	}
	return e, err
}

// ec2 finds a user's EC2 credential by its access key.
func (s *Service) ec2(ctx context.Context, userID, access, rule string) (Credential, error) {
	c, err := s.credentials.Get(ctx, ec2ID(access))
	if err == nil && c.Type != "ec2" {
		c, err = Credential{}, store.ErrNoRow
	}
	// What is not there is said before who may see it, as in Keystone.
	if err != nil {
		return c, orNotFound(err, "credential", access)
	}
	// Whose it is decides, not the path that names somebody.
	target := credentialTarget(&c)
	target["user_id"] = c.UserID
	if deny := s.enforce(ctx, rule, target); deny != nil {
		return c, deny
	}
	if _, err := s.users.Get(ctx, userID); err != nil {
		return c, orNotFound(err, "user", userID)
	}
	return c, s.withinDelegation(ctx, c.ProjectID)
}

// GetEC2 shows an EC2 key pair.
func (s *Service) GetEC2(ctx context.Context, userID, access string) (EC2Credential, error) {
	c, err := s.ec2(ctx, userID, access, "ec2_get_credential")
	if err != nil {
		return EC2Credential{}, err
	}
	return s.asEC2(&c)
}

// ListEC2 lists a user's EC2 key pairs.
func (s *Service) ListEC2(ctx context.Context, userID string) ([]EC2Credential, error) {
	if err := s.enforce(ctx, "ec2_list_credentials", policy.Map{"user_id": userID, "target.credential.user_id": userID}); err != nil {
		return nil, err
	}
	cs, err := s.credentials.Where(ctx, store.Eq("user_id", userID), store.Eq("type", "ec2"))
	if err != nil {
		return nil, err
	}
	out := []EC2Credential{}
	for i := range cs {
		if s.withinDelegation(ctx, cs[i].ProjectID) != nil {
			continue
		}
		e, err := s.asEC2(&cs[i])
		if err != nil {
			return nil, err
		}
		out = append(out, e)
	}
	return out, nil
}

// DeleteEC2 removes an EC2 key pair.
func (s *Service) DeleteEC2(ctx context.Context, userID, access string) error {
	c, err := s.ec2(ctx, userID, access, "ec2_delete_credential")
	if err != nil {
		return err
	}
	return s.dropCredential(ctx, c.ID)
}
