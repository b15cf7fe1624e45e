package fernet

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"time"

	"github.com/vmihailenco/msgpack/v5"
)

// Receipt says by which methods a user has authenticated so far, where one is not
// enough. It is not a token: it gets nobody in by itself.
type Receipt struct {
	UserID  string
	Methods []string
	// IssuedAt and ExpiresAt are whole seconds, UTC.
	IssuedAt, ExpiresAt time.Time
}

// PackReceipt makes a receipt's text, with the primary key, in the format of
// Keystone's receipt_formatters. Keep the keys of receipts apart from those of
// tokens, as Keystone does.
func (k *Keys) PackReceipt(r Receipt) (string, error) {
	var buf bytes.Buffer
	e := msgpack.NewEncoder(&buf)
	e.UseCompactInts(true)
	w := writer{e: e}
	w.do(e.EncodeArrayLen(3))
	w.id(r.UserID)
	w.do(e.EncodeInt(int64(methodBits(r.Methods))))
	w.do(e.EncodeFloat64(float64(r.ExpiresAt.Unix())))
	if w.err != nil {
		return "", w.err
	}
	return k.seal(buf.Bytes(), r.IssuedAt, base64.RawURLEncoding)
}

// UnpackReceipt reads a receipt's text: ErrToken unless one of the keys made it.
// It does not look at the expiry.
func (k *Keys) UnpackReceipt(text string) (Receipt, error) {
	if len(text) > maxLen {
		return Receipt{}, ErrToken
	}
	payload, at, err := k.open(text)
	if err != nil {
		return Receipt{}, err
	}
	return receiptOf(payload, at)
}

// receiptOf reads what a receipt says, issued at a time.
func receiptOf(payload []byte, at time.Time) (Receipt, error) {
	d := msgpack.NewDecoder(bytes.NewReader(payload))
	r := reader{d: d, size: len(payload)}
	if n := r.array(); r.err == nil && n != 3 {
		r.err = fmt.Errorf("%d fields in a receipt", n)
	}
	out := Receipt{UserID: r.id(), Methods: methodNames(r.int()), IssuedAt: at}
	out.ExpiresAt = time.Unix(int64(get(&r, d.DecodeFloat64)), 0).UTC()
	if r.err != nil {
		return Receipt{}, fmt.Errorf("%w: %w", ErrToken, r.err)
	}
	return out, nil
}
