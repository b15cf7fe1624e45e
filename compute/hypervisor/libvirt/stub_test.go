//go:build !libvirt || !cgo

package libvirt

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
)

func TestBuildWithoutLibvirtSaysSo(t *testing.T) {
	_, err := New(Config{})
	require.ErrorIs(t, err, nacre.NotImplemented)
	require.ErrorContains(t, err, "libvirt_dlopen")
}
