package objectstore

import (
	"context"
	"encoding/json"
	"slices"
	"strings"

	"github.com/nacre-cloud/nacre"
)

// Access is how a request comes, beside who makes it.
type Access struct {
	// Referrer is the Referer header.
	Referrer string
	// Signed, if set, is the right that a signed URL or form gives, instead of the
	// caller's.
	Signed *Signed
	// ServiceRoles are the roles of the X-Service-Token.
	ServiceRoles []string
}

// Signed is the right of a signature: whatever lies in an account, or in one
// container of it when the container's key signed. That the object and the method
// are those that were signed is for whoever checks the signature.
type Signed struct{ Account, Container string }

type accessKey struct{}

// WithAccess puts how a request comes into its context.
func WithAccess(ctx context.Context, a Access) context.Context {
	return context.WithValue(ctx, accessKey{}, a)
}

func accessOf(ctx context.Context) Access {
	a, _ := ctx.Value(accessKey{}).(Access)
	return a
}

// verb is what somebody wants to do to an account, container or object.
type verb uint8

const (
	// read is GET and HEAD.
	read verb = iota
	// write is PUT, POST and DELETE.
	write
	// remove is DELETE of an account.
	remove
)

// standing is what a caller is to an account.
type standing uint8

const (
	stranger standing = iota
	reader
	owner
	reseller
)

func (s *Service) standing(ctx context.Context, account string) standing {
	c := nacre.CallerFrom(ctx)
	switch {
	case c == nil:
		return stranger
	case c.Service != "" || c.HasRole(s.c.ResellerAdmin):
		return reseller
	case c.ProjectID != "" && account == s.c.Prefix+c.ProjectID, s.byService(ctx, c, account):
		switch {
		case slices.ContainsFunc(s.c.OperatorRoles, c.HasRole):
			return owner
		case slices.ContainsFunc(s.c.ReaderRoles, c.HasRole):
			return reader
		}
	case c.System == "all" && slices.ContainsFunc(append([]string{"admin"}, s.c.ReaderRoles...), c.HasRole):
		return reader
	}
	return stranger
}

// byService says that an account is the one that services keep for the caller's
// project, and that one of them asks.
func (s *Service) byService(ctx context.Context, c *nacre.Caller, account string) bool {
	return s.c.ServicePrefix != "" && c.ProjectID != "" && account == s.c.ServicePrefix+c.ProjectID &&
		slices.ContainsFunc(s.c.ServiceRoles, func(r string) bool { return slices.Contains(accessOf(ctx).ServiceRoles, r) })
}

// Owner reports whether the caller owns an account: sees its keys and ACLs.
func (s *Service) Owner(ctx context.Context, account string) bool {
	return s.standing(ctx, account) >= owner
}

// Reseller reports whether the caller is the reseller's administrator.
func (s *Service) Reseller(ctx context.Context) bool {
	return s.standing(ctx, "") == reseller
}

// allow is nil when the caller may. acl is the container's for the verb, if there
// is a container whose ACL counts.
func (s *Service) allow(ctx context.Context, r Ref, v verb, acl string) error {
	a := accessOf(ctx)
	if a.Signed != nil {
		if a.Signed.Account == r.Account && (a.Signed.Container == "" || a.Signed.Container == r.Container) && r.Object != "" {
			return nil
		}
		return denied(ctx)
	}
	st := s.standing(ctx, r.Account)
	switch {
	case st == reseller, st == owner && v != remove, st == reader && v == read:
		return nil
	case v == remove:
		return denied(ctx)
	}
	refs, members := parseACL(acl)
	caller := nacre.CallerFrom(ctx)
	if caller != nil && crossProject(caller, members) {
		return nil
	}
	if referrerAllowed(a.Referrer, refs) {
		if r.Object != "" || slices.Contains(members, ".rlistings") {
			return nil
		}
		return denied(ctx)
	}
	if caller == nil {
		return denied(ctx)
	}
	if caller.ProjectID != "" && r.Account == s.c.Prefix+caller.ProjectID && slices.ContainsFunc(members, caller.HasRole) {
		return nil
	}
	return s.allowByAccount(ctx, caller, r, v)
}

// allowByAccount looks at the account's own ACL.
func (s *Service) allowByAccount(ctx context.Context, c *nacre.Caller, r Ref, v verb) error {
	acc, err := s.findAccount(ctx, r.Account)
	if err != nil {
		return err
	}
	text := acc.Meta[accountACL]
	if text == "" {
		return denied(ctx)
	}
	var acl map[string][]string
	if err := json.Unmarshal([]byte(text), &acl); err != nil {
		return denied(ctx)
	}
	in := func(level string) bool {
		return crossProject(c, acl[level]) || slices.Contains(acl[level], c.UserID)
	}
	switch {
	case in("admin"), v == read && in("read-only"), in("read-write") && (v == read || r.Container != ""):
		return nil
	}
	return denied(ctx)
}

// crossProject looks for the caller as "project:user", by id or by name; names
// count within the default domain only, where nobody else can take them.
func crossProject(c *nacre.Caller, members []string) bool {
	projects, users := []string{c.ProjectID, "*"}, []string{c.UserID, "*"}
	if inDefault := func(id string) bool { return id == "" || id == "default" }; inDefault(c.UserDomainID) && inDefault(c.ProjectDomainID) {
		projects, users = append(projects, c.ProjectName), append(users, c.UserName)
	}
	for _, p := range projects {
		for _, u := range users {
			if p != "" && u != "" && slices.Contains(members, p+":"+u) {
				return true
			}
		}
	}
	return false
}

// denied is 401 for whom nobody knows, else 403.
func denied(ctx context.Context) error {
	if nacre.CallerFrom(ctx) == nil {
		return nacre.Errorf(nacre.Unauthenticated, "", "This server could not verify that you are authorized to access the document you requested.")
	}
	return nacre.Errorf(nacre.Forbidden, "", "Access was denied to this resource.")
}

// parseACL splits an ACL into referrer designations (without ".r:") and members.
func parseACL(acl string) (referrers, members []string) {
	for part := range strings.SplitSeq(acl, ",") {
		if part = strings.TrimSpace(part); strings.HasPrefix(part, ".r:") {
			referrers = append(referrers, part[3:])
		} else if part != "" {
			members = append(members, part)
		}
	}
	return referrers, members
}

// CleanACL is an ACL as it is kept, of what a user gave. name is the header's.
func CleanACL(name, acl string) (string, error) {
	name = strings.ToLower(name)
	var out []string
	for part := range strings.SplitSeq(acl, ",") {
		part = strings.TrimSpace(part)
		if part == "" {
			continue
		}
		first, second, ok := strings.Cut(part, ":")
		first, second = strings.TrimSpace(first), strings.TrimSpace(second)
		switch {
		case !ok:
			out = append(out, part)
		case !strings.HasPrefix(first, "."):
			out = append(out, part)
		case slices.Contains([]string{".r", ".ref", ".referer", ".referrer"}, first):
			if strings.Contains(name, "write") {
				return "", nacre.Errorf(nacre.Invalid, "", "Referrers not allowed in write ACL: %q", part)
			}
			not := strings.HasPrefix(second, "-")
			second = strings.TrimSpace(strings.TrimPrefix(second, "-"))
			if second != "*" && strings.HasPrefix(second, "*") {
				second = strings.TrimSpace(second[1:])
			}
			if second == "" || second == "." {
				return "", nacre.Errorf(nacre.Invalid, "", "No host/domain value after referrer designation in ACL: %q", part)
			}
			if not {
				second = "-" + second
			}
			out = append(out, ".r:"+second)
		default:
			return "", nacre.Errorf(nacre.Invalid, "", "Unknown designator %q in ACL: %q", first, part)
		}
	}
	return strings.Join(out, ","), nil
}

// referrerAllowed tells whether a Referer is admitted; a later designation
// overrides an earlier one.
func referrerAllowed(referrer string, acl []string) bool {
	host := "unknown"
	if _, rest, ok := strings.Cut(referrer, "://"); ok {
		if i := strings.IndexAny(rest, "/?#"); i >= 0 {
			rest = rest[:i]
		}
		rest = rest[strings.LastIndex(rest, "@")+1:]
		if !strings.HasPrefix(rest, "[") {
			rest, _, _ = strings.Cut(rest, ":")
		}
		if rest != "" {
			host = strings.ToLower(rest)
		}
	}
	allow := false
	for _, m := range acl {
		not := strings.HasPrefix(m, "-")
		m = strings.TrimPrefix(m, "-")
		if m == "*" || m == host || strings.HasPrefix(m, ".") && strings.HasSuffix(host, m) {
			allow = !not
		}
	}
	return allow
}

// Rules show who may do what. They are built in: Swift has no policy file.
func (s *Service) Rules() []nacre.Rule {
	own := "role:" + s.c.ResellerAdmin
	for _, r := range s.c.OperatorRoles {
		own += " or (role:" + r + " and project_id:%(account)s)"
	}
	rd := own
	for _, r := range s.c.ReaderRoles {
		rd += " or (role:" + r + " and project_id:%(account)s)"
	}
	return []nacre.Rule{
		{Name: "account:read", Check: rd, Scopes: []string{"project", "system"}, Description: "Show an account and list its containers; an account ACL admits others.", Operations: []string{"GET /v1/{account}", "HEAD /v1/{account}"}},
		{Name: "account:write", Check: own, Scopes: []string{"project"}, Description: "Change an account's metadata.", Operations: []string{"POST /v1/{account}"}},
		{Name: "account:manage", Check: "role:" + s.c.ResellerAdmin, Scopes: []string{"project"}, Description: "Make and delete accounts, set quotas.", Operations: []string{"PUT /v1/{account}", "DELETE /v1/{account}"}},
		{Name: "container:read", Check: rd, Scopes: []string{"project", "system"}, Description: "Show and list a container; X-Container-Read admits others.", Operations: []string{"GET /v1/{account}/{container}", "HEAD /v1/{account}/{container}"}},
		{Name: "container:write", Check: own, Scopes: []string{"project"}, Description: "Make, change and delete containers.", Operations: []string{"PUT /v1/{account}/{container}", "POST /v1/{account}/{container}", "DELETE /v1/{account}/{container}"}},
		{Name: "object:read", Check: rd, Scopes: []string{"project", "system"}, Description: "Read objects; X-Container-Read and signed URLs admit others.", Operations: []string{"GET /v1/{account}/{container}/{object}", "HEAD /v1/{account}/{container}/{object}"}},
		{Name: "object:write", Check: own, Scopes: []string{"project"}, Description: "Write and delete objects; X-Container-Write and signed URLs admit others.", Operations: []string{"PUT /v1/{account}/{container}/{object}", "POST /v1/{account}/{container}/{object}", "DELETE /v1/{account}/{container}/{object}", "COPY /v1/{account}/{container}/{object}"}},
	}
}
