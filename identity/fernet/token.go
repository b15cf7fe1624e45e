package fernet

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/vmihailenco/msgpack/v5"
)

// Token is what a token says.
type Token struct {
	UserID string
	// Methods are the authentication methods behind it, in Keystone's names.
	Methods []string

	// At most one of ProjectID, DomainID and System is set. TrustID and
	// AppCredID go with ProjectID.
	ProjectID, DomainID, System string
	TrustID, AppCredID          string

	// IdPID and ProtocolID say who vouched for a federated user, and how; GroupIDs
	// are the groups that it was mapped to. They go with ProjectID, DomainID or no
	// scope.
	IdPID, ProtocolID string
	GroupIDs          []string
	// AccessTokenID is the OAuth 1.0a access token behind it; it goes with ProjectID.
	AccessTokenID string
	// Thumbprint is that of the client's certificate that the token is bound to
	// (OAuth 2.0 mutual TLS); it goes with ProjectID or DomainID.
	Thumbprint string

	// IssuedAt and ExpiresAt are whole seconds, UTC.
	IssuedAt, ExpiresAt time.Time
	// AuditIDs are this token's audit id and that of the first in its chain:
	// 16 bytes in URL-safe base64 without padding.
	AuditIDs []string
}

// ErrToken is a text that is no token, or none that these keys made.
var ErrToken = errors.New("fernet: not a token of ours")

const (
	version   = 0x80
	headerLen = 1 + 8 + aes.BlockSize
	macLen    = sha256.Size
	// maxLen bounds what is decoded at all; a federated token names its groups.
	maxLen = 16 << 10
)

// payload versions of Keystone's token_formatters.
const (
	unscoped     = 0
	domain       = 1
	project      = 2
	trust        = 3
	fedUnscoped  = 4
	fedProject   = 5
	fedDomain    = 6
	oauth        = 7
	system       = 8
	appCred      = 9
	oauth2Client = 10
)

// methods in the order of Keystone's default [auth]methods, bit by bit, and after
// them those that an operator appends there.
var methods = []string{"external", "password", "token", "oauth1", "mapped", "application_credential", "totp", "saml2", "openid"}

// NewAuditID makes a random audit id.
func NewAuditID() string {
	var b [16]byte
	rand.Read(b[:])
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// Pack makes a token's text, with the primary key.
func (k *Keys) Pack(t Token) (string, error) {
	payload, err := t.encode()
	if err != nil {
		return "", err
	}
	return k.seal(payload, t.IssuedAt, base64.RawURLEncoding)
}

// Encrypt makes a plain Fernet token of any content, padded as its specification
// says: the form in which Keystone keeps credentials.
func (k *Keys) Encrypt(plain []byte) (string, error) {
	return k.seal(plain, time.Now(), base64.URLEncoding)
}

// Decrypt reads what Encrypt made with any of the keys, or is ErrToken.
func (k *Keys) Decrypt(text string) ([]byte, error) {
	plain, _, err := k.open(text)
	return plain, err
}

func (k *Keys) seal(payload []byte, at time.Time, enc *base64.Encoding) (string, error) {
	key := k.current()[0]
	pad := aes.BlockSize - len(payload)%aes.BlockSize
	buf := make([]byte, headerLen+len(payload)+pad, headerLen+len(payload)+pad+macLen)
	buf[0] = version
	binary.BigEndian.PutUint64(buf[1:], uint64(at.Unix()))
	iv, body := buf[9:headerLen], buf[headerLen:]
	rand.Read(iv)
	copy(body, payload)
	for i := len(payload); i < len(body); i++ {
		body[i] = byte(pad)
	}
	block, err := aes.NewCipher(key[16:])
	if err != nil {
		return "", err
	}
	cipher.NewCBCEncrypter(block, iv).CryptBlocks(body, body)
	return enc.EncodeToString(mac(key, buf, buf)), nil
}

// mac appends the signature of data to dst.
func mac(k key, dst, data []byte) []byte {
	h := hmac.New(sha256.New, k[:16])
	h.Write(data)
	return h.Sum(dst)
}

// Unpack reads a token's text: ErrToken unless one of the keys made it. It does
// not look at the expiry.
func (k *Keys) Unpack(text string) (Token, error) {
	if len(text) > maxLen {
		return Token{}, ErrToken
	}
	payload, at, err := k.open(text)
	if err != nil {
		return Token{}, err
	}
	t, err := decode(payload)
	if err != nil {
		return Token{}, fmt.Errorf("%w: %w", ErrToken, err)
	}
	t.IssuedAt = at
	return t, nil
}

// open reads a Fernet token with any of the keys.
func (k *Keys) open(text string) ([]byte, time.Time, error) {
	buf, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(text, "="))
	if err != nil || len(buf) < headerLen+aes.BlockSize+macLen || (len(buf)-headerLen-macLen)%aes.BlockSize != 0 || buf[0] != version {
		return nil, time.Time{}, ErrToken
	}
	data, sum := buf[:len(buf)-macLen], buf[len(buf)-macLen:]
	var scratch [macLen]byte
	for _, key := range k.current() {
		if !hmac.Equal(sum, mac(key, scratch[:0], data)) {
			continue
		}
		block, err := aes.NewCipher(key[16:])
		if err != nil {
			return nil, time.Time{}, err
		}
		body := data[headerLen:]
		cipher.NewCBCDecrypter(block, data[9:headerLen]).CryptBlocks(body, body)
		pad := int(body[len(body)-1])
		if pad < 1 || pad > aes.BlockSize {
			return nil, time.Time{}, ErrToken
		}
		return body[:len(body)-pad], time.Unix(int64(binary.BigEndian.Uint64(data[1:9])), 0).UTC(), nil
	}
	return nil, time.Time{}, ErrToken
}

// encode writes the msgpack array of the version that fits.
func (t *Token) encode() ([]byte, error) {
	var buf bytes.Buffer
	e := msgpack.NewEncoder(&buf)
	e.UseCompactInts(true)
	w := writer{e: e}
	bits := methodBits(t.Methods)
	begin := func(version, fields int) {
		w.do(e.EncodeArrayLen(fields + 1))
		w.do(e.EncodeInt(int64(version)))
		w.id(t.UserID)
		w.do(e.EncodeInt(int64(bits)))
	}
	switch {
	case t.Thumbprint != "":
		begin(oauth2Client, 7)
		w.orNil(t.ProjectID)
		w.orNil(t.DomainID)
		w.tail(t)
		w.do(e.EncodeArrayLen(2))
		w.do(e.EncodeBool(false))
		w.do(e.EncodeString(t.Thumbprint))
	case t.IdPID != "":
		version, scope := fedUnscoped, t.ProjectID+t.DomainID
		switch {
		case t.ProjectID != "":
			version = fedProject
		case t.DomainID != "":
			version = fedDomain
		}
		if scope == "" {
			begin(version, 7)
		} else {
			begin(version, 8)
			w.id(scope)
		}
		w.do(e.EncodeArrayLen(len(t.GroupIDs)))
		for _, g := range t.GroupIDs {
			w.id(g)
		}
		w.id(t.IdPID)
		w.do(e.EncodeString(t.ProtocolID))
		w.tail(t)
	case t.AccessTokenID != "":
		begin(oauth, 6)
		w.id(t.ProjectID)
		w.id(t.AccessTokenID)
		w.tail(t)
	case t.AppCredID != "":
		begin(appCred, 6)
		w.id(t.ProjectID)
		w.tail(t)
		w.id(t.AppCredID)
	case t.TrustID != "":
		begin(trust, 6)
		w.orNil(t.ProjectID)
		w.tail(t)
		w.bare(t.TrustID)
	case t.ProjectID != "":
		begin(project, 5)
		w.id(t.ProjectID)
		w.tail(t)
	case t.DomainID != "":
		begin(domain, 5)
		w.bare(t.DomainID)
		w.tail(t)
	case t.System != "":
		begin(system, 5)
		w.do(e.EncodeString(t.System))
		w.tail(t)
	default:
		begin(unscoped, 4)
		w.tail(t)
	}
	return buf.Bytes(), w.err
}

func methodBits(have []string) int {
	bits := 0
	for i, m := range methods {
		if slices.Contains(have, m) {
			bits |= 1 << i
		}
	}
	return bits
}

func methodNames(bits int) []string {
	var names []string
	for i := len(methods) - 1; i >= 0; i-- {
		if bits&(1<<i) != 0 {
			names = append(names, methods[i])
		}
	}
	return names
}

type writer struct {
	e   *msgpack.Encoder
	err error
}

func (w *writer) do(err error) {
	if w.err == nil {
		w.err = err
	}
}

// uuidBytes are the 16 bytes of a UUID in 32 lower-case hex digits. Any other
// text is not shortened, so that it comes back as it was.
func uuidBytes(id string) ([]byte, bool) {
	if len(id) != 32 || strings.ToLower(id) != id {
		return nil, false
	}
	b, err := hex.DecodeString(id)
	return b, err == nil
}

// id writes (true, bytes) or (false, text).
func (w *writer) id(id string) {
	w.do(w.e.EncodeArrayLen(2))
	b, ok := uuidBytes(id)
	w.do(w.e.EncodeBool(ok))
	if ok {
		w.do(w.e.EncodeBytes(b))
	} else {
		w.do(w.e.EncodeString(id))
	}
}

// orNil is id, where a missing one is (false, nil).
func (w *writer) orNil(id string) {
	if id != "" {
		w.id(id)
		return
	}
	w.do(w.e.EncodeArrayLen(2))
	w.do(w.e.EncodeBool(false))
	w.do(w.e.EncodeNil())
}

// bare writes an id without the mark: bytes or text.
func (w *writer) bare(id string) {
	if b, ok := uuidBytes(id); ok {
		w.do(w.e.EncodeBytes(b))
	} else {
		w.do(w.e.EncodeString(id))
	}
}

// tail writes the expiry and the audit ids.
func (w *writer) tail(t *Token) {
	w.do(w.e.EncodeFloat64(float64(t.ExpiresAt.Unix())))
	w.do(w.e.EncodeArrayLen(len(t.AuditIDs)))
	for _, a := range t.AuditIDs {
		b, err := base64.RawURLEncoding.DecodeString(a)
		w.do(err)
		w.do(w.e.EncodeBytes(b))
	}
}

func decode(payload []byte) (Token, error) {
	d := msgpack.GetDecoder()
	defer msgpack.PutDecoder(d)
	d.Reset(bytes.NewReader(payload))
	r := reader{d: d, size: len(payload)}
	n := r.array()
	v := r.int()
	t := Token{UserID: r.id()}
	t.Methods = methodNames(r.int())
	want := 6
	switch v {
	case unscoped:
		want = 5
		r.tail(&t)
	case domain:
		t.DomainID = r.bare()
		r.tail(&t)
	case project:
		t.ProjectID = r.id()
		r.tail(&t)
	case trust:
		want = 7
		t.ProjectID = r.orNil()
		r.tail(&t)
		t.TrustID = r.bare()
	case system:
		t.System = r.text()
		r.tail(&t)
	case appCred:
		want = 7
		t.ProjectID = r.id()
		r.tail(&t)
		t.AppCredID = r.id()
	case fedUnscoped:
		want = 8
		r.federated(&t)
	case fedProject:
		want = 9
		t.ProjectID = r.id()
		r.federated(&t)
	case fedDomain:
		want = 9
		t.DomainID = r.id()
		r.federated(&t)
	case oauth:
		want = 7
		t.ProjectID = r.id()
		t.AccessTokenID = r.id()
		r.tail(&t)
	case oauth2Client:
		want = 8
		t.ProjectID = r.orNil()
		t.DomainID = r.orNil()
		r.tail(&t)
		t.Thumbprint = r.id()
	default:
		return t, fmt.Errorf("payload version %d", v)
	}
	if r.err == nil && n != want {
		r.err = fmt.Errorf("%d fields in payload version %d", n, v)
	}
	return t, r.err
}

type reader struct {
	d   *msgpack.Decoder
	err error
	// size is the payload's: nothing in it is longer.
	size int
}

func get[T any](r *reader, f func() (T, error)) T {
	var zero T
	if r.err != nil {
		return zero
	}
	v, err := f()
	if err != nil {
		r.err = err
		return zero
	}
	return v
}

func (r *reader) array() int { return get(r, r.d.DecodeArrayLen) }
func (r *reader) int() int   { return get(r, r.d.DecodeInt) }

// text reads a string or, from older writers, bytes.
func (r *reader) text() string { return string(r.bytes()) }

// bytes reads bytes or a string. The decoder's own functions make room for whatever
// length is claimed, up to 4 GiB.
func (r *reader) bytes() []byte {
	n := get(r, r.d.DecodeBytesLen)
	if n > r.size {
		r.err = fmt.Errorf("%d bytes in a payload of %d", n, r.size)
	}
	if n <= 0 || r.err != nil {
		return nil
	}
	b := make([]byte, n)
	r.err = r.d.ReadFull(b)
	return b
}

func (r *reader) id() string {
	if n := r.array(); r.err == nil && n != 2 {
		r.err = fmt.Errorf("an id of %d parts", n)
	}
	if get(r, r.d.DecodeBool) {
		return hex.EncodeToString(r.bytes())
	}
	return r.text()
}

// orNil is id, where (false, nil) is a missing one.
func (r *reader) orNil() string {
	if n := r.array(); r.err == nil && n != 2 {
		r.err = fmt.Errorf("an id of %d parts", n)
	}
	if get(r, r.d.DecodeBool) {
		return hex.EncodeToString(r.bytes())
	}
	if get(r, r.d.PeekCode) == 0xc0 {
		get(r, func() (struct{}, error) { return struct{}{}, r.d.DecodeNil() })
		return ""
	}
	return r.text()
}

// maxGroups bounds the groups of a federated token.
const maxGroups = 1000

// federated reads what the three federated versions end with.
func (r *reader) federated(t *Token) {
	n := r.array()
	if n > maxGroups {
		r.err = fmt.Errorf("%d groups", n)
	}
	for range n {
		if r.err != nil {
			return
		}
		t.GroupIDs = append(t.GroupIDs, r.id())
	}
	t.IdPID = r.id()
	t.ProtocolID = r.text()
	r.tail(t)
}

// bare reads an id that is 16 bytes or text. Text is never 16 bytes of bin.
func (r *reader) bare() string {
	code := get(r, r.d.PeekCode)
	if bin8, bin32 := byte(0xc4), byte(0xc6); code >= bin8 && code <= bin32 {
		b := r.bytes()
		if len(b) == 16 {
			return hex.EncodeToString(b)
		}
		return string(b)
	}
	return r.text()
}

func (r *reader) tail(t *Token) {
	sec := get(r, r.d.DecodeFloat64)
	t.ExpiresAt = time.Unix(int64(sec), 0).UTC()
	n := r.array()
	if n > 8 {
		r.err = fmt.Errorf("%d audit ids", n)
	}
	for range n {
		if r.err != nil {
			return
		}
		t.AuditIDs = append(t.AuditIDs, base64.RawURLEncoding.EncodeToString(r.bytes()))
	}
}
