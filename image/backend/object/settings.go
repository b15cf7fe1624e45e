package object

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack"
)

// settings are what a configuration says of the store, under glance's names. Sizes
// are in MiB. The key's file is ours.
type settings struct {
	AuthAddress   string `yaml:"swift_store_auth_address"`
	AuthVersion   string `yaml:"swift_store_auth_version"`
	User          string `yaml:"swift_store_user"`
	Key           string `yaml:"swift_store_key"`
	KeyFile       string `yaml:"swift_store_key_file"`
	UserDomain    string `yaml:"user_domain_id"`
	ProjectDomain string `yaml:"project_domain_id"`
	Region        string `yaml:"swift_store_region"`
	Interface     string `yaml:"swift_store_endpoint_type"`
	Endpoint      string `yaml:"swift_store_endpoint"`
	ServiceType   string `yaml:"swift_store_service_type"`
	Container     string `yaml:"swift_store_container"`
	Create        bool   `yaml:"swift_store_create_container_on_put"`
	SegmentSize   int64  `yaml:"swift_store_large_object_chunk_size"`
	CACert        string `yaml:"swift_store_cacert"`
}

// FromSettings makes the driver that a configuration describes; decode fills a
// struct with yaml tags and refuses unknown names. name is the store's.
func FromSettings(name string, decode func(any) error) (*Driver, error) {
	s := settings{AuthVersion: "3", Interface: "publicURL", ServiceType: "object-store", UserDomain: "default", ProjectDomain: "default"}
	if err := decode(&s); err != nil {
		return nil, err
	}
	project, user, ok := strings.Cut(s.User, ":")
	switch {
	case s.AuthAddress == "":
		return nil, errors.New("swift_store_auth_address is missing")
	case s.AuthVersion != "3":
		return nil, fmt.Errorf("swift_store_auth_version is %q; only 3 is spoken", s.AuthVersion)
	case !ok || project == "" || user == "":
		return nil, errors.New("swift_store_user is not \"project:user\"")
	case s.SegmentSize < 0:
		return nil, errors.New("swift_store_large_object_chunk_size is negative")
	}
	if s.KeyFile != "" {
		b, err := os.ReadFile(s.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("swift_store_key_file: %w", err)
		}
		s.Key = strings.TrimSpace(string(b))
	}
	if s.Key == "" {
		return nil, errors.New("swift_store_key is missing")
	}
	availability := gophercloud.Availability(strings.TrimSuffix(s.Interface, "URL"))
	switch availability {
	case gophercloud.AvailabilityPublic, gophercloud.AvailabilityInternal, gophercloud.AvailabilityAdmin:
	default:
		return nil, fmt.Errorf("swift_store_endpoint_type is %q, not publicURL, internalURL or adminURL", s.Interface)
	}
	client := http.Client{}
	if s.CACert != "" {
		b, err := os.ReadFile(s.CACert)
		if err != nil {
			return nil, fmt.Errorf("swift_store_cacert: %w", err)
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(b) {
			return nil, fmt.Errorf("swift_store_cacert: %s has no certificate", s.CACert)
		}
		client.Transport = &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}}
	}
	auth := gophercloud.AuthOptions{IdentityEndpoint: s.AuthAddress, Username: user, Password: s.Key, DomainID: s.UserDomain, AllowReauth: true,
		Scope: &gophercloud.AuthScope{ProjectName: project, DomainID: s.ProjectDomain}}
	connect := func(ctx context.Context) (*gophercloud.ServiceClient, error) {
		p, err := openstack.NewClient(auth.IdentityEndpoint)
		if err != nil {
			return nil, err
		}
		p.HTTPClient = client
		if err := openstack.Authenticate(ctx, p, auth); err != nil {
			return nil, err
		}
		c, err := openstack.NewObjectStorageV1(p, gophercloud.EndpointOpts{Type: s.ServiceType, Region: s.Region, Availability: availability})
		if s.Endpoint != "" && c != nil {
			c.Endpoint, err = strings.TrimRight(s.Endpoint, "/")+"/", nil
		}
		return c, err
	}
	return New(connect, Options{Container: s.Container, CreateContainer: s.Create, Reference: cmp.Or(name, "default"), SegmentSize: s.SegmentSize << 20}), nil
}
