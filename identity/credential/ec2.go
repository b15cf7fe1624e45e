package credential

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/identity/kit"
	"github.com/nacre-cloud/nacre/internal/policy"
	"github.com/nacre-cloud/nacre/store"
)

// EC2 is an EC2 key pair of a user for a project.
type EC2 struct {
	Access   string  `json:"access"`
	Secret   string  `json:"secret"`
	UserID   string  `json:"user_id"`
	TenantID string  `json:"tenant_id"`
	TrustID  kit.Ref `json:"trust_id"`
}

// ec2Blob is an EC2 credential's blob. Others that are in it bind it to what it
// was made with.
type ec2Blob struct {
	Access        string  `json:"access"`
	Secret        string  `json:"secret"`
	TrustID       kit.Ref `json:"trust_id"`
	AppCredID     string  `json:"app_cred_id"`
	AccessTokenID string  `json:"access_token_id"`
}

func ec2ID(access string) string {
	sum := sha256.Sum256([]byte(access))
	return hex.EncodeToString(sum[:])
}

// readEC2 checks the blob of an EC2 credential.
func readEC2(blob string) (map[string]any, error) {
	var b map[string]any
	if err := json.Unmarshal([]byte(blob), &b); err != nil {
		return nil, kit.Invalid("Invalid blob in credential")
	}
	if access, ok := b["access"].(string); !ok || access == "" {
		return nil, kit.Expecting("access", "credential")
	}
	return b, nil
}

// CreateEC2 makes an EC2 key pair for a user on a project where it has a role.
func (s *Service) CreateEC2(ctx context.Context, userID, projectID string) (EC2, error) {
	c := Credential{UserID: userID, ProjectID: kit.Ref(projectID), Type: "ec2"}
	target := credentialTarget(&c)
	target["user_id"] = userID
	if err := s.area.Enforce(ctx, "ec2_create_credential", target); err != nil {
		return EC2{}, err
	}
	if err := s.withinDelegation(ctx, c.ProjectID); err != nil {
		return EC2{}, err
	}
	if err := s.parent.Unrestricted(ctx); err != nil {
		return EC2{}, err
	}
	access, secret := hexSecret(), hexSecret()
	b := map[string]any{"access": access, "secret": secret, "trust_id": nil}
	s.bind(ctx, b)
	text, err := json.Marshal(b)
	if err != nil {
		return EC2{}, err
	}
	c.ID, c.Blob = ec2ID(access), string(text)
	if err := s.seal(&c); err != nil {
		return EC2{}, err
	}
	err = s.area.Tx(ctx, func(ctx context.Context) error {
		// The project's deletion takes its users after it, so it is held before them; yet
		// it is the user who is missed first.
		project := s.parent.HoldProject(ctx, projectID)
		if err := s.parent.HoldUser(ctx, userID); err != nil {
			return err
		}
		if project != nil {
			return project
		}
		if err := s.credentials.Insert(ctx, c); err != nil {
			return err
		}
		return s.area.Happened(ctx, "credential", "created", c.ID)
	})
	if err != nil {
		return EC2{}, err
	}
	return EC2{Access: access, Secret: secret, UserID: userID, TenantID: projectID}, nil
}

// hexSecret is 128 random bits in hex, as Keystone's EC2 keys look.
func hexSecret() string {
	var b [16]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

func (s *Service) asEC2(c *Credential) (EC2, error) {
	b, err := s.blobOf(c)
	return EC2{Access: b.Access, Secret: b.Secret, UserID: c.UserID, TenantID: string(c.ProjectID), TrustID: b.TrustID}, err
}

// ec2 finds a user's EC2 credential by its access key.
func (s *Service) ec2(ctx context.Context, userID, access, rule string) (Credential, error) {
	c, err := s.credentials.Get(ctx, ec2ID(access))
	if err == nil && c.Type != "ec2" {
		c, err = Credential{}, store.ErrNoRow
	}
	// What is not there is said before who may see it, as in Keystone.
	if err != nil {
		return c, kit.OrNotFound(err, "credential", access)
	}
	// Whose it is decides, not the path that names somebody.
	target := credentialTarget(&c)
	target["user_id"] = c.UserID
	if deny := s.area.Enforce(ctx, rule, target); deny != nil {
		return c, deny
	}
	if err := s.parent.CheckUser(ctx, userID); err != nil {
		return c, err
	}
	return c, s.withinDelegation(ctx, c.ProjectID)
}

// GetEC2 shows an EC2 key pair.
func (s *Service) GetEC2(ctx context.Context, userID, access string) (EC2, error) {
	c, err := s.ec2(ctx, userID, access, "ec2_get_credential")
	if err != nil {
		return EC2{}, err
	}
	return s.asEC2(&c)
}

// ListEC2 lists a user's EC2 key pairs.
func (s *Service) ListEC2(ctx context.Context, userID string) ([]EC2, error) {
	if err := s.area.Enforce(ctx, "ec2_list_credentials", policy.Map{"user_id": userID, "target.credential.user_id": userID}); err != nil {
		return nil, err
	}
	cs, err := s.credentials.Where(ctx, store.Eq("user_id", userID), store.Eq("type", "ec2"))
	if err != nil {
		return nil, err
	}
	out := []EC2{}
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

// Signer is who may sign with an access key, and what that was made with.
type Signer struct {
	Secret            string
	UserID, ProjectID string
	// TrustID, AppCredID and AccessTokenID bound what a signature stands for.
	TrustID, AppCredID, AccessTokenID string
}

// SignerOf finds the credential of an access key. It asks no policy.
func (s *Service) SignerOf(ctx context.Context, access string) (*Signer, error) {
	c, err := s.credentials.Get(ctx, ec2ID(access))
	if errors.Is(err, nacre.NotFound) || err == nil && c.Type != "ec2" {
		return nil, nacre.Errorf(nacre.NotFound, "credential", "EC2 access key not found.")
	}
	if err != nil {
		return nil, err
	}
	b, err := s.blobOf(&c)
	return &Signer{Secret: b.Secret, UserID: c.UserID, ProjectID: string(c.ProjectID), TrustID: string(b.TrustID), AppCredID: b.AppCredID, AccessTokenID: b.AccessTokenID}, err
}

func (s *Service) blobOf(c *Credential) (ec2Blob, error) {
	var b ec2Blob
	if err := s.unseal(c); err != nil {
		return b, err
	}
	return b, json.Unmarshal([]byte(c.Blob), &b)
}
