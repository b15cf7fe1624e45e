package rados

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"go.yaml.in/yaml/v3"
)

// Options of Open. ConfigFile and Pool are required.
type Options struct {
	// ConfigFile is the cluster's ceph.conf, which names the keyring too.
	ConfigFile string
	// User is who connects, without "client."; empty is admin.
	User string
	// Pool exists already. Namespace within it is "nacre" unless set.
	Pool, Namespace string
	// Timeout bounds each operation; 0 is 30 s.
	Timeout time.Duration
	// Grace is how long the parts of a deleted blob stay for its readers; 0 is 6 h.
	Grace time.Duration
	Log   *slog.Logger
}

// settings are what a file says.
type settings struct {
	ConfigFile string `yaml:"ceph_conf"`
	User       string `yaml:"user"`
	Pool       string `yaml:"pool"`
	Namespace  string `yaml:"namespace"`
	Timeout    string `yaml:"timeout"`
	Grace      string `yaml:"grace"`
}

// FromFile opens the store that a YAML file describes, by the names ceph_conf, user,
// pool, namespace, timeout and grace (as in 30s, 6h).
func FromFile(ctx context.Context, path string, log *slog.Logger) (*Store, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("rados: %w", err)
	}
	var s settings
	d := yaml.NewDecoder(bytes.NewReader(b))
	d.KnownFields(true)
	if err := d.Decode(&s); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("rados: %s: %w", path, err)
	}
	o := Options{ConfigFile: s.ConfigFile, User: s.User, Pool: s.Pool, Namespace: s.Namespace, Log: log}
	for text, at := range map[*string]*time.Duration{&s.Timeout: &o.Timeout, &s.Grace: &o.Grace} {
		if *text == "" {
			continue
		}
		if *at, err = time.ParseDuration(*text); err != nil || *at <= 0 {
			return nil, fmt.Errorf("rados: %s: %q is no duration", path, *text)
		}
	}
	return Open(ctx, o)
}
