//go:build !ceph || !cgo

package rados_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/objectstore/blob/rados"
)

func TestBuildWithoutCephSaysSo(t *testing.T) {
	file := filepath.Join(t.TempDir(), "rados.yaml")
	require.NoError(t, os.WriteFile(file, []byte("{ceph_conf: /etc/ceph/ceph.conf, pool: objects, timeout: 5s, grace: 1h}"), 0o600))
	_, err := rados.FromFile(t.Context(), file, nil)
	require.ErrorIs(t, err, nacre.NotImplemented)
	require.ErrorContains(t, err, "-tags")
}
