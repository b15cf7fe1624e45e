package linux

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/nacre-cloud/nacre/network/dataplane"
)

// Names of the links in a router's namespace.
const (
	interfacePrefix = "qr-"
	gatewayPrefix   = "qg-"
)

// compileRouter writes the address translation of a router, as Neutron's does it
// (neutron/agent/l3/router_info.py): floating IPs both ways, SNAT for what leaves
// by the gateway, and hiding the sender of what is turned back inside, whose
// replies would not pass the router otherwise.
func compileRouter(r dataplane.Router) string {
	var b strings.Builder
	b.WriteString("table ip nacre\ndelete table ip nacre\ntable ip nacre {\n")
	// What is link-local here may be another cloud's metadata service outside.
	base(&b, "c_forward", "forward", 0, "ip daddr 169.254.0.0/16 drop", "ip saddr 169.254.0.0/16 drop")
	if r.Gateway != nil {
		out := `"` + gatewayPrefix + short(r.Gateway.PortID) + `"`
		base(&b, "c_mark", "prerouting", -150, "iifname "+out+" meta mark set 0x2")
		var dnat, snat []string
		leaves := map[netip.Addr]bool{}
		for _, f := range sortedFloating(r.FloatingIPs) {
			dnat = append(dnat, f.External.String()+" : "+f.Fixed.String())
			// Several may lead to one fixed address; it leaves as the first.
			if !leaves[f.Fixed] {
				leaves[f.Fixed] = true
				snat = append(snat, f.Fixed.String()+" : "+f.External.String())
			}
		}
		own := ""
		if a := gatewayAddress(r); a.IsValid() {
			own = "snat to " + a.String()
		}
		in, hide := "", ""
		if len(dnat) > 0 {
			in = "dnat to ip daddr map { " + strings.Join(dnat, ", ") + " }"
			hide = "snat to ip saddr map { " + strings.Join(snat, ", ") + " }"
		}
		natBase(&b, "c_dnat", "prerouting", -100, in)
		natBase(&b, "c_local", "output", -100, in)
		leave := own
		if !r.Gateway.SNAT {
			leave = ""
		}
		chain(&b, "back", hide, own)
		chain(&b, "leave", hide, leave)
		natBase(&b, "c_snat", "postrouting", 100,
			"ct status dnat meta mark != 0x2 goto back",
			"oifname "+out+" goto leave")
	}
	b.WriteString("}\n")
	return b.String()
}

func natBase(b *strings.Builder, name, hook string, priority int, lines ...string) {
	fmt.Fprintf(b, "chain %s {\ntype nat hook %s priority %d; policy accept;\n", name, hook, priority)
	for _, l := range lines {
		if l != "" {
			b.WriteString(l + "\n")
		}
	}
	b.WriteString("}\n")
}

func sortedFloating(all []dataplane.FloatingIP) []dataplane.FloatingIP {
	var v4 []dataplane.FloatingIP
	for _, f := range all {
		if f.External.Is4() && f.Fixed.Is4() {
			v4 = append(v4, f)
		}
	}
	slices.SortFunc(v4, func(a, b dataplane.FloatingIP) int { return a.External.Compare(b.External) })
	return v4
}

func gatewayAddress(r dataplane.Router) netip.Addr {
	for _, a := range r.Gateway.Addresses {
		if a.Addr().Is4() {
			return a.Addr()
		}
	}
	return netip.Addr{}
}
