//go:build realtest

package identity_test

import (
	"encoding/json"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
)

// defaults prints what a domain's options default to in Debian's Keystone.
const defaults = `
import json
import keystone.conf
from keystone.resource import core
keystone.conf.configure()
keystone.conf.CONF([], project="keystone", default_config_files=[])
allowed = core.DomainConfigManager.whitelisted_options
print(json.dumps({g: {o: getattr(getattr(keystone.conf.CONF, g), o) for o in names} for g, names in allowed.items()}))
`

func TestDomainConfigDefaultsAsKeystone(t *testing.T) {
	out, err := exec.Command("/usr/bin/python3", "-W", "ignore", "-c", defaults).Output()
	require.NoError(t, err)
	var want map[string]map[string]any
	require.NoError(t, json.Unmarshal(out, &want))
	eachEngine(t, func(t *testing.T, c *cloud) {
		got, err := c.DomainConfigs.Defaults(nacre.AsService(t.Context(), "test"), "", "")
		require.NoError(t, err)
		b, err := json.Marshal(got)
		require.NoError(t, err)
		var have map[string]map[string]any
		require.NoError(t, json.Unmarshal(b, &have))
		require.Equal(t, want, have)
	})
}
