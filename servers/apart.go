package servers

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/nacre-cloud/nacre/servers/host"
	"github.com/nacre-cloud/nacre/servers/kit"
	"github.com/nacre-cloud/nacre/servers/remote"
)

// serviceUsers are the names that OpenStack's installation guides give to services.
var serviceUsers = map[string]string{"compute": "nova", "image": "glance", "network": "neutron", "objectstore": "swift"}

// serviceUser is as whom a process that serves areas asks others, when nothing is said:
// identity has no user of its own.
func serviceUser(areas []string) string {
	for _, area := range areas {
		if user := serviceUsers[area]; user != "" {
			return user
		}
	}
	return ""
}

// apart reads what the configuration says of areas in other processes.
func apart(c *Config, cfg kit.Config) error {
	if len(cfg.Areas) == 0 {
		return nil
	}
	if cfg.Bus == kit.Default().Bus {
		return errors.New("bus: memory joins the parts of one process; areas apart need a broker (amqp, nats)")
	}
	var err error
	if c.ServiceUsers, err = pairs("service_users", cfg.ServiceUsers); err != nil {
		return err
	}
	if slices.Equal(cfg.Areas, []string{"identity"}) {
		return nil
	}
	endpoints, err := pairs("endpoints", cfg.Endpoints)
	if err != nil {
		return err
	}
	trust, err := host.TLS(cfg)
	if err != nil {
		return err
	}
	rc := remote.Config{IdentityURL: cmp.Or(cfg.IdentityURL, cfg.URL+"/identity/v3"), Username: cmp.Or(cfg.ServiceUser, serviceUser(cfg.Areas)), Password: cfg.ServicePassword,
		Project: cfg.ServiceProject, Region: cfg.Region, Endpoints: endpoints, Log: c.Log}
	if trust != nil {
		t := http.DefaultTransport.(*http.Transport).Clone()
		t.TLSClientConfig = trust
		rc.Transport = t
	}
	if rc.Password == "" {
		return errors.New("service_password is not set: the other functions are asked as " + rc.Username)
	}
	c.Others, err = remote.New(rc)
	return err
}

// pairs reads NAME=VALUE settings.
func pairs(setting string, list []string) (map[string]string, error) {
	out := map[string]string{}
	for _, p := range list {
		name, value, ok := strings.Cut(p, "=")
		if !ok || name == "" || value == "" {
			return nil, fmt.Errorf("%s: %q is not NAME=VALUE", setting, name)
		}
		out[name] = value
	}
	return out, nil
}

// seedApart is what of a seed some areas can have without the others.
func seedApart(c *Config, all Seed) Seed {
	var out Seed
	if c.serves("compute") {
		out.Flavors = all.Flavors
	}
	if c.serves("identity") {
		out.DemoPassword, out.RandomPassword = all.DemoPassword, all.RandomPassword
	}
	return out
}
