// Package linux carries packets with what the Linux kernel has: network
// namespaces, bridges, veth pairs, nftables and connection tracking.
//
//	d, err := linux.New(ctx, linux.Config{
//		StateDir: "/var/lib/nacre/network",
//		Physical: map[string]linux.Physical{"public": {
//			HostAddresses: []netip.Prefix{netip.MustParsePrefix("172.24.4.1/24")},
//			Masquerade:    true,
//		}},
//		Metadata: transport, MetadataURL: "http://127.0.0.1:5000/compute/metadata", MetadataSecret: secret,
//	})
//
// It needs root, the nft program, and a kernel with br_netfilter.
//
// # What it makes
//
//   - Each network is a namespace nacre-n- and the first eleven letters of the
//     network's id. In it a bridge br0 joins the guests' taps, a leg of each
//     router, the uplink of a flat network and the tunnel of a vxlan network. br0
//     itself is the DHCP port: it bears that port's MAC and addresses, and
//     169.254.169.254. DHCP and the metadata proxy run in this process and have
//     their sockets there. A namespace of a network forwards nothing at layer 3,
//     has no route out, and no service of the host listens in it.
//   - Each router is a namespace nacre-r-…, with a veth qr-… to each network and
//     qg-… to the external one. It does SNAT, floating IPs and extra routes.
//   - A flat network reaches its bridge in the host's namespace by a veth nu-….
//     The bridge is made when missing, and then carries the alias "nacre".
//
// Since a network has its own namespace it has its own connection tracking, and
// two networks with equal addresses never meet. bridge-nf-call-iptables, by which
// bridged packets pass the stateful hooks, is on in our namespaces only.
//
// # Tunnels
//
// A vxlan network reaches the other hosts that have it, whose tunnel addresses are
// part of it, by a device vx0 on the UDP port 4789. What has no known place goes to
// all of them; the rest is learned. A host that has the network answers DHCP and
// metadata to its own guests, so that nothing of these crosses a tunnel.
//
// # Taps
//
// The hypervisor makes a tap in the host's namespace. Once it is up and has been
// left alone for a moment it is moved to the network's namespace; the
// hypervisor's file descriptor goes on working. A port that is deleted gives its
// tap back, down, to the host's namespace. The driver never removes a tap.
//
// # Security
//
// The rules of a network are one nft transaction, so they change at an instant. A
// stateless bridge table drops what a port may not send: other MACs and addresses
// than its own and its allowed pairs in Ethernet, ARP, IPv4, IPv6 and neighbour
// discovery, DHCP and router advertisements of guests, frames that are neither IP
// nor ARP (nor RARP, by which QEMU tells where a guest moved to). It marks packets with the ports that they come from and go to. A
// stateful inet table judges by the mark: the groups' rules, replies pass, the
// invalid is dropped, the rest is dropped. Groups that are remotes are nft sets.
// After a change, flows that the rules no longer allow are taken out of
// connection tracking, so that they are cut; a TCP flow in the middle is not
// picked up again.
//
// Security groups stand on nft alone and not on iptables with physdev matches and
// ipset: the mark tells both ports of a bridged packet as physdev does, but
// everything changes in one transaction and needs one program.
//
// # What it changes on the host
//
// Only for a physical network with HostAddresses or Masquerade: an nft table "inet
// nacre", which also records what net.ipv4.ip_forward was, as our bridge's alias
// does; and, where the FORWARD policy of iptables is DROP (as Docker sets it), two
// ACCEPT rules at its end with the comment "nacre" for our bridge. Each minute it is
// looked at whether they are still there. Where br_netfilter is not loaded it is
// loaded, and turned off for the host's own bridges. [Clean] takes all of it back,
// except that a module stays loaded.
//
// # Not done
//
// IPv6 is switched, filtered and routed, but no router advertisement is sent and
// no DHCPv6 served: guests set IPv6 addresses themselves or by config drive. There
// is no IPv6 masquerading.
//
// # Restart
//
// The wiring is the kernel's: it goes on while no driver runs, except that DHCP
// and metadata do not answer. New adopts what is there, replaces rules in one
// transaction, and wires what came or went meanwhile.
package linux
