package servers

import (
	"fmt"
	"strconv"
	"time"

	"github.com/nacre-cloud/nacre/compute"
	"github.com/nacre-cloud/nacre/network"
	"github.com/nacre-cloud/nacre/servers/kit"
)

// hostLife reads what is set about servers that move and hosts that go.
func hostLife(c *Config, cfg kit.Config) error {
	confirm, err := duration("resize_confirm_window", cfg.ConfirmWindow)
	if err != nil {
		return err
	}
	move, err := duration("live_migration_completion_timeout", cfg.MoveTimeout)
	if err != nil {
		return err
	}
	c.ComputeSetup = func(cc *compute.Config) { cc.ConfirmWindow, cc.MoveTimeout = confirm, move }
	c.NetworkSetup = func(nc *network.Config) { nc.KeepRouters = !cfg.RouterFailover }
	return nil
}

// duration reads a time as 24h or, as nova's settings are, as a number of seconds. Empty
// is 0.
func duration(name, text string) (time.Duration, error) {
	if text == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(text)
	if n, nerr := strconv.ParseUint(text, 10, 31); nerr == nil {
		d, err = time.Duration(n)*time.Second, nil
	}
	if err != nil || d < 0 {
		return 0, fmt.Errorf("%s: %q is no time, as 24h or 3600", name, text)
	}
	return d, nil
}
