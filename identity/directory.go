package identity

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/identity/domainconfig"
	"github.com/nacre-cloud/nacre/identity/kit"
	"github.com/nacre-cloud/nacre/identity/revoke"
	"github.com/nacre-cloud/nacre/store"
)

// ofDirectory is the source of rows that only repeat what a directory says.
const ofDirectory = "directory"

// directoryID is what the id of a user or group here stands for there (Keystone's
// id_mapping).
type directoryID struct {
	ID       string `store:"public_id,pk"`
	DomainID string `store:"domain_id,index=id_mapping_domain"`
	LocalID  string `store:"local_id"`
	Kind     string `store:"entity_type"`
}

// directories are the domains' directories.
type directories struct {
	fixed map[string]Directory
	open  func(context.Context, domainconfig.Options) (Directory, error)

	mu     sync.Mutex
	opened map[string]*openDirectory
}

// openDirectory is a directory that a domain's configuration names; nil dir is none.
type openDirectory struct {
	config string
	dir    Directory
	at     time.Time
}

// configFor is how long a domain's configuration is believed.
const configFor = 5 * time.Second

// directory is a domain's directory, or nil where its users are kept here.
func (s *Service) directory(ctx context.Context, domainID string) (Directory, error) {
	d := s.directories
	if dir, ok := d.fixed[domainID]; ok || d.open == nil {
		return dir, nil
	}
	d.mu.Lock()
	o := d.opened[domainID]
	d.mu.Unlock()
	if o != nil && time.Since(o.at) < configFor {
		return o.dir, nil
	}
	c, err := s.DomainConfigs.ForDriver(ctx, domainID)
	if err != nil {
		return nil, err
	}
	b, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	n := &openDirectory{config: string(b), at: time.Now()}
	switch {
	case o != nil && o.config == n.config:
		n.dir = o.dir
	case c["identity"]["driver"] == "ldap":
		if n.dir, err = d.open(ctx, c); err != nil {
			return nil, &nacre.Error{Kind: nacre.Unavailable, Code: "ServiceUnavailable", Message: "The directory of the domain is not configured well.", Err: err}
		}
	}
	d.mu.Lock()
	d.opened[domainID] = n
	d.mu.Unlock()
	if c, ok := dirOf(o).(io.Closer); ok && o.dir != n.dir {
		_ = c.Close()
	}
	return n.dir, nil
}

func dirOf(o *openDirectory) Directory {
	if o == nil {
		return nil
	}
	return o.dir
}

// tryDirectory refuses a configuration whose directory can't be opened; nil is no try.
func tryDirectory(open func(context.Context, domainconfig.Options) (Directory, error)) func(domainconfig.Options) error {
	if open == nil {
		return nil
	}
	return func(c domainconfig.Options) error {
		if c["identity"]["driver"] != "ldap" {
			return nil
		}
		dir, err := open(context.Background(), c)
		if closer, ok := dir.(io.Closer); ok && err == nil {
			_ = closer.Close()
		}
		return err
	}
}

// errReadOnly refuses changes of what a directory keeps.
func errReadOnly() error { return kit.Forbidden("LDAP does not support write operations") }

// writable refuses to make users or groups in a domain that a directory keeps.
func (s *Service) writable(ctx context.Context, domainID string) error {
	dir, err := s.directory(ctx, domainID)
	if err == nil && dir != nil {
		err = errReadOnly()
	}
	return err
}

// changes are the rules of what a directory's users and groups don't allow.
var changes = []string{"update_user", "delete_user", "update_group", "delete_group", "add_user_to_group", "remove_user_from_group"}

// keptElsewhere refuses a change of what a directory keeps.
func keptElsewhere(source, rule string) error {
	if source == ofDirectory && slices.Contains(changes, rule) {
		return errReadOnly()
	}
	return nil
}

// publicIDs finds the ids that a directory's ids have here, noting new ones.
func (s *Service) publicIDs(ctx context.Context, domainID, kind string, local []string) ([]string, error) {
	out := make([]string, len(local))
	for i, id := range local {
		out[i] = publicID(domainID, kind, id)
	}
	rows, err := s.directoryIDs.Where(ctx, store.In("public_id", out))
	if err != nil {
		return nil, err
	}
	known := map[string]directoryID{}
	for _, r := range rows {
		known[r.ID] = r
	}
	held := false
	for i, id := range local {
		want := directoryID{ID: out[i], DomainID: domainID, LocalID: id, Kind: kind}
		have, ok := known[out[i]]
		if ok && have != want {
			// Domain and id run together: two pairs can give one text.
			want.ID = publicID(domainID, kind, kit.Joined(domainID, kind, id))
			have, err = s.directoryIDs.Get(ctx, want.ID)
			if ok = err == nil; err != nil && !errors.Is(err, store.ErrNoRow) {
				return nil, err
			}
			if ok && have != want {
				return nil, errors.New("identity: two ids of directories have one id here")
			}
		}
		out[i] = want.ID
		if !ok {
			known[want.ID] = want
			if !held {
				if _, err := s.holdDomain(ctx, domainID); err != nil {
					return nil, err
				}
				held = true
			}
			if err := s.directoryIDs.Insert(ctx, want); err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}

// syncUsers brings the rows of a directory's users up to date and returns their
// ids.
func (s *Service) syncUsers(ctx context.Context, domainID string, us []DirectoryUser) (ids []string, err error) {
	if len(us) == 0 {
		return nil, nil
	}
	err = s.area.Tx(ctx, func(ctx context.Context) error {
		local := make([]string, len(us))
		for i := range us {
			local[i] = us[i].ID
		}
		if ids, err = s.publicIDs(ctx, domainID, "user", local); err != nil {
			return err
		}
		rows, err := s.users.Where(ctx, store.In("id", ids))
		if err != nil {
			return err
		}
		have := map[string]User{}
		for _, r := range rows {
			have[r.ID] = r
		}
		if len(have) < len(ids) {
			if _, err := s.holdDomain(ctx, domainID); err != nil {
				return err
			}
		}
		for i := range us {
			old, ok := have[ids[i]]
			if err := s.syncUser(ctx, domainID, ids[i], &us[i], old, ok); err != nil {
				return err
			}
			have[ids[i]] = User{ID: ids[i], Name: us[i].Name, Enabled: us[i].Enabled, Source: ofDirectory}
		}
		return nil
	})
	return ids, err
}

// shown are the attributes that are kept with what a user has besides.
func (du *DirectoryUser) shown() map[string]string {
	out := map[string]string{"email": du.Email, "description": du.Description}
	maps.Copy(out, du.Extra)
	return out
}

// unlike are the attributes that are otherwise than they were.
func unlike(have map[string]any, want map[string]string) map[string]any {
	out := map[string]any{}
	for k, v := range want {
		if was, _ := have[k].(string); was != v {
			out[k] = v
		}
	}
	return out
}

func (s *Service) syncUser(ctx context.Context, domainID, id string, du *DirectoryUser, old User, there bool) error {
	set := func(u *User) error {
		u.Name, u.Enabled = du.Name, du.Enabled
		u.Extra = kit.Merge(u.Extra, unlike(u.Extra, du.shown()))
		if du.DefaultProjectID != "" {
			u.DefaultProjectID = du.DefaultProjectID
		}
		return nil
	}
	if !there {
		u := User{ID: id, DomainID: domainID, Options: Options{}, Source: ofDirectory}
		_ = set(&u)
		return s.users.Insert(ctx, u)
	}
	if old.Name == du.Name && old.Enabled == du.Enabled && len(unlike(old.Extra, du.shown())) == 0 &&
		(du.DefaultProjectID == "" || du.DefaultProjectID == old.DefaultProjectID) {
		return nil
	}
	if _, err := s.users.Update(ctx, id, set); err != nil {
		return err
	}
	return s.Revocations.Record(ctx, revoke.Row{UserID: id, Stale: !old.Enabled || du.Enabled})
}

// syncGroups is syncUsers for groups.
func (s *Service) syncGroups(ctx context.Context, domainID string, gs []DirectoryGroup) (ids []string, err error) {
	if len(gs) == 0 {
		return nil, nil
	}
	err = s.area.Tx(ctx, func(ctx context.Context) error {
		local := make([]string, len(gs))
		for i := range gs {
			local[i] = gs[i].ID
		}
		if ids, err = s.publicIDs(ctx, domainID, "group", local); err != nil {
			return err
		}
		rows, err := s.groups.Where(ctx, store.Eq("domain_id", domainID))
		if err != nil {
			return err
		}
		for i, g := range gs {
			if err := s.syncGroup(ctx, domainID, ids[i], g, rows); err != nil {
				return err
			}
		}
		return nil
	})
	return ids, err
}

func (s *Service) syncGroup(ctx context.Context, domainID, id string, g DirectoryGroup, rows []Group) error {
	mine := -1
	for n := range rows {
		r := &rows[n]
		switch {
		case r.ID == id:
			mine = n
		case r.Name == g.Name && r.Source == ofDirectory:
			// That one has another name by now, or is gone.
			if _, err := s.groups.Update(ctx, r.ID, func(o *Group) error { o.Name = o.ID; return nil }); err != nil {
				return err
			}
			r.Name = r.ID
		}
	}
	if mine < 0 {
		if _, err := s.holdDomain(ctx, domainID); err != nil {
			return err
		}
		return s.groups.Insert(ctx, Group{ID: id, DomainID: domainID, Name: g.Name, Description: g.Description, Source: ofDirectory, Extra: unlike(nil, g.Extra)})
	}
	if r := &rows[mine]; r.Name == g.Name && r.Description == g.Description && len(unlike(r.Extra, g.Extra)) == 0 {
		return nil
	}
	rows[mine].Name, rows[mine].Description = g.Name, g.Description
	_, err := s.groups.Update(ctx, id, func(o *Group) error {
		o.Name, o.Description, o.Extra = g.Name, g.Description, kit.Merge(o.Extra, unlike(o.Extra, g.Extra))
		return nil
	})
	return err
}

// refresh asks the directory that keeps a user how it is now, groups included. One
// that is gone there is NotFound. Users who are kept here come back as they are.
func (s *Service) refresh(ctx context.Context, u User) (User, error) {
	if u.Source != ofDirectory {
		return u, nil
	}
	dir, err := s.directory(ctx, u.DomainID)
	if err != nil {
		return u, err
	}
	at, err := s.directoryIDs.Get(ctx, u.ID)
	if err != nil {
		return u, err
	}
	if dir == nil {
		return u, store.ErrNoRow
	}
	du, err := dir.User(ctx, at.LocalID)
	if err != nil {
		return u, directoryErr(err)
	}
	return s.fetched(ctx, u.DomainID, dir, du)
}

// directoryErr hides which words a directory has for what is not there.
func directoryErr(err error) error {
	if errors.Is(err, nacre.NotFound) {
		return store.ErrNoRow
	}
	return err
}

// fetched is the row of a user that a directory has just told of.
func (s *Service) fetched(ctx context.Context, domainID string, dir Directory, du DirectoryUser) (User, error) {
	gs, err := dir.GroupsOf(ctx, du.ID)
	if err != nil {
		return User{}, directoryErr(err)
	}
	ids, err := s.syncUsers(ctx, domainID, []DirectoryUser{du})
	if err != nil {
		return User{}, err
	}
	groups, err := s.syncGroups(ctx, domainID, gs)
	if err != nil {
		return User{}, err
	}
	err = s.area.Tx(ctx, func(ctx context.Context) error {
		changed, err := s.sameMembers(ctx, ids[0], ofDirectory, groups, nil)
		if err != nil || !changed {
			return err
		}
		return s.Revocations.Record(ctx, revoke.Row{UserID: ids[0], Stale: true})
	})
	if err != nil {
		return User{}, err
	}
	return s.users.Get(ctx, ids[0])
}

// directoryUserNamed finds a user by name where a directory keeps the domain; ok is
// false where none does.
func (s *Service) directoryUserNamed(ctx context.Context, domainID, name string) (u User, ok bool, err error) {
	dir, err := s.directory(ctx, domainID)
	if err != nil || dir == nil {
		return u, false, err
	}
	du, err := dir.UserByName(ctx, name)
	if err != nil {
		return u, true, directoryErr(err)
	}
	u, err = s.fetched(ctx, domainID, dir, du)
	return u, true, err
}

// checkDirectoryPassword has the directory check a password.
func (s *Service) checkDirectoryPassword(ctx context.Context, u User, pw string) (User, error) {
	u, err := s.refresh(ctx, u)
	if err != nil {
		return u, kit.Gone(err, "the directory's user is gone")
	}
	dir, err := s.directory(ctx, u.DomainID)
	if err != nil {
		return u, err
	}
	at, err := s.directoryIDs.Get(ctx, u.ID)
	if err != nil {
		return u, err
	}
	ok := false
	if dir != nil && pw != "" {
		if ok, err = dir.Authenticate(ctx, at.LocalID, pw); err != nil {
			return u, err
		}
	}
	if !ok {
		return u, kit.Unauthenticated("the directory refuses the password")
	}
	return u, s.checkAlive(ctx, &u)
}

// inDomain is the domain that a list is about, or "".
func inDomainOf(q nacre.Query, own string) string {
	if v, ok := q.Get("domain_id"); ok {
		return v
	}
	return own
}

// directoryUsers narrows a list to what a domain's directory has now; ok is false
// where none keeps the domain, or the list is about no domain.
func (s *Service) directoryUsers(ctx context.Context, q nacre.Query, own string) (w store.Where, ok bool, err error) {
	domain := inDomainOf(q, own)
	if domain == "" {
		return w, false, nil
	}
	dir, err := s.directory(ctx, domain)
	if err != nil || dir == nil {
		return w, false, err
	}
	var us []DirectoryUser
	if name, ok := q.Get("name"); ok {
		du, err := dir.UserByName(ctx, name)
		if err == nil {
			us = append(us, du)
		} else if !errors.Is(err, nacre.NotFound) {
			return w, true, err
		}
	} else if us, err = dir.Users(ctx); err != nil {
		return w, true, err
	}
	ids, err := s.syncUsers(ctx, domain, us)
	return store.In("id", ids), true, err
}

// directoryGroups is directoryUsers for groups.
func (s *Service) directoryGroups(ctx context.Context, q nacre.Query, own string) (w store.Where, ok bool, err error) {
	domain := inDomainOf(q, own)
	if domain == "" {
		return w, false, nil
	}
	dir, err := s.directory(ctx, domain)
	if err != nil || dir == nil {
		return w, false, err
	}
	gs, err := dir.Groups(ctx)
	if err != nil {
		return w, true, err
	}
	ids, err := s.syncGroups(ctx, domain, gs)
	return store.In("id", ids), true, err
}

// refreshMembers asks the directory that keeps a group who is in it.
func (s *Service) refreshMembers(ctx context.Context, g Group) error {
	if g.Source != ofDirectory {
		return nil
	}
	dir, err := s.directory(ctx, g.DomainID)
	if err != nil {
		return err
	}
	at, err := s.directoryIDs.Get(ctx, g.ID)
	if err != nil {
		return err
	}
	if dir == nil {
		return kit.NotFound("group", g.ID)
	}
	us, err := dir.Members(ctx, at.LocalID)
	if err != nil {
		return kit.OrNotFound(directoryErr(err), "group", g.ID)
	}
	ids, err := s.syncUsers(ctx, g.DomainID, us)
	if err != nil {
		return err
	}
	return s.area.Tx(ctx, func(ctx context.Context) error {
		have, err := s.members.Where(ctx, store.Eq("group_id", g.ID))
		if err != nil {
			return err
		}
		var changed []revoke.Row
		for _, m := range have {
			if i := slices.Index(ids, m.UserID); i >= 0 {
				ids = slices.Delete(ids, i, i+1)
				continue
			}
			if err := s.members.Delete(ctx, m.ID); err != nil {
				return err
			}
			changed = append(changed, revoke.Row{UserID: m.UserID, Stale: true})
		}
		for _, id := range ids {
			if err := s.members.Insert(ctx, membership{ID: g.ID + "|" + id, GroupID: g.ID, UserID: id, Source: ofDirectory}); err != nil {
				return err
			}
			changed = append(changed, revoke.Row{UserID: id, Stale: true})
		}
		if len(changed) == 0 {
			return nil
		}
		return s.Revocations.Record(ctx, changed...)
	})
}
