package ldap

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"

	goldap "github.com/go-ldap/ldap/v3"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/identity"
	"github.com/nacre-cloud/nacre/store"
)

func (d *Driver) userAttributes() []string {
	c := &d.cfg
	as := []string{c.UserIDAttribute, c.UserNameAttribute, c.UserMailAttribute, c.UserDescriptionAttribute, c.UserEnabledAttribute, c.UserDefaultProjectAttribute}
	return slices.DeleteFunc(slices.AppendSeq(as, maps.Keys(c.UserExtra)), func(a string) bool { return a == "" })
}

// enabled says whether an entry's user is, as Keystone reads it.
func (d *Driver) enabled(e *goldap.Entry, members map[string]bool) bool {
	c := &d.cfg
	if c.UserEnabledEmulation {
		return members[strings.ToLower(e.DN)]
	}
	v := e.GetEqualFoldAttributeValue(c.UserEnabledAttribute)
	if v == "" || d.ignored("enabled") {
		v = c.UserEnabledDefault
	}
	if c.UserEnabledMask != 0 {
		n, err := strconv.Atoi(v)
		return err == nil && n&c.UserEnabledMask != c.UserEnabledMask
	}
	if d.ignored("enabled") {
		return true
	}
	// What is no boolean says nothing good of the user: disabled, either way.
	b, ok := truth(v)
	return ok && b != c.UserEnabledInvert
}

// emulated are the members of the group of enabled users, in lower case.
func (d *Driver) emulated(ctx context.Context) (map[string]bool, error) {
	if !d.cfg.UserEnabledEmulation {
		return nil, nil
	}
	class, member := "groupOfNames", "member"
	if d.cfg.UserEnabledEmulationAsGroups {
		class, member = d.cfg.GroupObjectClass, d.cfg.GroupMemberAttribute
	}
	es, err := d.find(ctx, d.cfg.UserEnabledEmulationDN, goldap.ScopeBaseObject, all(class), []string{member})
	out := map[string]bool{}
	for _, e := range es {
		for _, m := range e.GetEqualFoldAttributeValues(member) {
			out[strings.ToLower(m)] = true
		}
	}
	return out, err
}

func (d *Driver) user(e *goldap.Entry, members map[string]bool) identity.DirectoryUser {
	c := &d.cfg
	u := identity.DirectoryUser{ID: e.GetEqualFoldAttributeValue(c.UserIDAttribute), Name: e.GetEqualFoldAttributeValue(c.UserNameAttribute), Enabled: d.enabled(e, members)}
	if !d.ignored("email") {
		u.Email = e.GetEqualFoldAttributeValue(c.UserMailAttribute)
	}
	if !d.ignored("description") {
		u.Description = e.GetEqualFoldAttributeValue(c.UserDescriptionAttribute)
	}
	if c.UserDefaultProjectAttribute != "" && !d.ignored("default_project_id") {
		u.DefaultProjectID = e.GetEqualFoldAttributeValue(c.UserDefaultProjectAttribute)
	}
	u.Extra = extra(e, c.UserExtra)
	return u
}

// extra are further attributes of an entry, by the names under which they are shown.
func extra(e *goldap.Entry, names map[string]string) map[string]string {
	if len(names) == 0 {
		return nil
	}
	out := make(map[string]string, len(names))
	for attr, name := range names {
		out[name] = e.GetEqualFoldAttributeValue(attr)
	}
	return out
}

// entry finds a user's entry by an attribute.
func (d *Driver) entry(ctx context.Context, attr, value string) (*goldap.Entry, error) {
	if err := store.Outside(ctx); err != nil {
		return nil, err
	}
	es, err := d.find(ctx, d.cfg.UserTree, d.scope(), all(d.cfg.UserObjectClass, equal(attr, value), d.cfg.UserFilter), d.userAttributes())
	if err != nil {
		return nil, err
	}
	return one(es, "user", value)
}

func (d *Driver) userBy(ctx context.Context, attr, value string) (identity.DirectoryUser, error) {
	e, err := d.entry(ctx, attr, value)
	if err != nil {
		return identity.DirectoryUser{}, err
	}
	members, err := d.emulated(ctx)
	return d.user(e, members), err
}

// User implements identity.Directory.
func (d *Driver) User(ctx context.Context, id string) (identity.DirectoryUser, error) {
	return d.userBy(ctx, d.cfg.UserIDAttribute, id)
}

// UserByName implements identity.Directory.
func (d *Driver) UserByName(ctx context.Context, name string) (identity.DirectoryUser, error) {
	return d.userBy(ctx, d.cfg.UserNameAttribute, name)
}

// Users implements identity.Directory. Entries without id or name are left out.
func (d *Driver) Users(ctx context.Context) ([]identity.DirectoryUser, error) {
	if err := store.Outside(ctx); err != nil {
		return nil, err
	}
	es, err := d.find(ctx, d.cfg.UserTree, d.scope(), all(d.cfg.UserObjectClass, "("+d.cfg.UserIDAttribute+"=*)", d.cfg.UserFilter), d.userAttributes())
	if err != nil {
		return nil, err
	}
	members, err := d.emulated(ctx)
	if err != nil {
		return nil, err
	}
	var out []identity.DirectoryUser
	for _, e := range es {
		if u := d.user(e, members); u.ID != "" && u.Name != "" {
			out = append(out, u)
		}
	}
	return out, nil
}

// Authenticate implements identity.Directory: a bind as the user.
func (d *Driver) Authenticate(ctx context.Context, id, password string) (bool, error) {
	// A bind with a name and no password is anonymous, and many servers say yes.
	if password == "" {
		return false, nil
	}
	e, err := d.entry(ctx, d.cfg.UserIDAttribute, id)
	if nacre.KindOf(err) == nacre.NotFound {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	err = d.use(ctx, &d.auth, d.dial, func(c *goldap.Conn) error { return c.Bind(e.DN, password) })
	var said *goldap.Error
	switch {
	case err == nil:
		return true, nil
	case ctx.Err() != nil:
		return false, ctx.Err()
	case nacre.KindOf(err) == nacre.Unavailable: // there was no connection
		return false, err
	case errors.As(err, &said) && said.ResultCode < goldap.ErrorNetwork: // the server's own answer
		return false, nil
	}
	return false, unavailable(err)
}

func (d *Driver) groupAttributes() []string {
	c := &d.cfg
	return slices.AppendSeq([]string{c.GroupIDAttribute, c.GroupNameAttribute, c.GroupDescriptionAttribute, c.GroupMemberAttribute}, maps.Keys(c.GroupExtra))
}

func (d *Driver) groups(ctx context.Context, filter string) ([]*goldap.Entry, []identity.DirectoryGroup, error) {
	if err := store.Outside(ctx); err != nil {
		return nil, nil, err
	}
	es, err := d.find(ctx, d.cfg.GroupTree, d.scope(), all(d.cfg.GroupObjectClass, filter, d.cfg.GroupFilter), d.groupAttributes())
	out := []identity.DirectoryGroup{}
	var with []*goldap.Entry
	for _, e := range es {
		g := identity.DirectoryGroup{ID: e.GetEqualFoldAttributeValue(d.cfg.GroupIDAttribute), Name: e.GetEqualFoldAttributeValue(d.cfg.GroupNameAttribute),
			Extra: extra(e, d.cfg.GroupExtra)}
		if !slices.Contains(d.cfg.GroupAttributeIgnore, "description") {
			g.Description = e.GetEqualFoldAttributeValue(d.cfg.GroupDescriptionAttribute)
		}
		if g.ID != "" && g.Name != "" {
			out, with = append(out, g), append(with, e)
		}
	}
	return with, out, err
}

// Groups implements identity.Directory.
func (d *Driver) Groups(ctx context.Context) ([]identity.DirectoryGroup, error) {
	_, gs, err := d.groups(ctx, "")
	return gs, err
}

// Group implements identity.Directory.
func (d *Driver) Group(ctx context.Context, id string) (identity.DirectoryGroup, error) {
	es, gs, err := d.groups(ctx, equal(d.cfg.GroupIDAttribute, id))
	if err != nil {
		return identity.DirectoryGroup{}, err
	}
	if _, err := one(es, "group", id); err != nil {
		return identity.DirectoryGroup{}, err
	}
	return gs[0], nil
}

// matchingRuleInChain is Active Directory's rule for members of members.
const matchingRuleInChain = ":1.2.840.113556.1.4.1941:"

// GroupsOf implements identity.Directory.
func (d *Driver) GroupsOf(ctx context.Context, userID string) ([]identity.DirectoryGroup, error) {
	member := userID
	if !d.cfg.GroupMembersAreIDs {
		e, err := d.entry(ctx, d.cfg.UserIDAttribute, userID)
		if err != nil {
			return nil, err
		}
		member = e.DN
	}
	attr := d.cfg.GroupMemberAttribute
	if d.cfg.GroupADNesting {
		attr += matchingRuleInChain
	}
	_, gs, err := d.groups(ctx, equal(attr, member))
	return gs, err
}

// Members implements identity.Directory. Members that are no users are left out.
func (d *Driver) Members(ctx context.Context, groupID string) ([]identity.DirectoryUser, error) {
	es, _, err := d.groups(ctx, equal(d.cfg.GroupIDAttribute, groupID))
	if err != nil {
		return nil, err
	}
	e, err := one(es, "group", groupID)
	if err != nil {
		return nil, err
	}
	want := map[string]bool{}
	for _, m := range e.GetEqualFoldAttributeValues(d.cfg.GroupMemberAttribute) {
		want[strings.ToLower(m)] = true
	}
	found, err := d.find(ctx, d.cfg.UserTree, d.scope(), d.memberFilter(e, want), d.userAttributes())
	if err != nil {
		return nil, err
	}
	members, err := d.emulated(ctx)
	if err != nil {
		return nil, err
	}
	out := []identity.DirectoryUser{}
	for _, u := range found {
		key := strings.ToLower(u.DN)
		if d.cfg.GroupMembersAreIDs {
			key = strings.ToLower(u.GetEqualFoldAttributeValue(d.cfg.UserIDAttribute))
		}
		if du := d.user(u, members); (want[key] || d.cfg.GroupADNesting) && du.ID != "" && du.Name != "" {
			out = append(out, du)
		}
	}
	return out, nil
}

// memberFilter narrows a search to a group's members where it can: by their ids,
// while they are few.
func (d *Driver) memberFilter(group *goldap.Entry, want map[string]bool) string {
	switch {
	case d.cfg.GroupADNesting:
		return all(d.cfg.UserObjectClass, equal("memberOf"+matchingRuleInChain, group.DN), d.cfg.UserFilter)
	case len(want) > 100:
		return all(d.cfg.UserObjectClass, d.cfg.UserFilter)
	}
	var b strings.Builder
	for m := range want {
		id := m
		if !d.cfg.GroupMembersAreIDs {
			dn, err := goldap.ParseDN(m)
			if err != nil || len(dn.RDNs) == 0 || !strings.EqualFold(dn.RDNs[0].Attributes[0].Type, d.cfg.UserIDAttribute) {
				return all(d.cfg.UserObjectClass, d.cfg.UserFilter)
			}
			id = dn.RDNs[0].Attributes[0].Value
		}
		b.WriteString(equal(d.cfg.UserIDAttribute, id))
	}
	if b.Len() == 0 {
		return all(d.cfg.UserObjectClass, "(!(objectClass=*))")
	}
	return all(d.cfg.UserObjectClass, "(|"+b.String()+")", d.cfg.UserFilter)
}
