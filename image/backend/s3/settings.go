package s3

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"

	"github.com/minio/minio-go/v7"
)

// settings are what a configuration says of the store, under glance's names. Sizes
// are in MiB. The prefix and the key's file are ours.
type settings struct {
	Host      string `yaml:"s3_store_host"`
	Region    string `yaml:"s3_store_region_name"`
	AccessKey string `yaml:"s3_store_access_key"`
	SecretKey string `yaml:"s3_store_secret_key"`
	KeyFile   string `yaml:"s3_store_secret_key_file"`
	Bucket    string `yaml:"s3_store_bucket"`
	Create    bool   `yaml:"s3_store_create_bucket_on_put"`
	URLFormat string `yaml:"s3_store_bucket_url_format"`
	PartSize  uint64 `yaml:"s3_store_large_object_chunk_size"`
	CACert    string `yaml:"s3_store_cacert"`
	Prefix    string `yaml:"s3_store_prefix"`
}

// FromSettings makes the driver that a configuration describes; decode fills a
// struct with yaml tags and refuses unknown names.
func FromSettings(decode func(any) error) (*Driver, error) {
	var s settings
	if err := decode(&s); err != nil {
		return nil, err
	}
	o := Options{Region: s.Region, Bucket: s.Bucket, CreateBucket: s.Create, Prefix: s.Prefix, AccessKey: s.AccessKey, SecretKey: s.SecretKey, PartSize: s.PartSize << 20, Secure: true}
	scheme, host, ok := strings.Cut(s.Host, "://")
	if !ok {
		scheme, host = "https", s.Host
	}
	if o.Endpoint = strings.TrimRight(host, "/"); o.Endpoint == "" {
		return nil, errors.New("s3_store_host is missing")
	}
	switch scheme {
	case "https":
	case "http":
		o.Secure = false
	default:
		return nil, fmt.Errorf("s3_store_host: %q is neither http nor https", scheme)
	}
	switch cmp.Or(s.URLFormat, "auto") {
	case "auto", "path":
	case "virtual":
		o.VirtualHost = true
	default:
		return nil, fmt.Errorf("s3_store_bucket_url_format is %q, not auto, path or virtual", s.URLFormat)
	}
	if s.KeyFile != "" {
		b, err := os.ReadFile(s.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("s3_store_secret_key_file: %w", err)
		}
		o.SecretKey = strings.TrimSpace(string(b))
	}
	if s.CACert != "" {
		t, err := trusting(s.CACert, o.Secure)
		if err != nil {
			return nil, fmt.Errorf("s3_store_cacert: %w", err)
		}
		o.Transport = t
	}
	return New(o)
}

// trusting is a transport that trusts the authorities in a file of PEM.
func trusting(file string, secure bool) (*http.Transport, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	t, err := minio.DefaultTransport(secure)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(b) {
		return nil, fmt.Errorf("%s has no certificate", file)
	}
	t.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	return t, nil
}
