package network

import (
	"cmp"
	"context"
	"math"
	"net/netip"
	"slices"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/internal/policy"
	"github.com/nacre-cloud/nacre/store"
)

// SubnetPool is a stock of ranges that subnets are cut from.
type SubnetPool struct {
	Std
	IPVersion int            `store:"ip_version"`
	Prefixes  []netip.Prefix `store:"prefixes,json"`
	// The lengths of a subnet's prefix: what is cut when none is asked for, and the
	// bounds of what may be asked for.
	DefaultLen int `store:"default_prefixlen"`
	MinLen     int `store:"min_prefixlen"`
	MaxLen     int `store:"max_prefixlen"`
	// Limit is how much one project may take, in addresses (IPv4) or /64s (IPv6);
	// nil is no limit.
	Limit  *int `store:"default_quota"`
	Shared bool `store:"shared"`
	// Default is taken when a subnet asks for the default pool.
	Default bool `store:"is_default"`
}

func poolNotFound(id string) *nacre.Error {
	return nacre.Errorf(nacre.NotFound, "SubnetPoolNotFound", "Subnet pool %s could not be found.", id)
}

func poolTarget(p *SubnetPool) policy.Map {
	return policy.Map{"project_id": p.ProjectID, "tenant_id": p.ProjectID, "shared": truth(p.Shared)}
}

func (s *Service) seenPools(ctx context.Context) (store.Where, error) {
	w, _, err := s.own(ctx)
	if err != nil || w.Op == store.OpAll {
		return w, err
	}
	return store.Or(w, store.Eq("shared", true)), nil
}

var poolColumns = columns(map[string]string{"ip_version": "ip_version", "default_prefixlen": "default_prefixlen", "min_prefixlen": "min_prefixlen", "max_prefixlen": "max_prefixlen",
	"default_quota": "default_quota", "shared": "shared", "is_default": "is_default"})

// SubnetPools lists the pools that the caller may use.
func (s *Service) SubnetPools(ctx context.Context, q nacre.Query) ([]SubnetPool, error) {
	w, err := s.seenPools(ctx)
	if err != nil {
		return nil, err
	}
	return list(ctx, s, s.pools, q, w, poolColumns, nil)
}

// SubnetPool is one pool that the caller may use.
func (s *Service) SubnetPool(ctx context.Context, id string) (SubnetPool, error) {
	w, err := s.seenPools(ctx)
	if err != nil {
		return SubnetPool{}, err
	}
	p, err := s.pools.One(ctx, store.Eq("id", id), w)
	return p, store.WrapNotFound(err, func() *nacre.Error { return poolNotFound(id) })
}

// CreateSubnetPool makes a pool. Lengths that are 0 get neutron's defaults.
func (s *Service) CreateSubnetPool(ctx context.Context, p SubnetPool) (SubnetPool, error) {
	c, err := s.caller(ctx)
	if err != nil {
		return p, err
	}
	p.ProjectID = cmp.Or(p.ProjectID, c.ProjectID)
	if err := s.mayPool(ctx, "create_subnetpool", &p, p.Shared, p.Default); err != nil {
		return p, err
	}
	if err := completePool(&p); err != nil {
		return p, err
	}
	asked := p
	err = s.tx(ctx, func(ctx context.Context) error {
		p = asked
		if err := s.reserve(ctx, "subnetpool", p.ProjectID, 1, func(ctx context.Context) (int64, error) {
			return s.pools.Count(ctx, store.Eq("project_id", p.ProjectID))
		}); err != nil {
			return err
		}
		if err := s.oneDefault(ctx, &p); err != nil {
			return err
		}
		s.fresh(ctx, &p.Std)
		if err := s.pools.Insert(ctx, p); err != nil {
			return err
		}
		return s.emit(ctx, "subnetpool.create.end", &p.Std)
	})
	return p, err
}

func (s *Service) mayPool(ctx context.Context, rule string, p *SubnetPool, shared, def bool) error {
	if err := s.enforce(ctx, rule, poolTarget(p)); err != nil {
		return err
	}
	if shared {
		if err := s.enforce(ctx, rule+":shared", poolTarget(p)); err != nil {
			return err
		}
	}
	if def {
		return s.enforce(ctx, rule+":is_default", poolTarget(p))
	}
	return nil
}

// oneDefault refuses a second default pool of an IP version; in the caller's
// transaction.
func (s *Service) oneDefault(ctx context.Context, p *SubnetPool) error {
	if !p.Default {
		return nil
	}
	if err := store.Lock(ctx, s.c.Engine, "default-subnetpool"); err != nil {
		return err
	}
	other, err := s.pools.Exists(ctx, store.Eq("is_default", true), store.Eq("ip_version", p.IPVersion), store.Not(store.Eq("id", p.ID)))
	if err == nil && other {
		err = badInput("A default subnetpool for this IP family has already been set. Only one default may exist per IP family")
	}
	return err
}

// completePool validates a pool and fills in the defaults.
func completePool(p *SubnetPool) error {
	if len(p.Prefixes) == 0 {
		return nacre.Errorf(nacre.Invalid, "EmptySubnetPoolPrefixList", "Empty subnet pool prefix list.")
	}
	for _, x := range p.Prefixes {
		if x.Addr().Is4() != p.Prefixes[0].Addr().Is4() {
			return nacre.Errorf(nacre.Invalid, "PrefixVersionMismatch", "Cannot mix IPv4 and IPv6 prefixes in a subnet pool.")
		}
	}
	p.Prefixes = compact(p.Prefixes)
	least, bits := 8, 32
	p.IPVersion = 4
	if p.Prefixes[0].Addr().Is6() {
		p.IPVersion, least, bits = 6, 64, 128
	}
	if p.MinLen == 0 {
		p.MinLen = least
	}
	if p.MaxLen == 0 {
		p.MaxLen = bits
	}
	if p.DefaultLen == 0 {
		p.DefaultLen = p.MinLen
	}
	bounds := func(what string, n int, base string, m int) error {
		return nacre.Errorf(nacre.Invalid, "IllegalSubnetPoolPrefixBounds", "Illegal prefix bounds: %s=%d, %s=%d.", what, n, base, m)
	}
	switch {
	case p.MinLen > p.MaxLen:
		return bounds("min_prefixlen", p.MinLen, "max_prefixlen", p.MaxLen)
	case p.MaxLen > bits:
		return bounds("max_prefixlen", p.MaxLen, "ip_version_max", bits)
	case p.DefaultLen < p.MinLen:
		return bounds("default_prefixlen", p.DefaultLen, "min_prefixlen", p.MinLen)
	case p.DefaultLen > p.MaxLen:
		return bounds("default_prefixlen", p.DefaultLen, "max_prefixlen", p.MaxLen)
	}
	return nil
}

// compact sorts prefixes, drops those that lie in others, and joins halves.
func compact(in []netip.Prefix) []netip.Prefix {
	ps := slices.Clone(in)
	for i := range ps {
		ps[i] = ps[i].Masked()
	}
	byAddress := func(a, b netip.Prefix) int { return cmp.Or(a.Addr().Compare(b.Addr()), a.Bits()-b.Bits()) }
	slices.SortFunc(ps, byAddress)
	out := []netip.Prefix{}
	for _, p := range ps {
		if n := len(out); n > 0 && out[n-1].Overlaps(p) {
			continue
		}
		out = append(out, p)
		for n := len(out); n > 1 && out[n-2].Bits() == out[n-1].Bits() && out[n-1].Bits() > 0; n = len(out) {
			whole := netip.PrefixFrom(out[n-2].Addr(), out[n-2].Bits()-1).Masked()
			if whole.Addr() != out[n-2].Addr() || !whole.Contains(out[n-1].Addr()) {
				break
			}
			out = append(out[:n-2], whole)
		}
	}
	return out
}

// within reports whether a prefix lies in one of others.
func within(p netip.Prefix, others []netip.Prefix) bool {
	return slices.ContainsFunc(others, func(o netip.Prefix) bool { return o.Bits() <= p.Bits() && o.Overlaps(p) })
}

// UpdateSubnetPool changes a pool by fn. Prefixes may be added, and taken away
// where no subnet was cut from them.
func (s *Service) UpdateSubnetPool(ctx context.Context, id string, fn func(*SubnetPool) error) (SubnetPool, error) {
	old, err := s.SubnetPool(ctx, id)
	if err != nil {
		return old, err
	}
	if err := s.enforce(ctx, "update_subnetpool", poolTarget(&old)); err != nil {
		return old, err
	}
	var out SubnetPool
	err = s.tx(ctx, func(ctx context.Context) error {
		if err := store.Lock(ctx, s.c.Engine, "subnetpool/"+id); err != nil {
			return err
		}
		var err error
		out, err = s.pools.Update(ctx, id, func(p *SubnetPool) error {
			if err := s.expected(ctx, &p.Std); err != nil {
				return err
			}
			before := *p
			if err := fn(p); err != nil {
				return err
			}
			if err := completePool(p); err != nil {
				return err
			}
			if p.IPVersion != before.IPVersion {
				return nacre.Errorf(nacre.Invalid, "PrefixVersionMismatch", "Cannot mix IPv4 and IPv6 prefixes in a subnet pool.")
			}
			if p.Default != before.Default {
				if err := s.enforce(ctx, "update_subnetpool:is_default", poolTarget(p)); err != nil {
					return err
				}
			}
			touched(&p.Std)
			return s.oneDefault(ctx, p)
		})
		if err != nil {
			return store.WrapNotFound(err, func() *nacre.Error { return poolNotFound(id) })
		}
		subs, err := s.subnets.Where(ctx, store.Eq("subnetpool_id", id))
		if err != nil {
			return err
		}
		for i := range subs {
			if !within(subs[i].Prefix(), out.Prefixes) {
				return nacre.Errorf(nacre.Invalid, "IllegalSubnetPoolPrefixUpdate", "Illegal update to prefixes: subnet %s (%s) was allocated from what would be removed.", subs[i].ID, subs[i].CIDR)
			}
		}
		return s.emit(ctx, "subnetpool.update.end", &out.Std)
	})
	return out, err
}

// DeleteSubnetPool removes a pool that no subnet came from.
func (s *Service) DeleteSubnetPool(ctx context.Context, id string) error {
	p, err := s.SubnetPool(ctx, id)
	if err != nil {
		return err
	}
	if err := s.enforce(ctx, "delete_subnetpool", poolTarget(&p)); err != nil {
		return err
	}
	return s.tx(ctx, func(ctx context.Context) error {
		if err := store.Lock(ctx, s.c.Engine, "subnetpool/"+id); err != nil {
			return err
		}
		used, err := s.subnets.Exists(ctx, store.Eq("subnetpool_id", id))
		if err != nil {
			return err
		}
		if used {
			return nacre.Errorf(nacre.Invalid, "SubnetPoolDeleteError", "Unable to delete subnet pool: Subnet pool has existing allocations.")
		}
		if err := store.WrapNotFound(s.pools.Delete(ctx, id), func() *nacre.Error { return poolNotFound(id) }); err != nil {
			return err
		}
		if err := s.setTags(ctx, id, nil); err != nil {
			return err
		}
		return s.emit(ctx, "subnetpool.delete.end", &p.Std)
	})
}

// defaultPool is the pool that use_default_subnetpool means.
func (s *Service) defaultPool(ctx context.Context, version int) (string, error) {
	p, err := s.pools.One(ctx, store.Eq("is_default", true), store.Eq("ip_version", version))
	if isGone(err) {
		err = nacre.Errorf(nacre.NotFound, "NoDefaultSubnetpool", "No default subnetpool found for IPv%d.", version)
	}
	return p.ID, err
}

// cut takes a subnet's range out of its pool: the one asked for, or the first free
// one of the length asked for. In the caller's transaction.
func (s *Service) cut(ctx context.Context, sn *Subnet, length int) error {
	if err := store.Lock(ctx, s.c.Engine, "subnetpool/"+sn.SubnetPoolID); err != nil {
		return err
	}
	p, err := s.SubnetPool(ctx, sn.SubnetPoolID)
	if err != nil {
		return err
	}
	sn.IPVersion = p.IPVersion
	var want netip.Prefix
	if sn.CIDR != "" {
		if want, err = parsePrefix(sn.CIDR, "cidr", true); err != nil {
			return err
		}
		length = want.Bits()
	}
	length = cmp.Or(length, p.DefaultLen)
	switch {
	case length < p.MinLen:
		return nacre.Errorf(nacre.Invalid, "MinPrefixSubnetAllocationError", "Unable to allocate subnet with prefix length %d, minimum allowed prefix is %d.", length, p.MinLen)
	case length > p.MaxLen:
		return nacre.Errorf(nacre.Invalid, "MaxPrefixSubnetAllocationError", "Unable to allocate subnet with prefix length %d, maximum allowed prefix is %d.", length, p.MaxLen)
	}
	subs, err := s.subnets.Where(ctx, store.Eq("subnetpool_id", p.ID))
	if err != nil {
		return err
	}
	unit := 32
	if p.IPVersion == 6 {
		unit = 64
	}
	size := func(bits int) float64 { return math.Exp2(float64(unit - bits)) }
	var taken []netip.Prefix
	used := size(length)
	for i := range subs {
		taken = append(taken, subs[i].Prefix())
		if subs[i].ProjectID == sn.ProjectID {
			used += size(subs[i].Prefix().Bits())
		}
	}
	if p.Limit != nil && used > float64(*p.Limit) {
		return nacre.Errorf(nacre.QuotaExceeded, "SubnetPoolQuotaExceeded", "Per-project subnet pool prefix quota exceeded.")
	}
	free := freeBlocks(p.Prefixes, taken)
	if want.IsValid() {
		if !within(want, free) {
			return nacre.Errorf(nacre.Conflict, "SubnetAllocationError", "Failed to allocate subnet: Cannot allocate requested subnet from the available set of prefixes.")
		}
		return nil
	}
	// The smallest block that is large enough, so that large ones stay whole.
	slices.SortStableFunc(free, func(a, b netip.Prefix) int { return b.Bits() - a.Bits() })
	for _, f := range free {
		if f.Bits() <= length {
			sn.CIDR = netip.PrefixFrom(f.Addr(), length).String()
			return nil
		}
	}
	return nacre.Errorf(nacre.Conflict, "SubnetAllocationError", "Failed to allocate subnet: Insufficient prefix space to allocate subnet size /%d.", length)
}

// freeBlocks is what of the prefixes nothing is taken of, in the largest blocks.
func freeBlocks(prefixes, taken []netip.Prefix) (out []netip.Prefix) {
	for _, p := range prefixes {
		in := slices.DeleteFunc(slices.Clone(taken), func(t netip.Prefix) bool { return !t.Overlaps(p) })
		switch {
		case len(in) == 0:
			out = append(out, p)
		case within(p, in):
		default:
			low := netip.PrefixFrom(p.Addr(), p.Bits()+1)
			high := netip.PrefixFrom(last(low).Next(), p.Bits()+1)
			out = append(out, freeBlocks([]netip.Prefix{low, high}, in)...)
		}
	}
	return out
}

// WithoutPrefixes is what is left of prefixes when others are taken out, in the
// largest blocks.
func WithoutPrefixes(prefixes, out []netip.Prefix) []netip.Prefix {
	return compact(freeBlocks(prefixes, out))
}
