//go:build !ceph || !cgo

package rbd_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/image/backend/rbd"
)

func TestBuildWithoutCephSaysSo(t *testing.T) {
	_, err := rbd.FromSettings(func(any) error { return nil })
	require.ErrorIs(t, err, nacre.NotImplemented)
	require.ErrorContains(t, err, "-tags")
}
