package objectstore

import (
	"bufio"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Secrets are the root secrets of encryption at rest. All keys are derived from
// them; they are kept nowhere else, and without them nothing can be read again.
type Secrets struct {
	// ByID are the secrets: 32 bytes or more each. An id is letters, digits, "-",
	// "_" and "."; the empty one is an id, too.
	ByID map[string][]byte
	// Active is the id of the one that new objects are encrypted with. To rotate,
	// add one and make it active; the others stay for what they encrypted.
	Active string
	// Disabled leaves new objects as they are; encrypted ones can still be read.
	Disabled bool
}

// secretMin is the least length of a root secret, in bytes.
const secretMin = 32

func (s *Secrets) check() error {
	for id, v := range s.ByID {
		if strings.ContainsFunc(id, func(r rune) bool {
			return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("-_.", r)
		}) {
			return fmt.Errorf("objectstore: %q can't be a root secret's id", id)
		}
		if len(v) < secretMin {
			return fmt.Errorf("objectstore: the root secret %q is shorter than %d bytes", id, secretMin)
		}
	}
	if s.ByID[s.Active] == nil && !s.Disabled {
		return fmt.Errorf("objectstore: there is no root secret %q to encrypt with", s.Active)
	}
	return nil
}

// ReadSecrets reads secrets in the format of Swift's keymaster.conf: the options
// encryption_root_secret and encryption_root_secret_ID (base64 of 32 bytes or
// more), active_root_secret_id and disable_encryption, in a section [keymaster] or
// in none. Other sections are left alone.
func ReadSecrets(r io.Reader) (*Secrets, error) {
	const option = "encryption_root_secret"
	out := &Secrets{ByID: map[string][]byte{}}
	ours := true
	lines := bufio.NewScanner(r)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' || line[0] == ';' {
			continue
		}
		if line[0] == '[' {
			ours = line == "[keymaster]"
			continue
		}
		if !ours {
			continue
		}
		name, value, ok := strings.Cut(line, "=")
		name, value = strings.TrimSpace(name), strings.TrimSpace(value)
		id, secret := strings.CutPrefix(name, option)
		switch {
		case !ok:
			return nil, fmt.Errorf("line %d is no option", n)
		case secret && (id == "" || len(id) > 1 && id[0] == '_'):
			v, err := base64.StdEncoding.DecodeString(value)
			if err != nil {
				return nil, fmt.Errorf("line %d: %s is not base64", n, name) // the error would show some of it
			}
			out.ByID[strings.TrimPrefix(id, "_")] = v
		case name == "active_root_secret_id":
			out.Active = value
		case name == "disable_encryption":
			switch strings.ToLower(value) {
			case "true", "yes", "on", "1", "t", "y":
				out.Disabled = true
			}
		case name == "meta_version_to_write", name == "keymaster_config_path":
			// They say how Swift writes, which has a layout of its own.
		default:
			return nil, fmt.Errorf("line %d: unknown option %q", n, name)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	if len(out.ByID) == 0 {
		return nil, errors.New("there is no encryption_root_secret")
	}
	return out, out.check()
}
