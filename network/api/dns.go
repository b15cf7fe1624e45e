package api

import (
	"net/netip"
	"regexp"
	"strings"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/network"
)

// assignment is the name under which an address of a port is known.
type assignment struct {
	Address  string `json:"ip_address"`
	Hostname string `json:"hostname"`
	FQDN     string `json:"fqdn"`
}

// assignments are a port's names: its own, or one made of the address, as neutron does.
func (a *api) assignments(p *network.Port) []assignment {
	out := make([]assignment, 0, len(p.FixedIPs))
	for _, f := range p.FixedIPs {
		host := p.DNSName
		if ip, err := netip.ParseAddr(f.Address); host == "" && err == nil {
			host = "host-" + strings.NewReplacer(".", "-", ":", "-").Replace(ip.StringExpanded())
		}
		out = append(out, assignment{f.Address, host, host + "." + a.s.DNSDomain() + "."})
	}
	return out
}

var (
	dnsLabel = regexp.MustCompile(`^[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?$`)
	digits   = regexp.MustCompile(`^[0-9]+$`)
)

// dnsName lowers a name and refuses one that can't be in the DNS.
func dnsName(attribute string, name *string) error {
	if name == nil || *name == "" {
		return nil
	}
	*name = strings.ToLower(*name)
	labels := strings.Split(strings.TrimSuffix(*name, "."), ".")
	reason := ""
	for _, l := range labels {
		switch {
		case l == "":
			reason = "Encountered an empty component"
		case strings.HasPrefix(l, "-") || strings.HasSuffix(l, "-"):
			reason = "Name '" + l + "' must not start or end with a hyphen"
		case !dnsLabel.MatchString(l):
			reason = "Name '" + l + "' must be 1-63 characters long, each of which can only be alphanumeric or a hyphen"
		}
	}
	switch last := labels[len(labels)-1]; {
	case len(*name) > 255:
		reason = "'" + *name + "' exceeds the 255 character FQDN limit"
	case len(labels) > 1 && reason == "" && digits.MatchString(last):
		reason = "TLD '" + last + "' must not be all numeric"
	}
	if reason == "" {
		return nil
	}
	return nacre.Errorf(nacre.Invalid, "HTTPBadRequest", "Invalid input for %s. Reason: '%s' not a valid PQDN or FQDN. Reason: %s.", attribute, *name, reason)
}
