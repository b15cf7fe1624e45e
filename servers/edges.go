package servers

import (
	"context"
	"time"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/compute"
	"github.com/nacre-cloud/nacre/identity"
	"github.com/nacre-cloud/nacre/identity/assignment"
	"github.com/nacre-cloud/nacre/image"
	"github.com/nacre-cloud/nacre/network"
	"github.com/nacre-cloud/nacre/objectstore"
)

// Each edge is a direct call where both its ends are served here, and HTTP where the
// other end is in another process (package servers/remote).

func (cl *Cloud) validator() (nacre.TokenValidator, error) {
	if cl.Identity != nil {
		return cl.Identity, nil
	}
	return cl.c.Others.Tokens()
}

func (cl *Cloud) imagesEdge() compute.Images {
	if cl.Image != nil {
		return images{cl.Image}
	}
	return cl.c.Others.Images()
}

func (cl *Cloud) networksEdge() compute.Networks {
	if cl.Network != nil {
		return networks{cl.Network}
	}
	return cl.c.Others.Networks()
}

func (cl *Cloud) securityGroupsEdge() compute.SecurityGroups {
	if cl.Network != nil {
		return securityGroups{cl.Network}
	}
	return cl.c.Others.SecurityGroups()
}

func (cl *Cloud) limitsEdge() image.Limits {
	if cl.Identity != nil {
		return imageLimits{cl.Identity}
	}
	return cl.c.Others.Limits()
}

func (cl *Cloud) projectsEdge() objectstore.Projects {
	if cl.Identity != nil {
		return projects{cl.Identity}
	}
	return cl.c.Others.Projects()
}

// portHooks tell compute of ports.
func (cl *Cloud) portHooks() network.Hooks {
	if cl.Compute != nil {
		return computeHooks(cl.Compute, cl.c.Log)
	}
	cl.events = cl.c.Others.Events()
	return cl.events.Hooks()
}

// hostsEvery is how soon network knows of a host that compute in another process has
// been told of.
const hostsEvery = 2 * time.Second

// followHosts makes the hosts of compute in another process known to network.
func (cl *Cloud) followHosts(ctx context.Context) error {
	tick := time.NewTicker(hostsEvery)
	defer tick.Stop()
	known := map[string]bool{}
	for {
		names, err := cl.c.Others.ComputeHosts(ctx)
		for _, name := range names {
			if known[name] {
				continue
			}
			if _, err = cl.Network.AddHost(nacre.AsService(ctx, "servers"), name); err != nil {
				break
			}
			known[name] = true
		}
		if err != nil && ctx.Err() == nil {
			cl.log.Warn("the hosts of compute are not known", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// serviceProject is where the users of services are.
const serviceProject = "service"

// seedServices makes the users by which services in other processes are known.
func (cl *Cloud) seedServices(ctx context.Context) error {
	if len(cl.c.ServiceUsers) == 0 {
		return nil
	}
	domain, name := identity.DefaultDomain, serviceProject
	inDomain := nacre.Filter{Name: "domain_id", Value: domain}
	ps, err := cl.Identity.ListProjects(ctx, byName(name, inDomain))
	if err != nil {
		return err
	}
	if len(ps) == 0 {
		p, err := cl.Identity.CreateProject(ctx, identity.ProjectChange{Name: &name, DomainID: &domain})
		if err != nil {
			return err
		}
		ps = append(ps, p)
	}
	for user, password := range cl.c.ServiceUsers {
		us, err := cl.Identity.ListUsers(ctx, byName(user, inDomain))
		if err != nil {
			return err
		}
		if len(us) == 0 {
			u, err := cl.Identity.CreateUser(ctx, identity.UserChange{Name: &user, DomainID: &domain, Password: &password})
			if err != nil {
				return err
			}
			us = append(us, u)
		}
		for _, role := range []string{"admin", "service"} {
			if err := cl.Identity.Assignments.CreateGrant(ctx, assignment.Grant{UserID: us[0].ID, ProjectID: ps[0].ID, RoleID: cl.Bootstrapped.Roles[role]}); err != nil {
				return err
			}
		}
	}
	return nil
}
