package network

import (
	"cmp"
	"context"
	"net/netip"
	"slices"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/network/dataplane"
	"github.com/nacre-cloud/nacre/store"
)

// AddressGroup is a set of ranges that rules may name as their remote end.
type AddressGroup struct {
	Std
	Addresses []netip.Prefix `store:"addresses,json"`
}

func addressGroupNotFound(id string) *nacre.Error {
	return nacre.Errorf(nacre.NotFound, "AddressGroupNotFound", "Address group %s could not be found.", id)
}

// AddressGroups lists the caller's address groups.
func (s *Service) AddressGroups(ctx context.Context, q nacre.Query) ([]AddressGroup, error) {
	w, _, err := s.own(ctx)
	if err != nil {
		return nil, err
	}
	return list(ctx, s, s.addressGroups, q, w, stdColumns, nil)
}

// AddressGroup is one address group of the caller's.
func (s *Service) AddressGroup(ctx context.Context, id string) (AddressGroup, error) {
	w, _, err := s.own(ctx)
	if err != nil {
		return AddressGroup{}, err
	}
	g, err := s.addressGroups.One(ctx, store.Eq("id", id), w)
	return g, store.WrapNotFound(err, func() *nacre.Error { return addressGroupNotFound(id) })
}

// CreateAddressGroup makes an address group.
func (s *Service) CreateAddressGroup(ctx context.Context, g AddressGroup) (AddressGroup, error) {
	c, err := s.caller(ctx)
	if err != nil {
		return g, err
	}
	g.ProjectID = cmp.Or(g.ProjectID, c.ProjectID)
	if err := s.enforce(ctx, "create_address_group", ownTarget(&g.Std)); err != nil {
		return g, err
	}
	g.Addresses = distinct(g.Addresses)
	err = s.tx(ctx, func(ctx context.Context) error {
		s.fresh(ctx, &g.Std)
		if err := s.addressGroups.Insert(ctx, g); err != nil {
			return err
		}
		return s.emit(ctx, "address_group.create.end", &g.Std)
	})
	return g, err
}

func distinct(in []netip.Prefix) []netip.Prefix {
	out := []netip.Prefix{}
	for _, p := range in {
		if p = p.Masked(); !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	return out
}

// UpdateAddressGroup changes an address group by fn. The security groups whose
// rules name it are told anew where its addresses change.
func (s *Service) UpdateAddressGroup(ctx context.Context, id string, fn func(*AddressGroup) error) (AddressGroup, error) {
	old, err := s.AddressGroup(ctx, id)
	if err != nil {
		return old, err
	}
	if err := s.enforce(ctx, "update_address_group", ownTarget(&old.Std)); err != nil {
		return old, err
	}
	var out AddressGroup
	err = s.tx(ctx, func(ctx context.Context) error {
		same := false
		var err error
		out, err = s.addressGroups.Update(ctx, id, func(g *AddressGroup) error {
			if err := s.expected(ctx, &g.Std); err != nil {
				return err
			}
			before := slices.Clone(g.Addresses)
			if err := fn(g); err != nil {
				return err
			}
			g.Addresses = distinct(g.Addresses)
			same = slices.Equal(before, g.Addresses)
			touched(&g.Std)
			return nil
		})
		if err != nil {
			return store.WrapNotFound(err, func() *nacre.Error { return addressGroupNotFound(id) })
		}
		if !same {
			users, err := s.rules.Aggregate(ctx, store.Aggregate{Where: store.Eq("remote_address_group_id", id), By: []string{"security_group_id"}})
			if err != nil {
				return err
			}
			for _, u := range users {
				if err := s.changed(ctx, dataplane.KindSecurityGroup, u.Key[0].(string)); err != nil {
					return err
				}
			}
		}
		return s.emit(ctx, "address_group.update.end", &out.Std)
	})
	return out, err
}

// DeleteAddressGroup removes an address group that no rule names.
func (s *Service) DeleteAddressGroup(ctx context.Context, id string) error {
	g, err := s.AddressGroup(ctx, id)
	if err != nil {
		return err
	}
	if err := s.enforce(ctx, "delete_address_group", ownTarget(&g.Std)); err != nil {
		return err
	}
	return s.tx(ctx, func(ctx context.Context) error {
		if err := store.Lock(ctx, s.c.Engine, "address-group/"+id); err != nil {
			return err
		}
		used, err := s.rules.Exists(ctx, store.Eq("remote_address_group_id", id))
		if err != nil {
			return err
		}
		if used {
			return nacre.Errorf(nacre.Conflict, "AddressGroupInUse", "Address group %s is in use on one or more security group rules.", id)
		}
		if err := store.WrapNotFound(s.addressGroups.Delete(ctx, id), func() *nacre.Error { return addressGroupNotFound(id) }); err != nil {
			return err
		}
		return s.emit(ctx, "address_group.delete.end", &g.Std)
	})
}

// holdAddressGroup keeps an address group that a new rule names from going away;
// in the caller's transaction.
func (s *Service) holdAddressGroup(ctx context.Context, id string) error {
	if err := store.Lock(ctx, s.c.Engine, "address-group/"+id); err != nil {
		return err
	}
	_, err := s.AddressGroup(ctx, id)
	return err
}

// spread turns a rule whose remote end is an address group into one for each of
// its ranges, which is all that hosts know of address groups.
func spread(d dataplane.Rule, addresses []netip.Prefix) []dataplane.Rule {
	var out []dataplane.Rule
	for _, p := range addresses {
		if p.Addr().Is4() == (d.EtherType == "IPv4") {
			one := d
			one.ID, one.RemotePrefix = d.ID+"/"+p.String(), p
			out = append(out, one)
		}
	}
	return out
}
