package servers

import (
	"context"
	"errors"
	"fmt"
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
	var known map[string]bool
	said := ""
	for {
		names, err := cl.c.Others.ComputeHosts(ctx)
		if err == nil {
			known, err = cl.knowHosts(ctx, names, known)
		}
		if ctx.Err() == nil {
			said = cl.sayHosts(said, err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// sayHosts logs a change of what is wrong with following hosts; said is what was before.
func (cl *Cloud) sayHosts(said string, err error) string {
	now := ""
	if err != nil {
		now = err.Error()
	}
	switch {
	case now == said:
	case now == "":
		cl.log.Info("the hosts of compute are known again")
	default:
		cl.log.Warn("hosts of compute are not known", "error", err)
	}
	return now
}

// knowHosts adds to network those of the hosts that are not known to it; known nil is
// that network is to be asked. One that is refused keeps no other away.
func (cl *Cloud) knowHosts(ctx context.Context, names []string, known map[string]bool) (map[string]bool, error) {
	ctx = nacre.AsService(ctx, "servers")
	if known == nil {
		have, err := cl.Network.Agents(ctx)
		if err != nil {
			return nil, err
		}
		known = map[string]bool{}
		for _, h := range have {
			known[h.Name] = true
		}
	}
	var errs error
	for _, name := range names {
		if known[name] {
			continue
		}
		if _, err := cl.Network.AddHost(ctx, name); err != nil {
			errs = errors.Join(errs, fmt.Errorf("%s: %w", name, err))
			continue
		}
		known[name] = true
	}
	return known, errs
}

// serviceProject is where the users of services are.
const serviceProject = "service"

// seedServices makes the users by which services in other processes are known.
func (cl *Cloud) seedServices(ctx context.Context) error {
	if len(cl.c.ServiceUsers) == 0 {
		return nil
	}
	project, err := cl.seedProject(ctx, serviceProject)
	if err != nil {
		return err
	}
	for user, password := range cl.c.ServiceUsers {
		u, _, err := cl.seedUser(ctx, identity.UserChange{Name: &user, Password: &password})
		if err != nil {
			return err
		}
		for _, role := range []string{"admin", "service"} {
			if err := cl.Identity.Assignments.CreateGrant(ctx, assignment.Grant{UserID: u.ID, ProjectID: project.ID, RoleID: cl.Bootstrapped.Roles[role]}); err != nil {
				return err
			}
		}
	}
	return nil
}
