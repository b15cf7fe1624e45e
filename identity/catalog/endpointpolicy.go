package catalog

import (
	"context"
	"slices"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/identity/kit"
	"github.com/nacre-cloud/nacre/store"
)

// PolicyTarget is what a policy document is for: an endpoint, a service, or a
// service in a region and those below it (OS-ENDPOINT-POLICY).
type PolicyTarget struct {
	EndpointID, ServiceID, RegionID string
}

func (t *PolicyTarget) id() string { return t.EndpointID + "|" + t.ServiceID + "|" + t.RegionID }

// rule is the policy rule's name for a verb.
func (t *PolicyTarget) rule(verb string) string {
	switch {
	case t.EndpointID != "":
		return verb + "_policy_association_for_endpoint"
	case t.RegionID != "":
		return verb + "_policy_association_for_region_and_service"
	}
	return verb + "_policy_association_for_service"
}

// policyPair checks that a policy document and its target are there.
func (s *Service) policyPair(ctx context.Context, policyID string, t PolicyTarget, verb string) error {
	if err := s.area.Enforce(ctx, t.rule(verb), nil); err != nil {
		return err
	}
	if _, err := s.policies.Get(ctx, policyID); err != nil {
		return kit.OrNotFound(err, "policy", policyID)
	}
	if t.EndpointID != "" {
		_, err := s.endpoints.Get(ctx, t.EndpointID)
		return kit.OrNotFound(err, "endpoint", t.EndpointID)
	}
	if _, err := s.services.Get(ctx, t.ServiceID); err != nil || t.RegionID == "" {
		return kit.OrNotFound(err, "service", t.ServiceID)
	}
	_, err := s.regions.Get(ctx, t.RegionID)
	return kit.OrNotFound(err, "region", t.RegionID)
}

// AssociatePolicy makes a policy document that of a target, in place of another.
func (s *Service) AssociatePolicy(ctx context.Context, policyID string, t PolicyTarget) error {
	if err := s.policyPair(ctx, policyID, t, "create"); err != nil {
		return err
	}
	return s.area.Tx(ctx, func(ctx context.Context) error {
		if err := s.area.Lock(ctx, kit.CatalogLock); err != nil {
			return err
		}
		for _, err := range []error{
			kit.Hold(ctx, s.policies, "policy", policyID), kit.Hold(ctx, s.endpoints, "endpoint", t.EndpointID), kit.Hold(ctx, s.services, "service", t.ServiceID), kit.Hold(ctx, s.regions, "region", t.RegionID),
		} {
			if err != nil {
				return err
			}
		}
		if _, err := s.associations.DeleteWhere(ctx, store.Eq("id", t.id())); err != nil {
			return err
		}
		return s.associations.Insert(ctx, policyAssociation{ID: t.id(), PolicyID: policyID, EndpointID: t.EndpointID, ServiceID: t.ServiceID, RegionID: t.RegionID})
	})
}

// CheckPolicyAssociation is NotFound unless the policy document is the target's.
func (s *Service) CheckPolicyAssociation(ctx context.Context, policyID string, t PolicyTarget) error {
	if err := s.policyPair(ctx, policyID, t, "check"); err != nil {
		return err
	}
	_, err := s.associations.One(ctx, store.Eq("id", t.id()), store.Eq("policy_id", policyID))
	return store.WrapNotFound(err, func() *nacre.Error {
		return nacre.Errorf(nacre.NotFound, "policy association", "Could not find policy association.")
	})
}

// DissociatePolicy undoes AssociatePolicy; one that is not there is no error.
func (s *Service) DissociatePolicy(ctx context.Context, policyID string, t PolicyTarget) error {
	if err := s.policyPair(ctx, policyID, t, "delete"); err != nil {
		return err
	}
	return s.area.Tx(ctx, func(ctx context.Context) error {
		_, err := s.associations.DeleteWhere(ctx, store.Eq("id", t.id()), store.Eq("policy_id", policyID))
		return err
	})
}

// PolicyForEndpoint finds the policy document of an endpoint: its own, else that of
// its service in its region or the nearest above, else that of its service.
func (s *Service) PolicyForEndpoint(ctx context.Context, endpointID string) (PolicyDocument, error) {
	if err := s.area.Enforce(ctx, "get_policy_for_endpoint", nil); err != nil {
		return PolicyDocument{}, err
	}
	e, err := s.endpoints.Get(ctx, endpointID)
	if err != nil {
		return PolicyDocument{}, kit.OrNotFound(err, "endpoint", endpointID)
	}
	regions, err := s.regions.Where(ctx)
	if err != nil {
		return PolicyDocument{}, err
	}
	targets := []PolicyTarget{{EndpointID: e.ID}}
	seen := []string{""}
	for id := string(e.RegionID); !slices.Contains(seen, id); {
		seen = append(seen, id)
		targets = append(targets, PolicyTarget{ServiceID: e.ServiceID, RegionID: id})
		if i := slices.IndexFunc(regions, func(r Region) bool { return r.ID == id }); i >= 0 {
			id = string(regions[i].ParentID)
		}
	}
	targets = append(targets, PolicyTarget{ServiceID: e.ServiceID})
	ids := make([]string, len(targets))
	for i := range targets {
		ids[i] = targets[i].id()
	}
	found, err := s.associations.Where(ctx, store.In("id", ids))
	if err != nil {
		return PolicyDocument{}, err
	}
	for _, id := range ids {
		if i := slices.IndexFunc(found, func(a policyAssociation) bool { return a.ID == id }); i >= 0 {
			p, err := s.policies.Get(ctx, found[i].PolicyID)
			return p, kit.OrNotFound(err, "policy", found[i].PolicyID)
		}
	}
	return PolicyDocument{}, nacre.Errorf(nacre.NotFound, "policy", "No policy is associated with endpoint %s.", endpointID)
}

// PolicyEndpoints lists the endpoints that a policy document is associated with,
// by themselves, their service, or their service and region.
func (s *Service) PolicyEndpoints(ctx context.Context, policyID string) ([]Endpoint, error) {
	if err := s.area.Enforce(ctx, "list_endpoints_for_policy", nil); err != nil {
		return nil, err
	}
	if _, err := s.policies.Get(ctx, policyID); err != nil {
		return nil, kit.OrNotFound(err, "policy", policyID)
	}
	as, err := s.associations.Where(ctx, store.Eq("policy_id", policyID))
	if err != nil {
		return nil, err
	}
	regions, err := s.regions.Where(ctx)
	if err != nil {
		return nil, err
	}
	all, err := s.endpoints.Where(ctx)
	return slices.DeleteFunc(all, func(e Endpoint) bool {
		return !slices.ContainsFunc(as, func(a policyAssociation) bool {
			switch {
			case a.EndpointID != "":
				return a.EndpointID == e.ID
			case a.RegionID == "":
				return a.ServiceID == e.ServiceID
			}
			return a.ServiceID == e.ServiceID && below(regions, string(e.RegionID), a.RegionID)
		})
	}), err
}

// below says whether a region is another or lies below it.
func below(regions []Region, id, top string) bool {
	for range len(regions) + 1 {
		if id == top {
			return true
		}
		i := slices.IndexFunc(regions, func(r Region) bool { return r.ID == id })
		if i < 0 {
			return false
		}
		id = string(regions[i].ParentID)
	}
	return false
}
