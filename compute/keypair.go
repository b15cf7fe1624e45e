package compute

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // the fingerprint that nova shows of a certificate is SHA-1
	"encoding/base64"
	"encoding/pem"
	"errors"
	"regexp"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/internal/policy"
	"github.com/nacre-cloud/nacre/store"
)

// Keypair is a user's public key.
type Keypair struct {
	// ID is "<user>/<name>".
	ID          string    `store:"id,pk"`
	Number      int64     `store:"number"`
	UserID      string    `store:"user_id,index=keypair_user"`
	Name        string    `store:"name"`
	Type        string    `store:"type"`
	PublicKey   string    `store:"public_key"`
	Fingerprint string    `store:"fingerprint"`
	Created     time.Time `store:"created_at"`
}

func keypairNotFound(name, user string) *nacre.Error {
	return nacre.Errorf(nacre.NotFound, "KeypairNotFound", "Keypair %s not found for user %s", name, user)
}

// Keypairs lists a user's keys; empty user is the caller.
func (s *Service) Keypairs(ctx context.Context, user string, q nacre.Query) ([]Keypair, error) {
	user, err := s.keypairUser(ctx, "index", user)
	if err != nil {
		return nil, err
	}
	marker := ""
	if q.Marker != "" {
		marker = user + "/" + q.Marker
	}
	ks, err := s.keypairs.Page(ctx, store.Select{Where: store.Eq("user_id", user), Limit: q.Limit}, marker)
	if errors.Is(err, store.ErrNoRow) {
		return nil, nacre.Errorf(nacre.Invalid, "MarkerNotFound", "Marker %s could not be found.", q.Marker)
	}
	return ks, err
}

func (s *Service) keypairUser(ctx context.Context, op, user string) (string, error) {
	c, err := s.caller(ctx)
	if err != nil {
		return "", err
	}
	if user == "" {
		user = c.UserID
	}
	return user, s.enforce(ctx, "os_compute_api:os-keypairs:"+op, policy.Map{"user_id": user})
}

// Keypair is one key.
func (s *Service) Keypair(ctx context.Context, user, name string) (Keypair, error) {
	user, err := s.keypairUser(ctx, "show", user)
	if err != nil {
		return Keypair{}, err
	}
	k, err := s.keypairs.Get(ctx, user+"/"+name)
	return k, store.WrapNotFound(err, func() *nacre.Error { return keypairNotFound(name, user) })
}

var keypairNameRE = regexp.MustCompile(`^[ 0-9a-zA-Z@._-]{1,255}$`)

// CreateKeypair keeps a public key, or makes a new pair and returns its private
// half, which is never stored, when publicKey is empty. The generated pair is
// Ed25519: nova's own generator makes RSA, which newer servers still take.
func (s *Service) CreateKeypair(ctx context.Context, k Keypair) (out Keypair, private string, err error) {
	if k.UserID, err = s.keypairUser(ctx, "create", k.UserID); err != nil {
		return k, "", err
	}
	if !keypairNameRE.MatchString(k.Name) || strings.TrimSpace(k.Name) == "" {
		return k, "", nacre.Errorf(nacre.Invalid, "InvalidKeypair", "Keypair data is invalid: Keypair name contains unsafe characters")
	}
	if k.Type == "" {
		k.Type = "ssh"
	}
	if k.PublicKey == "" && k.Type == "ssh" {
		if k.PublicKey, private, err = newKey(); err != nil {
			return k, "", err
		}
	}
	if k.PublicKey == "" && k.Type == "x509" {
		return k, "", nacre.Errorf(nacre.Invalid, "InvalidKeypair", "Keypair data is invalid: this cloud makes no certificates; give the public key of one")
	}
	switch k.Type {
	case "ssh":
		pub, _, _, _, perr := ssh.ParseAuthorizedKey([]byte(strings.TrimSpace(k.PublicKey)))
		if perr != nil {
			return k, "", nacre.Errorf(nacre.Invalid, "InvalidKeypair", "Keypair data is invalid: failed to generate fingerprint")
		}
		k.Fingerprint = ssh.FingerprintLegacyMD5(pub)
	case "x509":
		block, _ := pem.Decode([]byte(k.PublicKey))
		if block == nil || block.Type != "CERTIFICATE" {
			return k, "", nacre.Errorf(nacre.Invalid, "InvalidKeypair", "Keypair data is invalid: failed to generate X509 fingerprint")
		}
		sum := sha1.Sum(block.Bytes) //nolint:gosec // an identifier that clients know, not a protection
		k.Fingerprint = colonHex(sum[:])
	default:
		return k, "", nacre.Errorf(nacre.Invalid, "", "Invalid keypair type %s", k.Type)
	}
	k.ID, k.Created = k.UserID+"/"+k.Name, time.Now().UTC()
	err = store.InTx(ctx, s.c.Engine, func(ctx context.Context) error {
		if err := store.Lock(ctx, s.c.Engine, "keypairs/"+k.UserID); err != nil {
			return err
		}
		g, err := s.keypairs.Aggregate(ctx, store.Aggregate{Where: store.Eq("user_id", k.UserID), Max: "number"})
		if err != nil {
			return err
		}
		if n, ok := g[0].Max.(int64); ok {
			k.Number = n
		}
		k.Number++
		limits, err := s.quota.Limits(ctx, nacre.CallerFrom(ctx).ProjectID)
		if err != nil {
			return err
		}
		if l := limits["key_pairs"]; l >= 0 && g[0].Count >= l {
			return nacre.Errorf(nacre.QuotaExceeded, "KeypairLimitExceeded", "Quota exceeded, too many key pairs.")
		}
		if err := s.keypairs.Insert(ctx, k); err != nil {
			return err
		}
		return s.emit(ctx, "keypair.create.end", k.Name, "", map[string]string{"key_name": k.Name, "fingerprint": k.Fingerprint})
	})
	if store.IsDuplicate(err) {
		err = nacre.Errorf(nacre.Conflict, "KeyPairExists", "Key pair '%s' already exists.", k.Name)
	}
	return k, private, err
}

// DeleteKeypair removes a key. Servers keep theirs.
func (s *Service) DeleteKeypair(ctx context.Context, user, name string) error {
	user, err := s.keypairUser(ctx, "delete", user)
	if err != nil {
		return err
	}
	return store.WrapNotFound(s.keypairs.Delete(ctx, user+"/"+name), func() *nacre.Error { return keypairNotFound(name, user) })
}

func newKey() (public, private string, err error) {
	pub, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return "", "", err
	}
	block, err := ssh.MarshalPrivateKey(priv, "Generated by Nacre")
	if err != nil {
		return "", "", err
	}
	sshPub, err := ssh.NewPublicKey(pub)
	if err != nil {
		return "", "", err
	}
	line := sshPub.Type() + " " + base64.StdEncoding.EncodeToString(sshPub.Marshal()) + " Generated-by-Nacre\n"
	return line, string(pem.EncodeToMemory(block)), nil
}

func colonHex(b []byte) string {
	const digits = "0123456789abcdef"
	out := make([]byte, 0, len(b)*3)
	for i, x := range b {
		if i > 0 {
			out = append(out, ':')
		}
		out = append(out, digits[x>>4], digits[x&15])
	}
	return string(out)
}
