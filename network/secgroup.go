package network

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strconv"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/internal/policy"
	"github.com/nacre-cloud/nacre/network/dataplane"
	"github.com/nacre-cloud/nacre/store"
)

func groupNotFound(id string) *nacre.Error {
	return nacre.Errorf(nacre.NotFound, "SecurityGroupNotFound", "Security group %s does not exist", id)
}

func ownTarget(o *Std) policy.Map {
	return policy.Map{"project_id": o.ProjectID, "tenant_id": o.ProjectID}
}

var groupColumns = columns(map[string]string{"stateful": "stateful"})

// SecurityGroups lists the caller's groups with their rules. Three statements.
func (s *Service) SecurityGroups(ctx context.Context, q nacre.Query) ([]SecurityGroup, map[string][]SecurityGroupRule, error) {
	w, c, err := s.own(ctx)
	if err != nil {
		return nil, nil, err
	}
	if c.ProjectID != "" && q.Marker == "" {
		// The default group is there as soon as somebody looks.
		if has, err := s.groups.Exists(ctx, store.Eq("default_of", c.ProjectID)); err != nil {
			return nil, nil, err
		} else if !has {
			if err := s.tx(ctx, func(ctx context.Context) error { _, err := s.defaultGroup(ctx, c.ProjectID); return err }); err != nil {
				return nil, nil, err
			}
		}
	}
	gs, err := list(ctx, s, s.groups, q, w, groupColumns, nil)
	if err != nil {
		return nil, nil, err
	}
	rules, err := s.groupRules(ctx, gs)
	return gs, rules, err
}

func (s *Service) groupRules(ctx context.Context, gs []SecurityGroup) (map[string][]SecurityGroupRule, error) {
	ids := make([]string, len(gs))
	for i := range gs {
		ids[i] = gs[i].ID
	}
	out := map[string][]SecurityGroupRule{}
	if len(ids) == 0 {
		return out, nil
	}
	rs, err := s.rules.Where(ctx, store.In("security_group_id", ids))
	for _, r := range rs {
		out[r.GroupID] = append(out[r.GroupID], r)
	}
	return out, err
}

// SecurityGroup is one group of the caller's.
func (s *Service) SecurityGroup(ctx context.Context, id string) (SecurityGroup, error) {
	w, _, err := s.own(ctx)
	if err != nil {
		return SecurityGroup{}, err
	}
	g, err := s.groups.One(ctx, store.Eq("id", id), w)
	return g, store.WrapNotFound(err, func() *nacre.Error { return groupNotFound(id) })
}

// RulesOf are a group's rules.
func (s *Service) RulesOf(ctx context.Context, g SecurityGroup) ([]SecurityGroupRule, error) {
	m, err := s.groupRules(ctx, []SecurityGroup{g})
	return m[g.ID], err
}

// defaultGroup is a project's default group, made on first use: egress open,
// ingress from the group itself. In the caller's transaction.
func (s *Service) defaultGroup(ctx context.Context, project string) (SecurityGroup, error) {
	g, err := s.groups.One(ctx, store.Eq("default_of", project))
	if !isGone(err) || project == "" {
		if project == "" {
			err = nil
		}
		return g, err
	}
	if err := store.Lock(ctx, s.c.Engine, "default-group/"+project); err != nil {
		return g, err
	}
	if g, err = s.groups.One(ctx, store.Eq("default_of", project)); !isGone(err) {
		return g, err
	}
	g = SecurityGroup{Std: Std{ProjectID: project, Name: "default", Description: "Default security group"}, Stateful: true, DefaultOf: project}
	s.fresh(ctx, &g.Std)
	g.ProjectID = project
	if err := s.groups.Insert(ctx, g); err != nil {
		return g, err
	}
	var rules []SecurityGroupRule
	for _, version := range []string{"IPv4", "IPv6"} {
		rules = append(rules, SecurityGroupRule{GroupID: g.ID, Direction: "egress", EtherType: version}, SecurityGroupRule{GroupID: g.ID, Direction: "ingress", EtherType: version, RemoteGroupID: g.ID})
	}
	for i := range rules {
		s.fresh(ctx, &rules[i].Std)
		rules[i].ProjectID, rules[i].Same = project, sameRule(&rules[i])
	}
	return g, s.rules.Insert(ctx, rules...)
}

// CreateSecurityGroup makes a group with egress open.
func (s *Service) CreateSecurityGroup(ctx context.Context, g SecurityGroup) (SecurityGroup, error) {
	c, err := s.caller(ctx)
	if err != nil {
		return g, err
	}
	if g.ProjectID == "" {
		g.ProjectID = c.ProjectID
	}
	if err := s.enforce(ctx, "create_security_group", ownTarget(&g.Std)); err != nil {
		return g, err
	}
	if g.Name == "default" {
		return g, nacre.Errorf(nacre.Conflict, "SecurityGroupDefaultAlreadyExists", "Default security group already exists.")
	}
	err = s.tx(ctx, func(ctx context.Context) error {
		if err := s.reserve(ctx, "security_group", g.ProjectID, 1, func(ctx context.Context) (int64, error) {
			return s.groups.Count(ctx, store.Eq("project_id", g.ProjectID))
		}); err != nil {
			return err
		}
		if _, err := s.defaultGroup(ctx, g.ProjectID); err != nil {
			return err
		}
		project := g.ProjectID
		s.fresh(ctx, &g.Std)
		g.ProjectID = project
		if err := s.groups.Insert(ctx, g); err != nil {
			return err
		}
		for _, version := range []string{"IPv4", "IPv6"} {
			r := SecurityGroupRule{GroupID: g.ID, Direction: "egress", EtherType: version}
			s.fresh(ctx, &r.Std)
			r.ProjectID, r.Same = project, sameRule(&r)
			if err := s.rules.Insert(ctx, r); err != nil {
				return err
			}
		}
		return s.emit(ctx, "security_group.create.end", &g.Std)
	})
	return g, err
}

// UpdateSecurityGroup changes a group by fn.
func (s *Service) UpdateSecurityGroup(ctx context.Context, id string, fn func(*SecurityGroup) error) (SecurityGroup, error) {
	old, err := s.SecurityGroup(ctx, id)
	if err != nil {
		return old, err
	}
	if err := s.enforce(ctx, "update_security_group", ownTarget(&old.Std)); err != nil {
		return old, err
	}
	var out SecurityGroup
	err = s.tx(ctx, func(ctx context.Context) error {
		g, err := s.groups.Update(ctx, id, func(g *SecurityGroup) error {
			name, stateful := g.Name, g.Stateful
			if err := s.expected(ctx, &g.Std); err != nil {
				return err
			}
			if err := fn(g); err != nil {
				return err
			}
			if g.DefaultOf != "" && g.Name != name {
				return nacre.Errorf(nacre.Conflict, "SecurityGroupCannotUpdateDefault", "Updating default security group not allowed.")
			}
			if g.DefaultOf == "" && lower(g.Name) == "default" {
				return nacre.Errorf(nacre.Conflict, "SecurityGroupDefaultAlreadyExists", "Default security group already exists.")
			}
			if g.Stateful != stateful {
				used, err := s.members.Exists(ctx, store.Eq("group_id", id))
				if err != nil {
					return err
				}
				if used {
					return nacre.Errorf(nacre.Conflict, "SecurityGroupInUse", "Security Group %s in use.", id)
				}
			}
			touched(&g.Std)
			return nil
		})
		if err != nil {
			return store.WrapNotFound(err, func() *nacre.Error { return groupNotFound(id) })
		}
		out = g
		if g.Stateful != old.Stateful {
			if err := s.changed(ctx, dataplane.KindSecurityGroup, id); err != nil {
				return err
			}
		}
		return s.emit(ctx, "security_group.update.end", &g.Std)
	})
	return out, err
}

// DeleteSecurityGroup removes a group that no port is in.
func (s *Service) DeleteSecurityGroup(ctx context.Context, id string) error {
	g, err := s.SecurityGroup(ctx, id)
	if err != nil {
		return err
	}
	if err := s.enforce(ctx, "delete_security_group", ownTarget(&g.Std)); err != nil {
		return err
	}
	if g.DefaultOf != "" && !nacre.CallerFrom(ctx).HasRole("admin") {
		return nacre.Errorf(nacre.Conflict, "SecurityGroupCannotRemoveDefault", "Insufficient rights for removing default security group.")
	}
	return s.tx(ctx, func(ctx context.Context) error {
		// A port that joins meanwhile waits here, and then finds it gone.
		if there, err := s.raise(ctx, dataplane.KindSecurityGroup, id, 1); err != nil || !there {
			return cmp.Or(err, error(groupNotFound(id)))
		}
		used, err := s.members.Exists(ctx, store.Eq("group_id", id))
		if err != nil {
			return err
		}
		if used {
			return nacre.Errorf(nacre.Conflict, "SecurityGroupInUse", "Security Group %s in use.", id)
		}
		// Rules of others that name it as remote go too.
		remote, err := s.rules.Where(ctx, store.Eq("remote_group_id", id), store.Not(store.Eq("security_group_id", id)))
		if err != nil {
			return err
		}
		if _, err := s.rules.DeleteWhere(ctx, store.Or(store.Eq("security_group_id", id), store.Eq("remote_group_id", id))); err != nil {
			return err
		}
		for _, r := range remote {
			if err := s.changed(ctx, dataplane.KindSecurityGroup, r.GroupID); err != nil {
				return err
			}
		}
		if err := s.remove(ctx, dataplane.KindSecurityGroup, id, ""); err != nil {
			return err
		}
		if err := store.WrapNotFound(s.groups.Delete(ctx, id), func() *nacre.Error { return groupNotFound(id) }); err != nil {
			return err
		}
		if err := s.setTags(ctx, id, nil); err != nil {
			return err
		}
		return s.emit(ctx, "security_group.delete.end", &g.Std)
	})
}

var ruleColumns = columns(map[string]string{"security_group_id": "security_group_id", "direction": "direction", "ethertype": "ethertype", "protocol": "protocol",
	"port_range_min": "port_range_min", "port_range_max": "port_range_max", "remote_ip_prefix": "remote_ip_prefix", "remote_group_id": "remote_group_id", "remote_address_group_id": "remote_address_group_id"})

// SecurityGroupRules lists the caller's rules.
func (s *Service) SecurityGroupRules(ctx context.Context, q nacre.Query) ([]SecurityGroupRule, error) {
	w, c, err := s.own(ctx)
	if err != nil {
		return nil, err
	}
	if w.Op != store.OpAll {
		w = store.Or(w, store.InSelect("security_group_id", s.groups, "id", store.Eq("project_id", c.ProjectID)))
	}
	return list(ctx, s, s.rules, q, w, ruleColumns, nil)
}

// SecurityGroupRule is one rule of the caller's.
func (s *Service) SecurityGroupRule(ctx context.Context, id string) (SecurityGroupRule, error) {
	w, _, err := s.own(ctx)
	if err != nil {
		return SecurityGroupRule{}, err
	}
	r, err := s.rules.One(ctx, store.Eq("id", id), w)
	return r, store.WrapNotFound(err, func() *nacre.Error {
		return nacre.Errorf(nacre.NotFound, "SecurityGroupRuleNotFound", "Security group rule %s does not exist", id)
	})
}

var protocols = []string{"ah", "dccp", "egp", "esp", "gre", "icmp", "icmpv6", "igmp", "ipip", "ipv6-encap", "ipv6-frag", "ipv6-icmp", "ipv6-nonxt", "ipv6-opts", "ipv6-route", "ospf", "pgm", "rsvp", "sctp", "tcp", "udp", "udplite", "vrrp"}

// NormalizedCIDR is RemotePrefix without host bits: what the rule means.
func (r *SecurityGroupRule) NormalizedCIDR() string {
	p, err := netip.ParsePrefix(r.RemotePrefix)
	if err != nil {
		return r.RemotePrefix
	}
	return p.Masked().String()
}

func sameRule(r *SecurityGroupRule) string {
	num := func(p *int) string {
		if p == nil {
			return ""
		}
		return strconv.Itoa(*p)
	}
	return fmt.Sprintf("%s|%s|%s|%s|%s|%s|%s|%s|%s", r.GroupID, r.Direction, r.EtherType, r.Protocol, num(r.PortMin), num(r.PortMax), r.NormalizedCIDR(), r.RemoteGroupID, r.RemoteAddressGroupID)
}

// checkRule validates and normalises a rule as neutron does.
func checkRule(r *SecurityGroupRule) error {
	bad := func(code, format string, args ...any) error {
		return nacre.Errorf(nacre.Invalid, code, format, args...)
	}
	switch lower(r.EtherType) {
	case "", "ipv4":
		r.EtherType = "IPv4"
	case "ipv6":
		r.EtherType = "IPv6"
	default:
		return bad("SecurityGroupRuleInvalidEtherType", "Security group rule for ethertype '%s' not supported. Allowed values are ['IPv4', 'IPv6'].", r.EtherType)
	}
	if r.Direction != "ingress" && r.Direction != "egress" {
		return bad("HTTPBadRequest", "Invalid input for direction. Reason: '%s' is not in ['ingress', 'egress'].", r.Direction)
	}
	r.Protocol = lower(r.Protocol)
	if r.Protocol == "any" {
		r.Protocol = ""
	}
	if n, err := strconv.Atoi(r.Protocol); r.Protocol != "" && (err != nil || n < 0 || n > 255) && !slices.Contains(protocols, r.Protocol) {
		return bad("SecurityGroupRuleInvalidProtocol", "Security group rule protocol %s not supported. Only protocol values %v and integer representations [0 to 255] are supported.", r.Protocol, protocols)
	}
	remotes := 0
	for _, remote := range []string{r.RemotePrefix, r.RemoteGroupID, r.RemoteAddressGroupID} {
		if remote != "" {
			remotes++
		}
	}
	if remotes > 1 {
		return bad("SecurityGroupMultipleRemoteEntites", "Only one of remote_ip_prefix, remote_group_id or remote_address_group_id may be provided.")
	}
	if r.RemotePrefix != "" {
		p, err := netip.ParsePrefix(r.RemotePrefix)
		if err != nil {
			a, aerr := netip.ParseAddr(r.RemotePrefix)
			if aerr != nil {
				return bad("HTTPBadRequest", "Invalid input for remote_ip_prefix. Reason: '%s' is not a valid IP subnet.", r.RemotePrefix)
			}
			p = netip.PrefixFrom(a, a.BitLen())
		}
		if p.Addr().Is4() != (r.EtherType == "IPv4") {
			return bad("SecurityGroupRuleParameterConflict", "Conflicting value ethertype %s for CIDR %s", r.EtherType, r.RemotePrefix)
		}
		r.RemotePrefix = p.String()
	}
	return checkRulePorts(r, bad)
}

func checkRulePorts(r *SecurityGroupRule, bad func(code, format string, args ...any) error) error {
	if r.PortMin == nil && r.PortMax == nil {
		return nil
	}
	icmp := r.Protocol == "icmp" || r.Protocol == "icmpv6" || r.Protocol == "ipv6-icmp" || r.Protocol == "1" || r.Protocol == "58"
	switch {
	case icmp:
		for name, p := range map[string]*int{"type": r.PortMin, "code": r.PortMax} {
			if p != nil && (*p < 0 || *p > 255) {
				return bad("SecurityGroupInvalidIcmpValue", "Invalid value for ICMP %s: %d. It must be 0 to 255.", name, *p)
			}
		}
		if r.PortMin == nil {
			return bad("SecurityGroupMissingIcmpType", "ICMP code (port-range-max) %d is provided but ICMP type (port-range-min) is missing.", *r.PortMax)
		}
	case r.Protocol == "":
		return bad("SecurityGroupProtocolRequiredWithPorts", "Must also specify protocol if port range is given.")
	case !slices.Contains([]string{"tcp", "udp", "dccp", "sctp", "udplite", "6", "17", "33", "132", "136"}, r.Protocol):
		return bad("SecurityGroupInvalidProtocolForPort", "Ports cannot be specified for protocol %s. Ports are only supported for %v.", r.Protocol, []string{"dccp", "sctp", "tcp", "udp", "udplite"})
	case r.PortMin != nil && (*r.PortMin < 1 || *r.PortMin > 65535):
		return bad("SecurityGroupInvalidPortValue", "Invalid value for port %d", *r.PortMin)
	case r.PortMax != nil && (*r.PortMax < 1 || *r.PortMax > 65535):
		return bad("SecurityGroupInvalidPortValue", "Invalid value for port %d", *r.PortMax)
	case r.PortMin == nil || r.PortMax == nil || *r.PortMin > *r.PortMax:
		return bad("SecurityGroupInvalidPortRange", "For TCP/UDP protocols, port_range_min must be <= port_range_max")
	}
	return nil
}

// CreateSecurityGroupRule adds a rule to a group.
func (s *Service) CreateSecurityGroupRule(ctx context.Context, r SecurityGroupRule) (SecurityGroupRule, error) {
	g, err := s.SecurityGroup(ctx, r.GroupID)
	if err != nil {
		return r, err
	}
	if r.ProjectID == "" {
		r.ProjectID = g.ProjectID
	}
	if err := s.enforce(ctx, "create_security_group_rule", ownTarget(&g.Std)); err != nil {
		return r, err
	}
	if err := checkRule(&r); err != nil {
		return r, err
	}
	if r.RemoteGroupID != "" {
		if _, err := s.SecurityGroup(ctx, r.RemoteGroupID); err != nil {
			return r, err
		}
	}
	err = s.tx(ctx, func(ctx context.Context) error {
		if err := s.reserve(ctx, "security_group_rule", r.ProjectID, 1, func(ctx context.Context) (int64, error) {
			return s.rules.Count(ctx, store.Eq("project_id", r.ProjectID))
		}); err != nil {
			return err
		}
		if r.RemoteAddressGroupID != "" {
			if err := s.holdAddressGroup(ctx, r.RemoteAddressGroupID); err != nil {
				return err
			}
		}
		r.Same = sameRule(&r)
		if old, err := s.rules.One(ctx, store.Eq("same", r.Same)); !isGone(err) {
			if err != nil {
				return err
			}
			return nacre.Errorf(nacre.Conflict, "SecurityGroupRuleExists", "Security group rule already exists. Rule id is %s.", old.ID)
		}
		project := r.ProjectID
		s.fresh(ctx, &r.Std)
		r.ProjectID = project
		if err := s.rules.Insert(ctx, r); err != nil {
			return err
		}
		if err := s.changed(ctx, dataplane.KindSecurityGroup, g.ID); err != nil {
			return err
		}
		if r.RemoteGroupID != "" && r.RemoteGroupID != g.ID {
			if there, err := s.raise(ctx, dataplane.KindSecurityGroup, r.RemoteGroupID, 1); err != nil || !there {
				return cmp.Or(err, error(groupNotFound(r.RemoteGroupID)))
			}
			if err := s.placeRemote(ctx, g.ID, r.RemoteGroupID); err != nil {
				return err
			}
		}
		return s.emit(ctx, "security_group_rule.create.end", &r.Std)
	})
	return r, err
}

// placeRemote puts a group on every host that has members of the one whose rule
// names it.
func (s *Service) placeRemote(ctx context.Context, group, remote string) error {
	ms, err := s.members.Aggregate(ctx, store.Aggregate{Where: store.And(store.Eq("group_id", group), store.Not(store.Eq("host", ""))), By: []string{"host"}})
	if err != nil || len(ms) == 0 {
		return err
	}
	for _, m := range ms {
		if err := s.place(ctx, m.Key[0].(string), dataplane.KindSecurityGroup, remote); err != nil {
			return err
		}
	}
	return nil
}

// DeleteSecurityGroupRule removes a rule.
func (s *Service) DeleteSecurityGroupRule(ctx context.Context, id string) error {
	r, err := s.SecurityGroupRule(ctx, id)
	if err != nil {
		return err
	}
	if err := s.enforce(ctx, "delete_security_group_rule", ownTarget(&r.Std)); err != nil {
		return err
	}
	return s.tx(ctx, func(ctx context.Context) error {
		if err := store.WrapNotFound(s.rules.Delete(ctx, id), func() *nacre.Error {
			return nacre.Errorf(nacre.NotFound, "SecurityGroupRuleNotFound", "Security group rule %s does not exist", id)
		}); err != nil {
			return err
		}
		if err := s.changed(ctx, dataplane.KindSecurityGroup, r.GroupID); err != nil {
			return err
		}
		if r.RemoteGroupID != "" && r.RemoteGroupID != r.GroupID {
			hosts, err := s.places.Where(ctx, store.Eq("object_id", r.RemoteGroupID), store.Eq("kind", string(dataplane.KindSecurityGroup)), store.Eq("gone", false))
			if err != nil {
				return err
			}
			for _, p := range hosts {
				if err := s.sweepGroup(ctx, p.Host, r.RemoteGroupID); err != nil {
					return err
				}
			}
		}
		return s.emit(ctx, "security_group_rule.delete.end", &r.Std)
	})
}
