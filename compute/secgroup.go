package compute

import (
	"context"
	"errors"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/nacre-cloud/nacre"
)

const ruleGroups = "os_compute_api:os-security-groups:"

// securityGroups is the edge to the network service's groups, once the rule is passed.
func (s *Service) securityGroups(ctx context.Context, rule string) (SecurityGroups, error) {
	if err := s.enforce(ctx, ruleGroups+rule, nil); err != nil {
		return nil, err
	}
	if s.c.SecurityGroups == nil {
		return nil, nacre.Errorf(nacre.NotFound, "", "The resource could not be found.")
	}
	return s.c.SecurityGroups, nil
}

// refused gives a conflict of the network service the kind that nova's proxy gives
// it: what can't be made is forbidden, as if it were over a quota; else a bad request.
func refused(err error, kind nacre.Kind) error {
	var e *nacre.Error
	if errors.As(err, &e) && e.Kind == nacre.Conflict {
		return nacre.Errorf(kind, "", "%s", e.Message)
	}
	return err
}

// SecurityGroups lists the caller's project's groups by name; all is for an
// administrator who asks for everybody's.
func (s *Service) SecurityGroups(ctx context.Context, all bool) ([]SecurityGroup, error) {
	e, err := s.securityGroups(ctx, "get")
	if err != nil {
		return nil, err
	}
	project := nacre.CallerFrom(ctx).ProjectID
	if all && nacre.CallerFrom(ctx).HasRole("admin") {
		project = ""
	}
	gs, err := e.Groups(ctx, project)
	sortGroups(gs)
	return gs, err
}

// ServerSecurityGroups are the groups of a server's ports.
func (s *Service) ServerSecurityGroups(ctx context.Context, id string) ([]SecurityGroup, error) {
	if _, err := s.serverFor(ctx, id, ruleGroups+"list"); err != nil {
		return nil, err
	}
	e, err := s.securityGroups(ctx, "list")
	if err != nil {
		return nil, err
	}
	gs, err := e.ServerGroups(ctx, id)
	sortGroups(gs)
	return gs, err
}

func sortGroups(gs []SecurityGroup) {
	slices.SortFunc(gs, func(a, b SecurityGroup) int {
		return strings.Compare(a.ProjectID+"\x00"+a.Name+"\x00"+a.ID, b.ProjectID+"\x00"+b.Name+"\x00"+b.ID)
	})
}

// SecurityGroup is one group.
func (s *Service) SecurityGroup(ctx context.Context, id string) (SecurityGroup, error) {
	e, err := s.securityGroups(ctx, "show")
	if err != nil {
		return SecurityGroup{}, err
	}
	return e.Group(ctx, id)
}

// CreateSecurityGroup makes a group in the caller's project.
func (s *Service) CreateSecurityGroup(ctx context.Context, name, description string) (SecurityGroup, error) {
	e, err := s.securityGroups(ctx, "create")
	if err != nil {
		return SecurityGroup{}, err
	}
	g, err := e.CreateGroup(ctx, name, description)
	return g, refused(err, nacre.Forbidden)
}

// UpdateSecurityGroup gives a group another name and description.
func (s *Service) UpdateSecurityGroup(ctx context.Context, id, name, description string) (SecurityGroup, error) {
	e, err := s.securityGroups(ctx, "update")
	if err != nil {
		return SecurityGroup{}, err
	}
	g, err := e.UpdateGroup(ctx, id, name, description)
	return g, refused(err, nacre.Invalid)
}

// DeleteSecurityGroup removes a group that nothing is in.
func (s *Service) DeleteSecurityGroup(ctx context.Context, id string) error {
	e, err := s.securityGroups(ctx, "delete")
	if err != nil {
		return err
	}
	return refused(e.DeleteGroup(ctx, id), nacre.Invalid)
}

// CreateSecurityGroupRule adds a rule to a group. Ports come as text, as the API has
// them, and "" is none: a rule for a group may leave out ports or protocol (all of
// them then), one for addresses may not.
func (s *Service) CreateSecurityGroupRule(ctx context.Context, r SecurityGroupRule, from, to string) (SecurityGroupRule, error) {
	e, err := s.securityGroups(ctx, "rule:create")
	if err != nil {
		return r, err
	}
	g, err := e.Group(ctx, r.GroupID)
	if err != nil {
		return r, err
	}
	if r.RemoteID != "" {
		remote, err := e.Group(ctx, r.RemoteID)
		if err != nil {
			return r, err
		}
		r.RemoteName, r.RemoteProject, r.CIDR = remote.Name, remote.ProjectID, ""
	} else if err := ruleCIDR(&r); err != nil {
		return r, err
	}
	if err := rulePorts(&r, from, to); err != nil {
		return r, err
	}
	for _, old := range g.Rules {
		if old.RemoteID == r.RemoteID && old.Protocol == r.Protocol && (old.CIDR == r.CIDR || r.RemoteID != "") && samePort(old.FromPort, r.FromPort) && samePort(old.ToPort, r.ToPort) {
			return r, nacre.Errorf(nacre.Invalid, "", "This rule already exists in group %s", r.GroupID)
		}
	}
	made, err := e.CreateRule(ctx, r)
	made.RemoteName, made.RemoteProject = r.RemoteName, r.RemoteProject
	return made, refused(err, nacre.Forbidden)
}

// DeleteSecurityGroupRule removes a rule.
func (s *Service) DeleteSecurityGroupRule(ctx context.Context, id string) error {
	e, err := s.securityGroups(ctx, "rule:delete")
	if err != nil {
		return err
	}
	if _, err := e.Rule(ctx, id); err != nil {
		return err
	}
	return refused(e.DeleteRule(ctx, id), nacre.Invalid)
}

func samePort(a, b *int) bool { return a == b || a != nil && b != nil && *a == *b }

func ruleCIDR(r *SecurityGroupRule) error {
	if r.CIDR == "" {
		r.CIDR = "0.0.0.0/0"
		return nil
	}
	text, err := url.PathUnescape(r.CIDR)
	if err != nil {
		text = r.CIDR
	}
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return nacre.Errorf(nacre.Invalid, "", "Invalid cidr %s.", r.CIDR)
	}
	if p.Bits() == 0 && !p.Addr().IsUnspecified() {
		return nacre.Errorf(nacre.Invalid, "", "Bad prefix for network in cidr %s", text)
	}
	r.CIDR = text
	return nil
}

// rulePorts fills in a rule's ports by nova's rules.
func rulePorts(r *SecurityGroupRule, from, to string) error {
	name := strings.ToUpper(r.Protocol)
	if r.RemoteID != "" && from == "" && to == "" {
		switch name {
		case "ICMP":
			from, to = "-1", "-1"
		case "TCP", "UDP":
			from, to = "1", "65535"
		}
	}
	if r.Protocol == "" || from == "" || to == "" {
		if r.RemoteID == "" {
			return nacre.Errorf(nacre.Invalid, "", "Not enough parameters to build a valid rule.")
		}
		r.Protocol = ""
		return nil
	}
	f, err1 := strconv.Atoi(from)
	t, err2 := strconv.Atoi(to)
	bad := func(why string) error {
		return nacre.Errorf(nacre.Invalid, "", "Invalid port range %s:%s. %s", from, to, why)
	}
	switch {
	case (err1 != nil || err2 != nil) && name == "ICMP":
		return nacre.Errorf(nacre.Invalid, "", "Invalid input received: Type and Code must be integers for ICMP protocol type")
	case err1 != nil || err2 != nil:
		return nacre.Errorf(nacre.Invalid, "", "Invalid input received: To and From ports must be integers")
	case name != "TCP" && name != "UDP" && name != "ICMP":
		return nacre.Errorf(nacre.Invalid, "", "Invalid IP protocol %s.", r.Protocol)
	case name != "ICMP" && f > t:
		return bad("Former value cannot be greater than the later")
	case name != "ICMP" && (f < 1 || t > 65535):
		return bad("Valid " + name + " ports should be between 1-65535")
	case name == "ICMP" && (f < -1 || f > 255 || t < -1 || t > 255):
		return bad("For ICMP, the type:code must be valid")
	}
	r.FromPort, r.ToPort = &f, &t
	return nil
}
