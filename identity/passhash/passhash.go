// Package passhash makes and checks password hashes in the forms in which
// Keystone keeps them, so that the users of a Keystone database log in unchanged
// and the other way round.
//
//	h, err := passhash.New(passhash.Bcrypt, 12)
//	text := h.Hash("correct horse")
//	ok := passhash.Verify(text, "correct horse")
//
// The forms are those of Keystone's password_hashers (which are passlib's):
//
//	$2b$12$…                          bcrypt: 72 bytes of the password count
//	$bcrypt-sha256$v=2,t=2b,r=12$…    bcrypt of an HMAC-SHA-256: all bytes count
//	$scrypt$ln=16,r=8,p=1$…           scrypt
//	$pbkdf2-sha512$25000$…            PBKDF2 with HMAC-SHA-512
//
// Verify reads each of them, bcrypt under any of its idents and bcrypt-sha256 in
// passlib's older version too. A hash that it can't read matches nothing, and so
// does one whose cost is beyond what a server should be made to spend.
package passhash

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/crypto/bcrypt"
	"golang.org/x/crypto/blowfish" //nolint:staticcheck // old, but what bcrypt is made of
	"golang.org/x/crypto/scrypt"
)

// The algorithms, by the names of Keystone's [identity]password_hash_algorithm.
const (
	Bcrypt       = "bcrypt"
	BcryptSHA256 = "bcrypt_sha256"
	Scrypt       = "scrypt"
	PBKDF2       = "pbkdf2_sha512"
)

// bcryptMax is how much of a password bcrypt looks at; Keystone cuts there too.
const bcryptMax = 72

// What Verify is willing to spend.
const (
	maxScryptLog  = 20
	maxScryptWork = 1 << 22 // N·r·p; 128 bytes of memory for each N·r
	maxRounds     = 10_000_000
)

// Hasher makes hashes by one algorithm at one cost.
type Hasher struct {
	algorithm string
	rounds    int
}

// New is a Hasher. rounds is the base-2 logarithm for bcrypt, bcrypt_sha256
// (default 12) and scrypt (default 16), and a count for pbkdf2_sha512 (default
// 25,000); 0 takes the default.
func New(algorithm string, rounds int) (Hasher, error) {
	h := Hasher{algorithm, rounds}
	def, low, high := 12, bcrypt.MinCost, bcrypt.MaxCost
	switch algorithm {
	case Bcrypt, BcryptSHA256:
	case Scrypt:
		def, low, high = 16, 1, maxScryptLog
	case PBKDF2:
		def, low, high = 25_000, 1, maxRounds
	default:
		return h, fmt.Errorf("passhash: there is no algorithm %q", algorithm)
	}
	if rounds == 0 {
		h.rounds = def
	}
	if h.rounds < low || h.rounds > high {
		return h, errors.New("passhash: rounds are out of range")
	}
	return h, nil
}

// MaxLen is how much of a password counts, in bytes, under a general limit.
func (h Hasher) MaxLen(limit int) int {
	if h.algorithm == Bcrypt {
		return min(limit, bcryptMax)
	}
	return limit
}

// SameCost says whether two hashes are of the same algorithm at the same cost.
func SameCost(a, b string) bool { return costOf(a) == costOf(b) }

// costOf is what stands before salt and digest.
func costOf(hash string) string {
	if strings.HasPrefix(hash, "$2") && len(hash) > 7 {
		return hash[3:7] // whatever the ident
	}
	i := strings.LastIndexByte(hash, '$')
	if i < 0 {
		return ""
	}
	return hash[:max(0, strings.LastIndexByte(hash[:i], '$'))]
}

// Cheap is the same algorithm at its lowest cost, for secrets of 128 random bits
// and more.
func (h Hasher) Cheap() Hasher {
	switch h.algorithm {
	case Scrypt, PBKDF2:
		h.rounds = 1
	default:
		h.rounds = bcrypt.MinCost
	}
	return h
}

// Hash makes a hash with a random salt.
func (h Hasher) Hash(password string) (string, error) {
	pw := []byte(password)
	switch h.algorithm {
	case Scrypt:
		salt := random()
		key, err := scrypt.Key(pw, salt, 1<<h.rounds, 8, 1, 32)
		return fmt.Sprintf("$scrypt$ln=%d,r=8,p=1$%s$%s", h.rounds, b64.EncodeToString(salt), b64.EncodeToString(key)), err
	case PBKDF2:
		salt := random()
		key, err := pbkdf2.Key(sha512.New, password, salt, h.rounds, 64)
		return fmt.Sprintf("$pbkdf2-sha512$%d$%s$%s", h.rounds, b64.EncodeToString(salt), b64.EncodeToString(key)), err
	case BcryptSHA256:
		return bcryptSHA256(pw, h.rounds)
	}
	b, err := bcrypt.GenerateFromPassword(cut(pw), h.rounds)
	return "$2b$" + strings.TrimPrefix(string(b), "$2a$"), err
}

var b64 = base64.RawStdEncoding

// bcrypt64 is bcrypt's own alphabet.
var bcrypt64 = base64.NewEncoding("./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789").WithPadding(base64.NoPadding)

func random() []byte {
	b := make([]byte, 16)
	rand.Read(b)
	return b
}

func cut(pw []byte) []byte { return pw[:min(len(pw), bcryptMax)] }

// Verify says whether a password fits a hash.
func Verify(hash, password string) bool {
	pw := []byte(password)
	switch {
	case strings.HasPrefix(hash, "$2"):
		return bcrypt.CompareHashAndPassword([]byte(hash), cut(pw)) == nil
	case strings.HasPrefix(hash, "$bcrypt-sha256$"):
		return verifyBcryptSHA256(hash, pw)
	case strings.HasPrefix(hash, "$scrypt$"):
		return verifyScrypt(hash, pw)
	case strings.HasPrefix(hash, "$pbkdf2-sha512$"):
		return verifyPBKDF2(hash, password)
	}
	return false
}

// bcryptSHA256 hashes the base64 of HMAC-SHA-256(salt's text, password). The salt
// is part of the input, so bcrypt's own is chosen first.
func bcryptSHA256(pw []byte, rounds int) (string, error) {
	salt := bcrypt64.EncodeToString(random())
	sum, err := bcryptWithSalt(prehash(salt, pw), rounds, salt)
	return fmt.Sprintf("$bcrypt-sha256$v=2,t=2b,r=%d$%s$%s", rounds, salt, sum), err
}

// bcryptWithSalt is the sum of bcrypt, which x/crypto's own package makes for
// salts of its choice only.
func bcryptWithSalt(pw []byte, rounds int, salt string) (string, error) {
	raw, err := bcrypt64.DecodeString(salt)
	if err != nil {
		return "", err
	}
	key := append(append([]byte(nil), pw...), 0)
	c, err := blowfish.NewSaltedCipher(key, raw)
	if err != nil {
		return "", err
	}
	for range 1 << rounds {
		blowfish.ExpandKey(key, c)
		blowfish.ExpandKey(raw, c)
	}
	data := []byte("OrpheanBeholderScryDoubt")
	for i := 0; i < len(data); i += 8 {
		for range 64 {
			c.Encrypt(data[i:i+8], data[i:i+8])
		}
	}
	return bcrypt64.EncodeToString(data[:23]), nil
}

func prehash(salt string, pw []byte) []byte {
	m := hmac.New(sha256.New, []byte(salt))
	m.Write(pw)
	return []byte(base64.StdEncoding.EncodeToString(m.Sum(nil)))
}

func verifyBcryptSHA256(hash string, pw []byte) bool {
	parts := strings.Split(strings.TrimPrefix(hash, "$bcrypt-sha256$"), "$")
	if len(parts) != 3 {
		return false
	}
	p, salt := params(parts[0]), parts[1]
	rounds, in := p["r"], []byte(nil)
	switch {
	case p["v"] == "2":
		in = prehash(salt, pw)
	case rounds == "":
		// passlib's first version: "2a,12", and a plain SHA-256.
		_, rounds, _ = strings.Cut(parts[0], ",")
		sum := sha256.Sum256(pw)
		in = []byte(base64.StdEncoding.EncodeToString(sum[:]))
	default:
		return false
	}
	n, err := strconv.Atoi(rounds)
	if err != nil {
		return false
	}
	return bcrypt.CompareHashAndPassword(fmt.Appendf(nil, "$2b$%02d$%s%s", n, salt, parts[2]), in) == nil
}

// params reads "a=1,b=2".
func params(s string) map[string]string {
	out := map[string]string{}
	for _, kv := range strings.Split(s, ",") {
		if k, v, ok := strings.Cut(kv, "="); ok {
			out[k] = v
		}
	}
	return out
}

// decode reads passlib's base64, which has "." for "+".
func decode(s string) ([]byte, error) {
	return b64.DecodeString(strings.ReplaceAll(s, ".", "+"))
}

func verifyScrypt(hash string, pw []byte) bool {
	parts := strings.Split(hash[1:], "$")
	if len(parts) != 4 {
		return false
	}
	p := params(parts[1])
	ln, err1 := strconv.Atoi(p["ln"])
	r, err2 := strconv.Atoi(p["r"])
	n, err3 := strconv.Atoi(p["p"])
	salt, err4 := decode(parts[2])
	want, err5 := decode(parts[3])
	if errors.Join(err1, err2, err3, err4, err5) != nil || ln < 1 || ln > maxScryptLog || r < 1 || n < 1 || r > maxScryptWork || n > maxScryptWork || (1<<ln)*r > maxScryptWork || (1<<ln)*r*n > maxScryptWork || len(want) != 32 {
		return false
	}
	got, err := scrypt.Key(pw, salt, 1<<ln, r, n, len(want))
	return err == nil && subtle.ConstantTimeCompare(got, want) == 1
}

func verifyPBKDF2(hash, password string) bool {
	parts := strings.Split(hash[1:], "$")
	if len(parts) != 4 {
		return false
	}
	rounds, err1 := strconv.Atoi(parts[1])
	salt, err2 := decode(parts[2])
	want, err3 := decode(parts[3])
	if errors.Join(err1, err2, err3) != nil || rounds < 1 || rounds > maxRounds || len(want) != 64 {
		return false
	}
	got, err := pbkdf2.Key(sha512.New, password, salt, rounds, len(want))
	return err == nil && subtle.ConstantTimeCompare(got, want) == 1
}
