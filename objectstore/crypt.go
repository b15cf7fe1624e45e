package objectstore

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"sync"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/nacre-cloud/nacre"
)

// Encryption at rest. Each body has a random key and is encrypted with AES-256 in
// counter mode, so that a range is read without what is before it. That key lies
// with the headers that users set, and with what the service keeps beside them, in
// the row's text meta; this and the entity tags are sealed (XChaCha20-Poly1305) with
// a key of the container's, derived from a root secret. A sealed text names its
// secret and container, so that a row may move to another container.
//
// As in Swift, names, sizes, types and times are not encrypted, nor is the metadata
// of accounts and containers. An object without the mark of a sealed text was put
// when nothing was encrypted, and is read as it is.

// sealMark begins a sealed text: no tag and no JSON object does.
const sealMark = "$1$"

// What is sealed is bound to its use.
const (
	sealTag  = "tag"
	sealList = "list"
	sealHead = "head"
)

// ErrLocked is an object whose root secret isn't there, or doesn't fit.
var ErrLocked = &nacre.Error{Kind: nacre.Internal, Code: "Locked", Message: "The object can't be decrypted."}

// unknownTag is what a listing shows of one that is locked.
const unknownTag = "<unknown>"

// vault seals and opens.
type vault struct {
	secrets Secrets
	mu      sync.RWMutex
	keys    map[vaultKey]cipher.AEAD
}

type vaultKey struct{ secret, container string }

func newVault(s *Secrets) (*vault, error) {
	if s == nil {
		return &vault{secrets: Secrets{Disabled: true}}, nil
	}
	return &vault{secrets: *s}, s.check()
}

// on says that new objects are encrypted.
func (v *vault) on() bool { return !v.secrets.Disabled }

// key is a container's for one of the secrets.
func (v *vault) key(k vaultKey) (cipher.AEAD, error) {
	v.mu.RLock()
	a := v.keys[k]
	v.mu.RUnlock()
	if a != nil {
		return a, nil
	}
	root := v.secrets.ByID[k.secret]
	if root == nil {
		return nil, fmt.Errorf("%w: there is no root secret %q", ErrLocked, k.secret)
	}
	raw, err := hkdf.Key(sha256.New, root, nil, "nacre objectstore container "+k.container, chacha20poly1305.KeySize)
	if err != nil {
		return nil, err
	}
	if a, err = chacha20poly1305.NewX(raw); err != nil {
		return nil, err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.keys == nil || len(v.keys) >= cacheMax {
		v.keys = map[vaultKey]cipher.AEAD{}
	}
	v.keys[k] = a
	return a, nil
}

func (v *vault) seal(container, use, text string) (string, error) {
	a, err := v.key(vaultKey{v.secrets.Active, container})
	if err != nil {
		return "", err
	}
	var nonce [chacha20poly1305.NonceSizeX]byte
	_, _ = rand.Read(nonce[:])
	sealed := a.Seal(nonce[:], nonce[:], []byte(text), []byte(use))
	return sealMark + v.secrets.Active + "$" + container + "$" + base64.RawStdEncoding.EncodeToString(sealed), nil
}

// open is what seal was given. A text without the mark is as it is.
func (v *vault) open(use, text string) (string, error) {
	rest, ok := strings.CutPrefix(text, sealMark)
	if !ok {
		return text, nil
	}
	id, rest, _ := strings.Cut(rest, "$")
	container, rest, _ := strings.Cut(rest, "$")
	raw, err := base64.RawStdEncoding.DecodeString(rest)
	if err != nil || len(raw) < chacha20poly1305.NonceSizeX {
		return "", fmt.Errorf("%w: its %s is no sealed text", ErrLocked, use)
	}
	a, err := v.key(vaultKey{id, container})
	if err != nil {
		return "", err
	}
	plain, err := a.Open(nil, raw[:chacha20poly1305.NonceSizeX], raw[chacha20poly1305.NonceSizeX:], []byte(use))
	if err != nil {
		return "", fmt.Errorf("%w: the root secret %q is not the one that sealed its %s", ErrLocked, id, use)
	}
	return string(plain), nil
}

// head is what is sealed of an object beside its tags.
type head struct {
	Key  []byte          `json:"key,omitempty"`
	Meta json.RawMessage `json:"meta,omitempty"`
}

// sealed is data as its row is to have it. What has an encrypted body is sealed even
// where new ones are not encrypted.
func (v *vault) sealed(d Data, container string) (Data, error) {
	if !v.on() && d.key == nil {
		return d, nil
	}
	h, err := json.Marshal(head{d.key, json.RawMessage(d.Headers)})
	if err != nil {
		return d, err
	}
	if d.Headers, err = v.seal(container, sealHead, string(h)); err != nil {
		return d, err
	}
	if d.Etag, err = v.seal(container, sealTag, d.Etag); err != nil {
		return d, err
	}
	if d.ListEtag != "" {
		d.ListEtag, err = v.seal(container, sealList, d.ListEtag)
	}
	d.key = nil
	return d, err
}

// reveal opens data as it was read. What can't be opened is locked.
func (v *vault) reveal(d *Data) {
	v.tags(&d.Etag, &d.ListEtag)
	if !strings.HasPrefix(d.Headers, sealMark) {
		return
	}
	text, err := v.open(sealHead, d.Headers)
	d.Headers = ""
	var h head
	if err == nil {
		err = json.Unmarshal([]byte(text), &h)
	}
	if d.locked = err; err == nil {
		d.Headers, d.key = string(h.Meta), h.Key
	}
}

// tags opens what listings show.
func (v *vault) tags(etag, listEtag *string) {
	var err error
	if *etag, err = v.open(sealTag, *etag); err != nil {
		*etag = unknownTag
	}
	if *listEtag, err = v.open(sealList, *listEtag); err != nil {
		*listEtag = ""
	}
}

// seen is a copy of an object's row, opened.
func (v *vault) seen(o *Object) *Object {
	if o == nil {
		return nil
	}
	c := *o
	v.reveal(&c.Data)
	return &c
}

// newBodyKey is a key for one body.
func newBodyKey() []byte {
	k := make([]byte, 32)
	_, _ = rand.Read(k)
	return k
}

// bodyStream encrypts or decrypts a body from an offset on. A key is used for one
// body, so that the counter may begin at zero.
func bodyStream(key []byte, off int64) (cipher.Stream, error) {
	b, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	var iv [aes.BlockSize]byte
	binary.BigEndian.PutUint64(iv[8:], uint64(off)/aes.BlockSize) //nolint:gosec // an offset isn't negative
	s := cipher.NewCTR(b, iv[:])
	var skip [aes.BlockSize]byte
	s.XORKeyStream(skip[:off%aes.BlockSize], skip[:off%aes.BlockSize])
	return s, nil
}

// decrypted reads a body from an offset on.
func decrypted(r io.ReadCloser, key []byte, off int64) (io.ReadCloser, error) {
	if key == nil {
		return r, nil
	}
	s, err := bodyStream(key, off)
	if err != nil {
		_ = r.Close() // read only
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{cipher.StreamReader{S: s, R: r}, r}, nil
}
