package fernet

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// MaxActiveKeys is Keystone's default for how many keys a repository keeps.
const MaxActiveKeys = 3

// Keys are the keys that make and read tokens. They are safe for concurrent use.
type Keys struct {
	dir    string
	keys   atomic.Pointer[[]key] // primary first
	looked atomic.Int64          // when dir was last looked at, in nanoseconds
	stamp  atomic.Int64          // dir's modification time when it was read
}

// key is one Fernet key: 16 bytes that sign, 16 that encrypt.
type key [32]byte

// Memory makes random keys that nobody else has, for a cloud that ends with its
// process.
func Memory() *Keys {
	k := &Keys{}
	var one key
	rand.Read(one[:])
	k.keys.Store(&[]key{one})
	return k
}

// New takes keys as text (URL-safe base64 of 32 bytes), the primary first.
func New(texts ...string) (*Keys, error) {
	var list []key
	for _, text := range texts {
		one, err := parseKey(text)
		if err != nil {
			return nil, err
		}
		list = append(list, one)
	}
	if len(list) == 0 {
		return nil, errors.New("fernet: no keys")
	}
	k := &Keys{}
	k.keys.Store(&list)
	return k, nil
}

// Open reads a key repository. One without keys is an error.
func Open(dir string) (*Keys, error) {
	k := &Keys{dir: dir}
	k.looked.Store(time.Now().UnixNano())
	return k, k.load()
}

func parseKey(text string) (key, error) {
	b, err := base64.URLEncoding.DecodeString(strings.TrimSpace(text))
	if err != nil || len(b) != len(key{}) {
		return key{}, errors.New("fernet: a key is the URL-safe base64 of 32 bytes")
	}
	return key(b), nil
}

func (k *Keys) load() error {
	info, err := os.Stat(k.dir)
	if err != nil {
		return fmt.Errorf("fernet: %w", err)
	}
	numbers, err := keyFiles(k.dir)
	if err != nil {
		return err
	}
	var list []key
	for _, n := range slices.Backward(numbers) {
		text, err := os.ReadFile(filepath.Join(k.dir, strconv.Itoa(n)))
		if err != nil {
			return fmt.Errorf("fernet: %w", err)
		}
		if len(text) == 0 {
			continue
		}
		one, err := parseKey(string(text))
		if err != nil {
			return fmt.Errorf("%w (%s/%d)", err, k.dir, n)
		}
		list = append(list, one)
	}
	if len(list) == 0 {
		return fmt.Errorf("fernet: no keys in %s", k.dir)
	}
	k.keys.Store(&list)
	k.stamp.Store(info.ModTime().UnixNano())
	return nil
}

// current are the keys, after a look at the directory once a second. A directory
// that can't be read just now leaves the keys as they were.
func (k *Keys) current() []key {
	if k.dir != "" {
		now, last := time.Now().UnixNano(), k.looked.Load()
		if (now-last >= int64(time.Second) || now < last) && k.looked.CompareAndSwap(last, now) {
			if info, err := os.Stat(k.dir); err == nil && info.ModTime().UnixNano() != k.stamp.Load() {
				_ = k.load()
			}
		}
	}
	return *k.keys.Load()
}

// keyFiles lists the repository's key numbers, ascending.
func keyFiles(dir string) ([]int, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("fernet: %w", err)
	}
	var numbers []int
	for _, e := range entries {
		if n, err := strconv.Atoi(e.Name()); err == nil && n >= 0 && !e.IsDir() {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	return numbers, nil
}

// Init makes a key repository (mode 0700) with a primary and a staged key. One
// that has a staged key is left as it is.
func Init(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("fernet: %w", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "0")); err == nil {
		return nil
	}
	if err := newStaged(dir); err != nil {
		return err
	}
	return Rotate(dir, MaxActiveKeys)
}

// Rotate makes the staged key the primary, stages a new one, and removes the
// oldest so that at most max remain (at least the primary and the staged one).
func Rotate(dir string, max int) error {
	if max < 1 {
		return fmt.Errorf("fernet: %d keys can't remain: one is the least", max)
	}
	numbers, err := keyFiles(dir)
	if err != nil {
		return err
	}
	if len(numbers) == 0 || numbers[0] != 0 {
		return fmt.Errorf("fernet: %s has no staged key", dir)
	}
	primary := numbers[len(numbers)-1] + 1
	if err := os.Rename(filepath.Join(dir, "0"), filepath.Join(dir, strconv.Itoa(primary))); err != nil {
		return fmt.Errorf("fernet: %w", err)
	}
	if err := newStaged(dir); err != nil {
		return err
	}
	active := append(numbers[1:], primary)
	for len(active) > 1 && len(active)+1 > max {
		if err := os.Remove(filepath.Join(dir, strconv.Itoa(active[0]))); err != nil {
			return fmt.Errorf("fernet: %w", err)
		}
		active = active[1:]
	}
	return nil
}

// newStaged writes file 0 whole or not at all.
func newStaged(dir string) error {
	var one key
	rand.Read(one[:])
	tmp := filepath.Join(dir, "0.tmp")
	if err := os.WriteFile(tmp, []byte(base64.URLEncoding.EncodeToString(one[:])), 0o600); err != nil {
		return fmt.Errorf("fernet: %w", err)
	}
	if err := os.Rename(tmp, filepath.Join(dir, "0")); err != nil {
		return fmt.Errorf("fernet: %w", err)
	}
	return nil
}
