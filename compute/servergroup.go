package compute

import (
	"context"
	"errors"
	"time"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/compute/scheduler"
	"github.com/nacre-cloud/nacre/internal/policy"
	"github.com/nacre-cloud/nacre/store"
)

// ServerGroup says where servers are to lie with respect to each other. A server
// joins one by the scheduler hint "group", when it is made, and leaves it when it
// is deleted.
type ServerGroup struct {
	ID   string `store:"id,pk"`
	Name string `store:"name"`
	// Policy is affinity, anti-affinity, soft-affinity or soft-anti-affinity.
	Policy string `store:"policy"`
	// MaxPerHost is how many members of an anti-affinity group may share a host;
	// 0 means 1, and that the user did not say.
	MaxPerHost int       `store:"max_per_host"`
	ProjectID  string    `store:"project_id,index=server_group_project"`
	UserID     string    `store:"user_id"`
	Created    time.Time `store:"created_at"`

	// Members are the ids of the servers in it.
	Members []string
}

const groupRule = "os_compute_api:os-server-groups:"

func groupNotFound(id string) *nacre.Error {
	return nacre.Errorf(nacre.NotFound, "InstanceGroupNotFound", "Instance group %s could not be found.", id)
}

// CreateServerGroup makes a group for the caller's project.
func (s *Service) CreateServerGroup(ctx context.Context, g ServerGroup) (ServerGroup, error) {
	c, err := s.caller(ctx)
	if err != nil {
		return g, err
	}
	if err := s.enforce(ctx, groupRule+"create", nil); err != nil {
		return g, err
	}
	g.ID, g.ProjectID, g.UserID, g.Created, g.Members = s.c.IDs.NewID(), c.ProjectID, c.UserID, time.Now().UTC(), nil
	return g, store.InTx(ctx, s.c.Engine, func(ctx context.Context) error {
		if err := s.quota.Lock(ctx, g.ProjectID); err != nil {
			return err
		}
		limits, err := s.quota.Limits(ctx, g.ProjectID)
		if err != nil {
			return err
		}
		n, err := s.groups.Count(ctx, store.Eq("project_id", g.ProjectID))
		if err != nil {
			return err
		}
		if l := limits["server_groups"]; l >= 0 && n >= l {
			return nacre.Errorf(nacre.QuotaExceeded, "OverQuota", "Quota exceeded, too many server groups.")
		}
		if err := s.groups.Insert(ctx, g); err != nil {
			return err
		}
		return s.emit(ctx, "servergroup.create", g.ID, g.ProjectID, groupEvent(g))
	})
}

func groupEvent(g ServerGroup) map[string]any {
	return map[string]any{"server_group_id": g.ID, "name": g.Name, "policies": []string{g.Policy}}
}

// ServerGroups lists the caller's project's groups, or with all every project's
// (which only administrators get; for others it is without effect, as in nova).
// offset skips that many, limit 0 means 1,000. Two statements.
func (s *Service) ServerGroups(ctx context.Context, all bool, offset, limit int) ([]ServerGroup, error) {
	c, err := s.caller(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.enforce(ctx, groupRule+"index", nil); err != nil {
		return nil, err
	}
	w := store.Eq("project_id", c.ProjectID)
	if all && s.allowed(ctx, groupRule+"index:all_projects", policy.Map{}) {
		w = store.All()
	}
	if limit <= 0 || limit > 1000 {
		limit = 1000
	}
	gs, err := s.groups.Select(ctx, store.Select{Where: w, Order: []store.Order{{Column: "created_at"}}, Limit: offset + limit})
	if err != nil {
		return nil, err
	}
	gs = gs[min(offset, len(gs)):]
	return gs, s.fillMembers(ctx, gs)
}

// fillMembers reads who is in the groups. One statement.
func (s *Service) fillMembers(ctx context.Context, gs []ServerGroup) error {
	if len(gs) == 0 {
		return nil
	}
	ids := make([]string, len(gs))
	at := map[string]*ServerGroup{}
	for i := range gs {
		ids[i], at[gs[i].ID] = gs[i].ID, &gs[i]
	}
	rows, err := s.servers.Aggregate(ctx, store.Aggregate{Where: store.And(store.In("group_id", ids), store.Eq("deleted", false)), By: []string{"group_id", "id"}})
	if err != nil {
		return err
	}
	for _, r := range rows {
		g := at[r.Key[0].(string)]
		g.Members = append(g.Members, r.Key[1].(string))
	}
	return nil
}

// ServerGroup is one group with its members.
func (s *Service) ServerGroup(ctx context.Context, id string) (ServerGroup, error) {
	g, err := s.groupFor(ctx, id, groupRule+"show")
	if err != nil {
		return g, err
	}
	gs := []ServerGroup{g}
	err = s.fillMembers(ctx, gs)
	return gs[0], err
}

// groupFor reads a group that the caller may do rule to; another project's is
// not found.
func (s *Service) groupFor(ctx context.Context, id, rule string) (ServerGroup, error) {
	c, err := s.caller(ctx)
	if err != nil {
		return ServerGroup{}, err
	}
	g, err := s.groups.Get(ctx, id)
	if err != nil {
		return g, store.WrapNotFound(err, func() *nacre.Error { return groupNotFound(id) })
	}
	err = s.enforce(ctx, rule, policy.Map{"project_id": g.ProjectID, "user_id": g.UserID})
	if nacre.KindOf(err) == nacre.Forbidden && g.ProjectID != c.ProjectID {
		err = groupNotFound(id)
	}
	return g, err
}

// DeleteServerGroup removes a group; its servers stay where they are.
func (s *Service) DeleteServerGroup(ctx context.Context, id string) error {
	g, err := s.groupFor(ctx, id, groupRule+"delete")
	if err != nil {
		return err
	}
	return store.InTx(ctx, s.c.Engine, func(ctx context.Context) error {
		if err := s.groups.Delete(ctx, id); err != nil {
			return store.WrapNotFound(err, func() *nacre.Error { return groupNotFound(id) })
		}
		if _, err := s.servers.UpdateWhere(ctx, store.Eq("group_id", id), store.Set{"group_id": ""}); err != nil {
			return err
		}
		return s.emit(ctx, "servergroup.delete", id, g.ProjectID, groupEvent(g))
	})
}

// joinGroup checks, in the transaction that makes them, that n servers may join
// a group of the caller's project.
func (s *Service) joinGroup(ctx context.Context, id, project string, n int) error {
	g, err := s.groups.GetForUpdate(ctx, id)
	if errors.Is(err, store.ErrNoRow) || err == nil && g.ProjectID != project {
		return nacre.Errorf(nacre.Invalid, "InstanceGroupNotFound", "Instance group %s could not be found.", id)
	}
	if err != nil {
		return err
	}
	limits, err := s.quota.Limits(ctx, project)
	if err != nil {
		return err
	}
	l := limits["server_group_members"]
	if l < 0 {
		return nil
	}
	have, err := s.servers.Count(ctx, store.Eq("group_id", id), store.Eq("deleted", false))
	if err != nil {
		return err
	}
	if have+int64(n) > l {
		return nacre.Errorf(nacre.QuotaExceeded, "OverQuota", "Quota exceeded, too many servers in group")
	}
	return nil
}

// schedulerGroup is what the scheduler must know of a server's group; nil when it
// has none. Three statements.
func (s *Service) schedulerGroup(ctx context.Context, sv *Server) (*scheduler.Group, error) {
	if sv.GroupID == "" {
		return nil, nil
	}
	g, err := s.groups.Get(ctx, sv.GroupID)
	if errors.Is(err, store.ErrNoRow) {
		return nil, nil // the group was deleted meanwhile
	}
	if err != nil {
		return nil, err
	}
	rows, err := s.servers.Aggregate(ctx, store.Aggregate{By: []string{"host"},
		Where: store.And(store.Eq("group_id", sv.GroupID), store.Eq("deleted", false), store.Not(store.Eq("host", "")), store.Not(store.Eq("id", sv.ID)))})
	if err != nil {
		return nil, err
	}
	out := &scheduler.Group{Policy: g.Policy, Max: max(g.MaxPerHost, 1), Members: map[string]int{}}
	for _, r := range rows {
		out.Members[r.Key[0].(string)] = int(r.Count)
	}
	// A server that moves counts on both its hosts: it may end on either.
	rows, err = s.servers.Aggregate(ctx, store.Aggregate{By: []string{"other_host"},
		Where: store.And(store.Eq("group_id", sv.GroupID), store.Eq("deleted", false), store.Not(store.Eq("other_host", "")), store.Not(store.Eq("id", sv.ID)))})
	if err != nil {
		return nil, err
	}
	for _, r := range rows {
		out.Members[r.Key[0].(string)] += int(r.Count)
	}
	return out, nil
}

// keepsGroup makes sure, in the transaction that claims a host for a server, that
// the choice still fits the server's group: another member may have been faster.
// It is nacre.Conflict if not.
func (s *Service) keepsGroup(ctx context.Context, sv *Server, host string) error {
	if sv.GroupID == "" {
		return nil
	}
	if err := store.Lock(ctx, s.c.Engine, "server_group/"+sv.GroupID); err != nil {
		return err
	}
	g, err := s.schedulerGroup(ctx, sv)
	if err != nil || g == nil {
		return err
	}
	if ok, why := g.Allows(host); !ok {
		return nacre.Errorf(nacre.Conflict, "", "host %s: %s", host, why)
	}
	return nil
}
