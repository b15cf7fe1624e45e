package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack"
	"github.com/gophercloud/gophercloud/v2/openstack/config"
	"github.com/gophercloud/gophercloud/v2/openstack/config/clouds"

	"github.com/nacre-cloud/nacre/bus/amqp"
	"github.com/nacre-cloud/nacre/bus/nats"
	"github.com/nacre-cloud/nacre/servers/kit"
)

type hostCmd struct {
	Add hostAdd `cmd:"" help:"Make a host known to the running cloud, and write what its node needs."`
}

type hostAdd struct {
	Name    string `arg:"" help:"The host's name."`
	OSCloud string `name:"os-cloud" default:"nacre-admin" help:"The administrator's entry in clouds.yaml (OS_CLIENT_CONFIG_FILE, else the state directory's)."`
	Broker  string `help:"The broker's address without an account, as the host reaches it: amqp://HOST:PORT/VHOST or nats://HOST:PORT." default:"amqp://127.0.0.1:5672/"`
	// The password is random unless the account is there already.
	BrokerPassword string `name:"broker-password" env:"NACRE_BROKER_PASSWORD" help:"The password of the host's account at the broker, if it has one already."`
}

// issued is what a host is given.
type issued struct {
	Name       string   `json:"name"`
	Control    string   `json:"control"`
	HostSecret string   `json:"host_secret"`
	BusURL     string   `json:"bus_url"`
	Bus        string   `json:"bus"`
	Broker     []string `json:"broker_commands"`
}

// Run implements the command.
func (h *hostAdd) Run(c *cli, out io.Writer) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	broker, err := url.Parse(h.Broker)
	if err != nil || broker.Host == "" || broker.User != nil {
		return fmt.Errorf("--broker: %q is no address like amqp://HOST:PORT/VHOST", h.Broker)
	}
	i, err := h.issue(ctx, c)
	if err != nil {
		return err
	}
	password, user := cmp.Or(h.BrokerPassword, rand.Text()), "host-"+h.Name
	broker.User = url.UserPassword(user, password)
	i.BusURL = broker.String()
	switch broker.Scheme {
	case "amqp", "amqps":
		i.Bus, i.Broker = "amqp", rabbitCommands(h.Name, strings.TrimPrefix(broker.Path, "/"), user, password)
	case "nats", "tls":
		p := nats.HostPermissions("", h.Name, "compute", "network")
		i.Bus, i.Broker = "nats", []string{fmt.Sprintf("{ user: %q, password: %q, permissions: { publish: { allow: %s }, subscribe: { allow: %s } } }", user, password, list(p.Publish), list(p.Subscribe))}
	default:
		return fmt.Errorf("--broker: there is no bus for %s://", broker.Scheme)
	}
	return i.write(out, c.Output)
}

// list is texts as NATS's configuration has them.
func list(texts []string) string {
	b, _ := json.Marshal(texts) //nolint:errchkjson // texts
	return string(b)
}

// rabbitCommands make an account that reaches a host's own topics.
func rabbitCommands(name, vhost, user, password string) []string {
	vhost = cmp.Or(vhost, "/")
	p := amqp.HostPermissions("", name)
	out := []string{
		fmt.Sprintf("rabbitmqctl add_user %s %s || rabbitmqctl change_password %[1]s %[2]s", user, password),
		fmt.Sprintf("rabbitmqctl set_permissions -p %s %s '%s' '%s' '%s'", vhost, user, p.Configure, p.Write, p.Read),
	}
	for _, x := range slices.Sorted(maps.Keys(p.Topics)) {
		out = append(out, fmt.Sprintf("rabbitmqctl set_topic_permissions -p %s %s %s '%s' '%s'", vhost, user, x, p.Topics[x][0], p.Topics[x][1]))
	}
	return out
}

// issue asks the running cloud for the host's secret.
func (h *hostAdd) issue(ctx context.Context, c *cli) (i issued, err error) {
	file := os.Getenv("OS_CLIENT_CONFIG_FILE")
	if file == "" {
		file = filepath.Join(c.StateDir, "clouds.yaml")
	}
	auth, endpoint, tls, err := clouds.Parse(clouds.WithLocations(file), clouds.WithCloudName(h.OSCloud))
	if err != nil {
		return i, err
	}
	provider, err := config.NewProviderClient(ctx, auth, config.WithTLSConfig(tls))
	if err != nil {
		return i, err
	}
	compute, err := openstack.NewComputeV2(provider, endpoint)
	if err != nil {
		return i, err
	}
	base, _, ok := strings.Cut(compute.Endpoint, "/compute/")
	if !ok {
		return i, fmt.Errorf("%s is no Nacre cloud's compute service", compute.Endpoint)
	}
	var answer struct {
		Host struct{ Name, Secret string }
	}
	resp, err := provider.Request(ctx, "POST", base+"/host/v1/hosts", &gophercloud.RequestOpts{
		JSONBody: map[string]any{"host": map[string]string{"name": h.Name}}, JSONResponse: &answer, OkCodes: []int{201}})
	if err != nil {
		return i, err
	}
	return issued{Name: answer.Host.Name, Control: base, HostSecret: answer.Host.Secret}, resp.Body.Close()
}

// write writes the node's configuration, and what is to be said to the broker as
// comments above it.
func (i issued) write(out io.Writer, form string) error {
	if form == "json" {
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		e.SetEscapeHTML(false)
		return e.Encode(i)
	}
	d := kit.Default()
	fmt.Fprintf(out, "# The configuration of host %s, for its node; it holds secrets. First, %s:\n#\n", i.Name, map[string]string{"amqp": "on the broker", "nats": "in the configuration of the NATS server, among authorization { users: [ … ] }"}[i.Bus])
	for _, line := range i.Broker {
		fmt.Fprintf(out, "#   %s\n", line)
	}
	_, err := fmt.Fprintf(out, "hosts: [%s]\ncontrol: %s\nhost_secret: %s\nbus: %s\nbus_url: %s\nhypervisor: libvirt\ndataplane: linux\n# the external network's subnet, as the control plane has it\nexternal: %s\n",
		i.Name, i.Control, i.HostSecret, i.Bus, i.BusURL, d.External)
	return err
}
