package network

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/store"
)

// key is an address as text that sorts like the address.
func key(a netip.Addr) string { b := a.As16(); return hex.EncodeToString(b[:]) }

// last is a prefix's highest address.
func last(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// firstUsable and lastUsable leave out IPv4's network and broadcast addresses and
// IPv6's subnet-router anycast address, as neutron's default pool does.
func firstUsable(p netip.Prefix) netip.Addr {
	if p.Addr().Is4() && p.Bits() >= 31 {
		return p.Masked().Addr()
	}
	return p.Masked().Addr().Next()
}

func lastUsable(p netip.Prefix) netip.Addr {
	l := last(p)
	if p.Addr().Is4() && p.Bits() < 31 {
		return l.Prev()
	}
	return l
}

// defaultPools are all usable addresses but the gateway.
func defaultPools(p netip.Prefix, gateway netip.Addr) []Pool {
	first, end := firstUsable(p), lastUsable(p)
	if !gateway.IsValid() || gateway.Less(first) || end.Less(gateway) {
		return []Pool{{first, end}}
	}
	var out []Pool
	if first.Less(gateway) {
		out = append(out, Pool{first, gateway.Prev()})
	}
	if gateway.Less(end) {
		out = append(out, Pool{gateway.Next(), end})
	}
	return out
}

// allocate gives a port an address of a subnet: the one asked for, or the next
// free one of its pools. In the caller's transaction, which holds the network.
func (s *Service) allocate(ctx context.Context, sn *Subnet, port string, want netip.Addr) (netip.Addr, error) {
	if want.IsValid() {
		return want, s.take(ctx, sn, port, want)
	}
	for _, p := range sn.Pools {
		a, err := s.nextFree(ctx, sn, p)
		if err != nil {
			return a, err
		}
		if a.IsValid() {
			return a, s.take(ctx, sn, port, a)
		}
	}
	return want, exhausted(sn.NetworkID)
}

func exhausted(network string) error {
	return nacre.Errorf(nacre.Conflict, "IpAddressGenerationFailure", "No more IP addresses available on network %s.", network)
}

// isFull says that a subnet has no address left.
func isFull(err error) bool {
	var e *nacre.Error
	return errors.As(err, &e) && e.Code == "IpAddressGenerationFailure"
}

// nextFree is the address after the highest one given out, or else the lowest
// hole. A freed address is thus not given out again at once, when others may
// still have it in their caches.
func (s *Service) nextFree(ctx context.Context, sn *Subnet, p Pool) (netip.Addr, error) {
	in := store.And(store.Eq("subnet_id", sn.ID), store.GreaterEq("addr_key", key(p.Start)), store.LessEq("addr_key", key(p.End)))
	gs, err := s.allocations.Aggregate(ctx, store.Aggregate{Where: in, Max: "addr_key"})
	if err != nil {
		return netip.Addr{}, err
	}
	highest, ok := gs[0].Max.(string)
	if !ok || gs[0].Count == 0 {
		return p.Start, nil
	}
	if highest < key(p.End) {
		raw, err := hex.DecodeString(highest)
		if err != nil {
			return netip.Addr{}, err
		}
		a, _ := netip.AddrFromSlice(raw)
		if p.Start.Is4() {
			a = a.Unmap()
		}
		return a.Next(), nil
	}
	rows, err := s.allocations.Select(ctx, store.Select{Where: in, Order: []store.Order{{Column: "addr_key"}}})
	if err != nil {
		return netip.Addr{}, err
	}
	next := p.Start
	for _, r := range rows {
		if r.Key != key(next) {
			break
		}
		next = next.Next()
	}
	if !next.IsValid() || p.End.Less(next) {
		return netip.Addr{}, nil
	}
	return next, nil
}

func (s *Service) take(ctx context.Context, sn *Subnet, port string, a netip.Addr) error {
	// A look first, because a failed insert dooms the transaction; the index holds
	// against those who come between.
	id := sn.NetworkID + "/" + a.String()
	used, err := s.allocations.Exists(ctx, store.Eq("id", id))
	if err == nil && !used {
		err = s.allocations.Insert(ctx, Allocation{ID: id, NetworkID: sn.NetworkID, SubnetID: sn.ID, Key: key(a), PortID: port, Address: a.String()})
		used = store.IsDuplicate(err)
	}
	if used {
		return nacre.Errorf(nacre.Conflict, "IpAddressAlreadyAllocated", "IP address %s already allocated in subnet %s", a, sn.ID)
	}
	return err
}

// parseAddr reads an address of a request.
func parseAddr(v, what string) (netip.Addr, error) {
	a, err := netip.ParseAddr(v)
	if err != nil || a.Zone() != "" {
		return a, nacre.Errorf(nacre.Invalid, "HTTPBadRequest", "Invalid input for %s. Reason: '%s' is not a valid IP address.", what, v)
	}
	return a.Unmap(), nil
}

// parsePrefix reads a range of a request; host bits must be zero unless loose.
func parsePrefix(v, what string, loose bool) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(v)
	if err == nil && !loose && p.Masked() != p {
		err = fmt.Errorf("'%s' isn't a recognized IP subnet cidr, '%s' is recommended", v, p.Masked())
	} else if err != nil {
		err = fmt.Errorf("'%s' is not a valid IP subnet", v)
	}
	if err != nil {
		return p, nacre.Errorf(nacre.Invalid, "HTTPBadRequest", "Invalid input for %s. Reason: %s.", what, err.Error())
	}
	return p.Masked(), nil
}
