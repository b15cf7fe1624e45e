package kit

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// State is a state directory, held by one process at a time.
type State struct {
	Dir  string
	lock *os.File
}

var errInUse = errors.New("is in use by another process")

// OpenState makes the directory (mode 0700) if need be and takes it. Another
// process that holds it is an error.
func OpenState(dir string) (*State, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if err := makeDir(dir); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := lockFile(f); err != nil {
		return nil, errors.Join(fmt.Errorf("%s %w: %w", dir, errInUse, err), f.Close())
	}
	return &State{Dir: dir, lock: f}, nil
}

// makeDir makes a directory; what it makes belongs to the calling user.
func makeDir(dir string) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	if err := makeDirs(filepath.Dir(dir)); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return own(dir)
}

func makeDirs(dir string) error {
	if _, err := os.Stat(dir); err == nil || dir == filepath.Dir(dir) {
		return nil
	}
	if err := makeDirs(filepath.Dir(dir)); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return own(dir)
}

// caller is the user who runs us by sudo; ok is false when nobody does.
func caller() (uid, gid int, ok bool) {
	if os.Geteuid() != 0 {
		return 0, 0, false
	}
	uid, err1 := strconv.Atoi(os.Getenv("SUDO_UID"))
	gid, err2 := strconv.Atoi(os.Getenv("SUDO_GID"))
	return uid, gid, err1 == nil && err2 == nil && uid != 0
}

func own(path string) error {
	uid, gid, ok := caller()
	if !ok {
		return nil
	}
	return os.Lchown(path, uid, gid)
}

// Own gives all of the directory to the calling user when we run by sudo. It is
// called once everything has been made, and again by Close.
func (s *State) Own() error {
	if _, _, ok := caller(); !ok {
		return nil
	}
	return filepath.WalkDir(s.Dir, func(path string, _ fs.DirEntry, err error) error {
		if err == nil {
			err = own(path)
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil // a file that came and went
		}
		return err
	})
}

// lockWait is how long another process may hold a shared directory.
const lockWait = time.Minute

// Shared is a directory that several processes use. It is held, so that one at a time
// makes what is missing in it, until Close.
func Shared(ctx context.Context, dir string) (*State, error) {
	ctx, cancel := context.WithTimeout(ctx, lockWait)
	defer cancel()
	for {
		s, err := OpenState(dir)
		if err == nil || !errors.Is(err, errInUse) {
			return s, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// Path is a path below the directory.
func (s *State) Path(parts ...string) string {
	return filepath.Join(append([]string{s.Dir}, parts...)...)
}

// MkdirAll makes a directory below the directory and returns its path.
func (s *State) MkdirAll(parts ...string) (string, error) {
	p := s.Path(parts...)
	return p, os.MkdirAll(p, 0o700)
}

// Close lets go of the directory.
func (s *State) Close() error { return errors.Join(s.Own(), s.lock.Close()) }

// Secrets are random texts of 128 bits by name, made at the first call and the
// same ever after.
func (s *State) Secrets(names ...string) (map[string]string, error) {
	path := s.Path("secrets.json")
	have := map[string]string{}
	data, err := os.ReadFile(path)
	switch {
	case err == nil:
		if err := json.Unmarshal(data, &have); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	missing := false
	for _, n := range names {
		if have[n] == "" {
			have[n], missing = strings.ToLower(rand.Text()), true
		}
	}
	if !missing {
		return have, nil
	}
	if data, err = json.MarshalIndent(have, "", "  "); err != nil {
		return nil, err
	}
	return have, writeFile(path, append(data, '\n'))
}

// Instance names the process that holds the directory: the same after each start, and
// another than that of whoever holds a copy of the directory, here or on another machine.
func (s *State) Instance() (string, error) {
	secrets, err := s.Secrets("instance")
	if err != nil {
		return "", err
	}
	machine, err := os.Hostname()
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256([]byte(strings.Join([]string{machine, s.Dir, secrets["instance"]}, "\x00")))
	return hex.EncodeToString(sum[:8]), nil
}

// writeFile replaces a file as a whole, readable by its owner alone.
func writeFile(path string, data []byte) error {
	tmp := path + ".new"
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Sync(), f.Close(), own(tmp))
	if err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	return os.Rename(tmp, path)
}

// Credentials are one entry of clouds.yaml.
type Credentials struct {
	Name, AuthURL, Region, Username, Password, Project string
	// CACert is the file of the certificates to trust; empty is the system's.
	CACert string
}

// WriteClouds writes a clouds.yaml that the openstack command and gophercloud read.
func WriteClouds(path string, clouds ...Credentials) error {
	type auth struct {
		AuthURL  string `yaml:"auth_url"`
		Username string `yaml:"username"`
		Password string `yaml:"password"`
		Project  string `yaml:"project_name"`
		UserDom  string `yaml:"user_domain_id"`
		ProjDom  string `yaml:"project_domain_id"`
	}
	type cloud struct {
		Auth      auth   `yaml:"auth"`
		Region    string `yaml:"region_name"`
		Interface string `yaml:"interface"`
		Identity  int    `yaml:"identity_api_version"`
		CACert    string `yaml:"cacert,omitempty"`
	}
	doc := map[string]map[string]cloud{"clouds": {}}
	for _, c := range clouds {
		doc["clouds"][c.Name] = cloud{auth{c.AuthURL, c.Username, c.Password, c.Project, "default", "default"}, c.Region, "public", 3, c.CACert}
	}
	data, err := yaml.Marshal(doc)
	if err != nil {
		return err
	}
	return writeFile(path, data)
}
