package servers

import (
	"context"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/compute"
	"github.com/nacre-cloud/nacre/network"
	"github.com/nacre-cloud/nacre/servers/internal/secgroup"
	"github.com/nacre-cloud/nacre/store"
)

// securityGroups is the edge from compute's proxy of security groups to network.
type securityGroups struct{ svc *network.Service }

var _ compute.SecurityGroups = securityGroups{}

func where(name string, values ...string) nacre.Query {
	var q nacre.Query
	for _, v := range values {
		q.Filters = append(q.Filters, nacre.Filter{Name: name, Value: v})
	}
	return q
}

func (w securityGroups) find(ctx context.Context, q nacre.Query) ([]compute.SecurityGroup, error) {
	if err := store.Outside(ctx); err != nil {
		return nil, err
	}
	gs, rules, err := w.svc.SecurityGroups(ctx, q)
	if err != nil {
		return nil, err
	}
	return secgroup.Groups(gs, rules, func(ids []string) ([]network.SecurityGroup, error) {
		more, _, err := w.svc.SecurityGroups(ctx, where("id", ids...))
		return more, err
	})
}

func (w securityGroups) Groups(ctx context.Context, projectID string) ([]compute.SecurityGroup, error) {
	if projectID == "" {
		return w.find(ctx, nacre.Query{})
	}
	return w.find(ctx, where("project_id", projectID))
}

func (w securityGroups) ServerGroups(ctx context.Context, serverID string) ([]compute.SecurityGroup, error) {
	if err := store.Outside(ctx); err != nil {
		return nil, err
	}
	ports, err := w.svc.ServerPorts(nacre.AsService(ctx, "compute"), serverID)
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, p := range ports[serverID] {
		ids = append(ids, p.Port.SecurityGroups...)
	}
	if len(ids) == 0 {
		return nil, nil
	}
	return w.find(ctx, where("id", ids...))
}

func (w securityGroups) Group(ctx context.Context, id string) (compute.SecurityGroup, error) {
	gs, err := w.find(ctx, where("id", id))
	if err == nil && len(gs) == 0 {
		err = nacre.Errorf(nacre.NotFound, "SecurityGroupNotFound", "Security group %s does not exist", id)
	}
	if err != nil {
		return compute.SecurityGroup{}, err
	}
	return gs[0], nil
}

func (w securityGroups) CreateGroup(ctx context.Context, name, description string) (compute.SecurityGroup, error) {
	if err := store.Outside(ctx); err != nil {
		return compute.SecurityGroup{}, err
	}
	g, err := w.svc.CreateSecurityGroup(ctx, network.SecurityGroup{Std: network.Std{Name: name, Description: description}, Stateful: true})
	if err != nil {
		return compute.SecurityGroup{}, err
	}
	return w.Group(ctx, g.ID)
}

func (w securityGroups) UpdateGroup(ctx context.Context, id, name, description string) (compute.SecurityGroup, error) {
	if err := store.Outside(ctx); err != nil {
		return compute.SecurityGroup{}, err
	}
	_, err := w.svc.UpdateSecurityGroup(ctx, id, func(g *network.SecurityGroup) error {
		g.Name, g.Description = name, description
		return nil
	})
	if err != nil {
		return compute.SecurityGroup{}, err
	}
	return w.Group(ctx, id)
}

func (w securityGroups) DeleteGroup(ctx context.Context, id string) error {
	if err := store.Outside(ctx); err != nil {
		return err
	}
	return w.svc.DeleteSecurityGroup(ctx, id)
}

func (w securityGroups) Rule(ctx context.Context, id string) (compute.SecurityGroupRule, error) {
	if err := store.Outside(ctx); err != nil {
		return compute.SecurityGroupRule{}, err
	}
	r, err := w.svc.SecurityGroupRule(ctx, id)
	return secgroup.Rule(r), err
}

func (w securityGroups) CreateRule(ctx context.Context, r compute.SecurityGroupRule) (compute.SecurityGroupRule, error) {
	if err := store.Outside(ctx); err != nil {
		return compute.SecurityGroupRule{}, err
	}
	made, err := w.svc.CreateSecurityGroupRule(ctx, secgroup.Request(r))
	return secgroup.Rule(made), err
}

func (w securityGroups) DeleteRule(ctx context.Context, id string) error {
	if err := store.Outside(ctx); err != nil {
		return err
	}
	return w.svc.DeleteSecurityGroupRule(ctx, id)
}
