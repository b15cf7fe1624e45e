// Package broker is what the transports over a broker have in common.
package broker

import (
	"context"
	"math/rand/v2"
	"strings"
	"time"
)

// LightTopics are hosts' desired state and the calls to them: it is sent again, so
// that it may go with the broker.
func LightTopics(topic string) bool {
	return strings.Contains(topic, ".host.") || strings.Contains(topic, ".call.")
}

// Pause waits before the nth try, until the context ends (false): from 50 ms up to
// 2 s, jittered, so that a thousand hosts don't come back as one.
func Pause(ctx context.Context, n int) bool {
	d := min(50*time.Millisecond<<min(n, 7), 2*time.Second)
	return Wait(ctx, d/2+rand.N(d)) //nolint:gosec // jitter
}

// Wait waits, until the context ends (false).
func Wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
