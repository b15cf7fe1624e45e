package rbd

import (
	"cmp"
	"fmt"
	"time"
)

// Options of New. ConfigFile and Pool are required.
type Options struct {
	// ConfigFile is the cluster's ceph.conf, which names the keyring too.
	ConfigFile string
	// User is who connects, without "client."; empty is admin.
	User string
	// Pool exists already.
	Pool string
	// ChunkSize is that of the objects of an image, in bytes, a power of two; 0 is
	// 8 MiB, as with Glance.
	ChunkSize int
	// Thin leaves out chunks of zeros, which then take no space.
	Thin bool
	// Timeout bounds each operation; 0 is 60 s.
	Timeout time.Duration
}

// settings are Glance's own names.
type settings struct {
	Conf    string `yaml:"rbd_store_ceph_conf"`
	User    string `yaml:"rbd_store_user"`
	Pool    string `yaml:"rbd_store_pool"`
	Chunk   int    `yaml:"rbd_store_chunk_size"` // MiB
	Thin    bool   `yaml:"rbd_thin_provisioning"`
	Timeout int    `yaml:"rados_connect_timeout"` // seconds
}

// FromSettings makes a driver from Glance's settings of a store of type rbd, which
// decode gives.
func FromSettings(decode func(any) error) (*Driver, error) {
	s := settings{Conf: "/etc/ceph/ceph.conf", Pool: "images", Chunk: 8}
	if err := decode(&s); err != nil {
		return nil, err
	}
	if s.Chunk < 1 || s.Chunk > 32 || s.Chunk&(s.Chunk-1) != 0 {
		return nil, fmt.Errorf("rbd_store_chunk_size is %d, not a power of two up to 32", s.Chunk)
	}
	return New(Options{ConfigFile: s.Conf, User: cmp.Or(s.User, "admin"), Pool: s.Pool, ChunkSize: s.Chunk << 20, Thin: s.Thin, Timeout: time.Duration(s.Timeout) * time.Second})
}
