package servers

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre/compute"
	"github.com/nacre-cloud/nacre/network"
	"github.com/nacre-cloud/nacre/servers/kit"
)

func TestHostLifeSettings(t *testing.T) {
	read := func(cfg kit.Config) (compute.Config, network.Config) {
		t.Helper()
		var c Config
		require.NoError(t, hostLife(&c, cfg))
		var cc compute.Config
		var nc network.Config
		c.ComputeSetup(&cc)
		c.NetworkSetup(&nc)
		return cc, nc
	}
	cc, nc := read(kit.Default())
	require.Zero(t, cc.ConfirmWindow)
	require.Equal(t, time.Hour, cc.MoveTimeout)
	require.False(t, nc.KeepRouters)
	cc, nc = read(kit.Config{ConfirmWindow: "86400", MoveTimeout: "90m"})
	require.Equal(t, 24*time.Hour, cc.ConfirmWindow)
	require.Equal(t, 90*time.Minute, cc.MoveTimeout)
	require.True(t, nc.KeepRouters)
	for _, bad := range []string{"soon", "-1", "-1h"} {
		require.ErrorContains(t, hostLife(&Config{}, kit.Config{ConfirmWindow: bad}), "resize_confirm_window")
	}
}
