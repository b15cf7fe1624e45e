package credential

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/identity/kit"
	"github.com/nacre-cloud/nacre/internal/policy"
	"github.com/nacre-cloud/nacre/store"
)

// Change is what is given of a credential; in an update nil leaves a
// field as it is.
type Change struct {
	UserID, ProjectID, Type, Blob *string
	Extra                         map[string]any
}

// credentialTarget is without attributes for a credential of nobody.
func credentialTarget(c *Credential) policy.Map {
	if c.UserID == "" {
		return policy.Map{}
	}
	return policy.Map{"target.credential.user_id": c.UserID, "target.credential.project_id": string(c.ProjectID)}
}

func (s *Service) seal(c *Credential) (err error) {
	if s.keys == nil {
		return nacre.Errorf(nacre.NotImplemented, "no_credential_keys", "This identity service has no keys to keep credentials with.")
	}
	c.Sealed, err = s.keys.Encrypt([]byte(c.Blob))
	return err
}

func (s *Service) unseal(c *Credential) error {
	if s.keys == nil {
		return nacre.Errorf(nacre.NotImplemented, "no_credential_keys", "This identity service has no keys to keep credentials with.")
	}
	b, err := s.keys.Decrypt(c.Sealed)
	c.Blob = string(b)
	return err
}

// withinDelegation refuses a token made from an application credential or a trust
// for the credentials of other projects than its own.
func (s *Service) withinDelegation(ctx context.Context, project kit.Ref) error {
	if d, ok := s.parent.Delegated(ctx); ok && (d == nil || string(project) == d.ProjectID) {
		return nil
	}
	return kit.Forbidden("You are not authorized to perform the requested action: Credential project does not match the project scope of the delegated token.")
}

// bind marks an EC2 credential with what its maker's token was made from, so that
// it gives no more.
func (s *Service) bind(ctx context.Context, blob map[string]any) {
	if d, _ := s.parent.Delegated(ctx); d != nil {
		if d.AppCredID != "" {
			blob["app_cred_id"] = d.AppCredID
		}
		if d.TrustID != "" {
			blob["trust_id"] = d.TrustID
		}
	}
}

// hold keeps those whom a credential is of from going before it is written, where they
// are there: their deletion then finds it.
func (s *Service) hold(ctx context.Context, userID, projectID string) error {
	for _, err := range []error{s.parent.HoldProject(ctx, projectID), s.parent.HoldUser(ctx, userID)} {
		if err != nil && !errors.Is(err, nacre.NotFound) {
			return err
		}
	}
	return nil
}

// Create keeps a credential. As in Keystone it may be of a user and for a project that
// are not there.
func (s *Service) Create(ctx context.Context, ch Change) (Credential, error) {
	c := Credential{ID: s.area.NewID(), Extra: ch.Extra}
	if who := nacre.CallerFrom(ctx); who != nil {
		c.UserID = who.UserID
	}
	kit.SetIf(&c.UserID, ch.UserID)
	kit.SetIf(&c.Type, ch.Type)
	kit.SetIf(&c.Blob, ch.Blob)
	if ch.ProjectID != nil {
		c.ProjectID = kit.Ref(*ch.ProjectID)
	}
	if err := s.area.Enforce(ctx, "create_credential", credentialTarget(&c)); err != nil {
		return c, err
	}
	if err := s.withinDelegation(ctx, c.ProjectID); err != nil {
		return c, err
	}
	if err := kit.CheckName("type", c.Type, 255); err != nil {
		return c, err
	}
	if c.Type == "ec2" {
		if err := s.parent.Unrestricted(ctx); err != nil {
			return c, err
		}
		b, err := readEC2(c.Blob)
		if err != nil {
			return c, err
		}
		if c.ProjectID == "" {
			return c, kit.Expecting("project_id", "credential")
		}
		c.ID = ec2ID(b["access"].(string))
		for _, k := range []string{"trust_id", "app_cred_id", "access_token_id"} {
			if v, ok := b[k]; ok && v != nil {
				return c, kit.Invalid("%s can not be given for credential", k)
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
	return c, s.area.Tx(ctx, func(ctx context.Context) error {
		if err := s.hold(ctx, c.UserID, string(c.ProjectID)); err != nil {
			return err
		}
		if err := s.credentials.Insert(ctx, c); err != nil {
			return kit.OrConflict(err, "credential", "", "")
		}
		return s.area.Happened(ctx, "credential", "created", c.ID)
	})
}

func (s *Service) credential(ctx context.Context, id, rule string) (Credential, error) {
	c, err := s.credentials.Get(ctx, id)
	if deny := s.area.Enforce(ctx, rule, credentialTarget(&c)); deny != nil {
		return Credential{}, deny
	}
	if err != nil {
		return c, kit.OrNotFound(err, "credential", id)
	}
	if err := s.withinDelegation(ctx, c.ProjectID); err != nil {
		return Credential{}, err
	}
	return c, s.unseal(&c)
}

// Get shows a credential with its secret.
func (s *Service) Get(ctx context.Context, id string) (Credential, error) {
	return s.credential(ctx, id, "get_credential")
}

// List lists the credentials that the caller may see.
func (s *Service) List(ctx context.Context, q nacre.Query) ([]Credential, error) {
	who := nacre.CallerFrom(ctx)
	target := policy.Map{}
	if who != nil && who.System == "" {
		target["target.credential.user_id"] = who.UserID
	}
	if err := s.area.Enforce(ctx, "list_credentials", target); err != nil {
		return nil, err
	}
	all, err := kit.List(ctx, s.credentials, q, kit.Columns{"id", "user_id", "type", "project_id"})
	if err != nil {
		return nil, err
	}
	out := []Credential{}
	for _, c := range all {
		if s.area.Enforce(ctx, "get_credential", credentialTarget(&c)) != nil || s.withinDelegation(ctx, c.ProjectID) != nil {
			continue
		}
		if err := s.unseal(&c); err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	return out, nil
}

// Update changes a credential, to an owner that the caller may create
// one for. An EC2 credential is found by the access key that it was made with, as
// in Keystone, whatever its blob says later.
func (s *Service) Update(ctx context.Context, id string, ch Change) (Credential, error) {
	c, err := s.credential(ctx, id, "update_credential")
	if err != nil {
		return c, err
	}
	before := c.Blob
	kit.SetIf(&c.UserID, ch.UserID)
	kit.SetIf(&c.Type, ch.Type)
	kit.SetIf(&c.Blob, ch.Blob)
	if ch.ProjectID != nil {
		c.ProjectID = kit.Ref(*ch.ProjectID)
	}
	if err := s.area.Enforce(ctx, "update_credential", credentialTarget(&c)); err != nil {
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
				return Credential{}, kit.Invalid("%s can not be updated for credential", k)
			}
		}
	}
	if err := s.seal(&c); err != nil {
		return Credential{}, err
	}
	return c, s.area.Tx(ctx, func(ctx context.Context) error {
		// Whose it was before, its row goes with.
		user, project := "", ""
		kit.SetIf(&user, ch.UserID)
		kit.SetIf(&project, ch.ProjectID)
		if err := s.hold(ctx, user, project); err != nil {
			return err
		}
		_, err := s.credentials.Update(ctx, id, func(row *Credential) error {
			c.Extra = kit.Merge(row.Extra, ch.Extra)
			*row = c
			return nil
		})
		if err != nil {
			return kit.OrNotFound(err, "credential", id)
		}
		return s.area.Happened(ctx, "credential", "updated", id)
	})
}

// Delete removes a credential.
func (s *Service) Delete(ctx context.Context, id string) error {
	if _, err := s.credential(ctx, id, "delete_credential"); err != nil {
		return err
	}
	return s.dropCredential(ctx, id)
}

func (s *Service) dropCredential(ctx context.Context, id string) error {
	return s.area.Tx(ctx, func(ctx context.Context) error {
		if err := s.credentials.Delete(ctx, id); err != nil {
			return kit.OrNotFound(err, "credential", id)
		}
		if _, err := s.totpUses.DeleteWhere(ctx, store.Eq("credential_id", id)); err != nil {
			return err
		}
		return s.area.Happened(ctx, "credential", "deleted", id)
	})
}
