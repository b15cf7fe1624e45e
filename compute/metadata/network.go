package metadata

import (
	"fmt"
	"net/netip"
	"slices"
)

type linkView struct {
	ID    string `json:"id"`
	VifID string `json:"vif_id"`
	Type  string `json:"type"`
	// MTU is null where DHCP tells it.
	MTU *int   `json:"mtu"`
	MAC string `json:"ethernet_mac_address"`
}

type routeView struct {
	Network string `json:"network"`
	Netmask string `json:"netmask"`
	Gateway string `json:"gateway"`
}

type serviceView struct {
	Type    string `json:"type"`
	Address string `json:"address"`
}

type networkView struct {
	ID        string         `json:"id"`
	Type      string         `json:"type"`
	Link      string         `json:"link"`
	Address   string         `json:"ip_address,omitempty"`
	Netmask   string         `json:"netmask,omitempty"`
	Routes    *[]routeView   `json:"routes,omitempty"`
	NetworkID string         `json:"network_id"`
	Services  *[]serviceView `json:"services,omitempty"`
}

type networkDoc struct {
	Links    []linkView    `json:"links"`
	Networks []networkView `json:"networks"`
	Services []serviceView `json:"services"`
}

// networkData is network_data.json, as get_network_metadata in
// nova/virt/netutils.py makes it: of each link the first IPv4 and the first IPv6
// subnet. Without links it is an empty object.
func networkData(links []Link) any {
	if len(links) == 0 {
		return struct{}{}
	}
	doc := networkDoc{Links: []linkView{}, Networks: []networkView{}, Services: []serviceView{}}
	for _, l := range links {
		if len(l.Subnets) == 0 {
			continue
		}
		view := linkView{ID: l.ID, VifID: l.PortID, Type: l.Type, MAC: l.MAC}
		if view.ID == "" {
			view.ID = fmt.Sprintf("interface%d", len(doc.Links))
		}
		if view.Type == "" {
			view.Type = "phy"
		}
		if l.MTU > 0 && !slices.ContainsFunc(l.Subnets, func(s Subnet) bool { return s.DHCP }) {
			view.MTU = &l.MTU
		}
		doc.Links = append(doc.Links, view)
		for _, six := range []bool{false, true} {
			i := slices.IndexFunc(l.Subnets, func(s Subnet) bool { return s.CIDR.Addr().Is6() == six })
			if i < 0 || len(l.Subnets[i].Addresses) == 0 {
				continue
			}
			s := l.Subnets[i]
			n := networkOf(s)
			n.ID, n.Link, n.NetworkID = fmt.Sprintf("network%d", len(doc.Networks)), view.ID, l.NetworkID
			doc.Networks = append(doc.Networks, n)
			for _, dns := range services(s) {
				if !slices.Contains(doc.Services, dns) {
					doc.Services = append(doc.Services, dns)
				}
			}
		}
	}
	return doc
}

func networkOf(s Subnet) networkView {
	n := networkView{Type: "ipv4"}
	if s.CIDR.Addr().Is6() {
		n.Type = "ipv6"
	}
	switch {
	case s.AddressMode != "":
		n.Type += "_" + s.AddressMode
	case s.DHCP:
		n.Type += "_dhcp"
		return n
	}
	n.Address, n.Netmask = s.Addresses[0].String(), netmask(s.CIDR)
	routes := []routeView{}
	if s.Gateway.IsValid() {
		zero := netip.IPv4Unspecified()
		if s.CIDR.Addr().Is6() {
			zero = netip.IPv6Unspecified()
		}
		routes = append(routes, routeView{zero.String(), zero.String(), s.Gateway.String()})
	}
	for _, r := range s.Routes {
		routes = append(routes, routeView{r.Destination.Masked().Addr().String(), netmask(r.Destination), r.NextHop.String()})
	}
	dns := services(s)
	n.Routes, n.Services = &routes, &dns
	return n
}

func services(s Subnet) []serviceView {
	list := []serviceView{}
	for _, a := range s.DNS {
		list = append(list, serviceView{"dns", a.String()})
	}
	return list
}

// netmask is a prefix's mask in address form: 255.255.255.0, ffff:ffff::.
func netmask(p netip.Prefix) string {
	b := p.Addr().AsSlice()
	for i := range b {
		n := min(8, max(0, p.Bits()-8*i))
		b[i] = byte(0xff << (8 - n))
	}
	a, _ := netip.AddrFromSlice(b)
	return a.String()
}
