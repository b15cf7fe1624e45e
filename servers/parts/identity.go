package parts

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/nacre-cloud/nacre/identity"
	identityapi "github.com/nacre-cloud/nacre/identity/api"
	"github.com/nacre-cloud/nacre/identity/catalog"
	"github.com/nacre-cloud/nacre/identity/federation/setup"
	"github.com/nacre-cloud/nacre/identity/ldap"
	identitysetup "github.com/nacre-cloud/nacre/identity/setup"
	"github.com/nacre-cloud/nacre/servers/kit"
)

// identitySetup reads how identity's users come from elsewhere.
func identitySetup(cfg kit.Config) (func(*identity.Config, *identityapi.Config), error) {
	var users identity.FederationConfig
	var logins identityapi.FederationConfig
	file := cfg.Federation
	if file == "" {
		file = filepath.Join(cfg.StateDir, "federation.yaml")
	}
	var err error
	if users, logins, err = setup.Read(file); err != nil && (cfg.Federation != "" || !errors.Is(err, fs.ErrNotExist)) {
		return nil, err
	}
	settings := func(*identity.Config) {}
	file = cfg.Identity
	if file == "" {
		file = filepath.Join(cfg.StateDir, "identity.yaml")
	}
	if read, err := identitysetup.Read(file); err == nil {
		settings = read
	} else if cfg.Identity != "" || !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var template *catalog.Template
	if cfg.CatalogTemplate != "" {
		f, err := os.Open(cfg.CatalogTemplate)
		if err != nil {
			return nil, err
		}
		defer f.Close() //nolint:errcheck // only read
		if template, err = catalog.ParseTemplate(f); err != nil {
			return nil, err
		}
	}
	return func(c *identity.Config, a *identityapi.Config) {
		settings(c)
		c.Federation, c.CatalogTemplate, c.OpenDirectory = users, template, ldap.Open
		a.Federation = logins
	}, nil
}
