// Package setup reads identity's settings from a YAML file, under the names and
// with the units that they have in keystone.conf:
//
//	security_compliance:
//	  lockout_failure_attempts: 6
//	  lockout_duration: 1800            # seconds
//	  disable_user_account_days_inactive: 90
//	  password_expires_days: 90
//	  unique_last_password_count: 5
//	  minimum_password_age: 1           # days
//	  password_regex: '^(?=.*\d)(?=.*[a-zA-Z]).{7,}$'
//	  password_regex_description: seven characters, a letter and a digit among them
//	  change_password_upon_first_use: true
//	  report_invalid_password_hash: [event]
//	  invalid_password_hash_secret_key_file: report-key
//	  invalid_password_hash_max_chars: 5
//	identity:
//	  password_hash_algorithm: bcrypt   # scrypt, pbkdf2_sha512, bcrypt_sha256
//	  password_hash_rounds: 12
//	  strict_password_check: false
//	token:
//	  expiration: 3600                  # seconds
//	  provider: fernet                  # or jws: keys in jws-keys/private and jws-keys/public
//	  allow_rescope_scoped_token: true
//	unified_limit:
//	  enforcement_model: flat           # or strict_two_level
//	default:
//	  max_project_tree_depth: 5
//	domains:                            # by name, as keystone.NAME.conf in domain_config_dir
//	  corp:
//	    identity: {driver: ldap}
//	    ldap:
//	      url: ldaps://ldap.example.com
//	      suffix: dc=example,dc=com
//	      user: cn=nacre,dc=example,dc=com
//	      password_file: ldap-password
//
// Files are relative to its own directory. Unknown names are errors.
package setup

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/nacre-cloud/nacre/identity"
	"github.com/nacre-cloud/nacre/identity/domainconfig"
	"github.com/nacre-cloud/nacre/identity/jws"
	"github.com/nacre-cloud/nacre/identity/password"
)

type document struct {
	Compliance struct {
		LockoutAttempts int      `yaml:"lockout_failure_attempts"`
		LockoutDuration *int     `yaml:"lockout_duration"`
		InactiveDays    int      `yaml:"disable_user_account_days_inactive"`
		PasswordDays    int      `yaml:"password_expires_days"`
		Unique          int      `yaml:"unique_last_password_count"`
		MinDays         int      `yaml:"minimum_password_age"`
		Regex           string   `yaml:"password_regex"`
		RegexText       string   `yaml:"password_regex_description"`
		FirstUse        bool     `yaml:"change_password_upon_first_use"`
		Report          []string `yaml:"report_invalid_password_hash"`
		ReportKeyFile   string   `yaml:"invalid_password_hash_secret_key_file"`
		ReportChars     int      `yaml:"invalid_password_hash_max_chars"`
	} `yaml:"security_compliance"`
	Identity struct {
		Algorithm string `yaml:"password_hash_algorithm"`
		Rounds    int    `yaml:"password_hash_rounds"`
		Strict    bool   `yaml:"strict_password_check"`
	} `yaml:"identity"`
	Token struct {
		Expiration int    `yaml:"expiration"`
		Provider   string `yaml:"provider"`
		Rescope    *bool  `yaml:"allow_rescope_scoped_token"`
	} `yaml:"token"`
	Limits struct {
		Model string `yaml:"enforcement_model"`
	} `yaml:"unified_limit"`
	Default struct {
		Depth int `yaml:"max_project_tree_depth"`
	} `yaml:"default"`
	Domains map[string]domainconfig.Options `yaml:"domains"`
}

// Read reads a file. What it gives changes identity's configuration before the
// service is made; what the file does not name is left as it is. Settings that
// identity.New refuses (an unknown algorithm, say) are refused there.
func Read(path string) (func(*identity.Config), error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read
	var d document
	dec := yaml.NewDecoder(f)
	dec.KnownFields(true)
	if err := dec.Decode(&d); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	c, err := d.compliance(filepath.Dir(path))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	for name, domain := range d.Domains {
		if err := secrets(domain["ldap"], filepath.Dir(path)); err != nil {
			return nil, fmt.Errorf("%s: domain %s: %w", path, name, err)
		}
	}
	var tokens identity.TokenFormat
	switch d.Token.Provider {
	case "", "fernet":
	case "jws":
		dir := filepath.Join(filepath.Dir(path), "jws-keys")
		if tokens, err = jws.Open(filepath.Join(dir, "private"), filepath.Join(dir, "public")); err != nil {
			return nil, fmt.Errorf("%s: token provider: %w", path, err)
		}
	default:
		return nil, fmt.Errorf("%s: token provider %q is neither fernet nor jws", path, d.Token.Provider)
	}
	if d.Token.Expiration < 0 {
		return nil, fmt.Errorf("%s: token expiration is negative", path)
	}
	return func(to *identity.Config) { d.apply(to, c, tokens) }, nil
}

func (d *document) apply(to *identity.Config, c password.Compliance, tokens identity.TokenFormat) {
	to.Compliance, to.PasswordHash, to.StrictPasswords = c, d.Identity.Algorithm, d.Identity.Strict
	if d.Identity.Algorithm == "" || d.Identity.Algorithm == "bcrypt" {
		if d.Identity.Rounds > 0 {
			to.BcryptCost = d.Identity.Rounds
		}
	} else {
		to.PasswordRounds = d.Identity.Rounds
	}
	if d.Token.Expiration > 0 {
		to.TokenTTL = time.Duration(d.Token.Expiration) * time.Second
	}
	if tokens != nil {
		to.Tokens = tokens
	}
	to.NoRescope = d.Token.Rescope != nil && !*d.Token.Rescope
	to.LimitModel, to.MaxProjectDepth, to.DomainConfigs = d.Limits.Model, d.Default.Depth, d.Domains
}

// secrets puts the password in place of the file that holds it.
func secrets(ldap map[string]any, dir string) error {
	file, ok := ldap["password_file"].(string)
	if !ok {
		return nil
	}
	if !filepath.IsAbs(file) {
		file = filepath.Join(dir, file)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	delete(ldap, "password_file")
	ldap["password"] = strings.TrimSpace(string(b))
	return nil
}

func (d *document) compliance(dir string) (password.Compliance, error) {
	in := &d.Compliance
	c := password.Compliance{LockoutAttempts: in.LockoutAttempts, InactiveDays: in.InactiveDays, PasswordDays: in.PasswordDays, UniquePasswords: in.Unique,
		MinPasswordDays: in.MinDays, PasswordRegex: in.Regex, PasswordRules: in.RegexText, ChangeUponFirstUse: in.FirstUse, ReportChars: in.ReportChars}
	for name, n := range map[string]int{"lockout_failure_attempts": in.LockoutAttempts, "disable_user_account_days_inactive": in.InactiveDays, "password_expires_days": in.PasswordDays,
		"unique_last_password_count": in.Unique, "minimum_password_age": in.MinDays, "invalid_password_hash_max_chars": in.ReportChars} {
		if n < 0 {
			return c, fmt.Errorf("security_compliance: %s is negative", name)
		}
	}
	switch {
	case in.LockoutDuration == nil:
	case *in.LockoutDuration <= 0:
		return c, errors.New("security_compliance: lockout_duration is not positive; leave it out for half an hour")
	default:
		c.LockoutFor = time.Duration(*in.LockoutDuration) * time.Second
	}
	if !slices.Contains(in.Report, "event") {
		return c, nil
	}
	if in.ReportKeyFile == "" {
		return c, errors.New("security_compliance: report_invalid_password_hash needs invalid_password_hash_secret_key_file")
	}
	if !filepath.IsAbs(in.ReportKeyFile) {
		in.ReportKeyFile = filepath.Join(dir, in.ReportKeyFile)
	}
	key, err := os.ReadFile(in.ReportKeyFile)
	if c.ReportKey = strings.TrimSpace(string(key)); err == nil && c.ReportKey == "" {
		err = errors.New("security_compliance: the secret key's file is empty")
	}
	return c, err
}
