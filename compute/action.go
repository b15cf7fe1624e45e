package compute

import (
	"context"
	"errors"
	"time"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/internal/policy"
	"github.com/nacre-cloud/nacre/store"
)

// Action is something that was asked of a server (nova's instance action), with
// its one event.
type Action struct {
	ID        string    `store:"id,pk"`
	ServerID  string    `store:"server_id,index=action_server"`
	RequestID string    `store:"request_id"`
	Name      string    `store:"action"`
	ProjectID string    `store:"project_id"`
	UserID    string    `store:"user_id"`
	Host      string    `store:"host"`
	Start     time.Time `store:"start_time"`
	Updated   time.Time `store:"updated_at"`
	// Finish is zero while it runs; Result is "Success" or "Error".
	Finish  time.Time `store:"finish_time,null"`
	Result  string    `store:"result"`
	Message string    `store:"message"`
}

// beginAction notes an action; in the caller's transaction.
func (s *Service) beginAction(ctx context.Context, sv Server, name string) error {
	now := time.Now().UTC()
	a := Action{ServerID: sv.ID, Name: name, ProjectID: sv.ProjectID, Start: now, Updated: now, Host: sv.Host}
	if c := nacre.CallerFrom(ctx); c != nil {
		a.RequestID, a.UserID, a.ProjectID = c.RequestID, c.UserID, c.ProjectID
	}
	if a.RequestID == "" {
		a.RequestID = "req-" + s.c.IDs.NewID()
	}
	a.ID = s.c.IDs.NewID()
	return s.actions.Insert(ctx, a)
}

// endAction closes the newest open action of that name; in the caller's transaction.
func (s *Service) endAction(ctx context.Context, server, name string, cause error) error {
	set := store.Set{"finish_time": time.Now().UTC(), "updated_at": time.Now().UTC(), "result": "Success"}
	if cause != nil {
		set["result"], set["message"] = "Error", cause.Error()
	}
	_, err := s.actions.UpdateWhere(ctx, store.And(store.Eq("server_id", server), store.Eq("action", name), store.IsNull("finish_time")), set)
	return err
}

// cutActions closes what is open, whatever its name, because something else takes
// its place; in the caller's transaction.
func (s *Service) cutActions(ctx context.Context, server, why string) error {
	now := time.Now().UTC()
	_, err := s.actions.UpdateWhere(ctx, store.And(store.Eq("server_id", server), store.IsNull("finish_time")),
		store.Set{"finish_time": now, "updated_at": now, "result": "Error", "message": why})
	return err
}

// Actions lists what was asked of a server, newest first. A deleted server's are
// still there.
func (s *Service) Actions(ctx context.Context, server string, q nacre.Query, w ...store.Where) ([]Action, error) {
	if err := s.mayReadActions(ctx, server, "os_compute_api:os-instance-actions:list"); err != nil {
		return nil, err
	}
	marker := ""
	if q.Marker != "" {
		// The API's marker is a request id.
		m, err := s.actions.One(ctx, store.Eq("server_id", server), store.Eq("request_id", q.Marker))
		if err != nil && !errors.Is(err, store.ErrNoRow) {
			return nil, err
		}
		if marker = m.ID; marker == "" {
			return nil, nacre.Errorf(nacre.Invalid, "", "marker [%s] not found", q.Marker)
		}
	}
	as, err := s.actions.Page(ctx, store.Select{Where: store.And(append(w, store.Eq("server_id", server))...), Limit: q.Limit,
		Order: []store.Order{{Column: "start_time", Desc: true}}}, marker, store.Eq("server_id", server))
	return as, err
}

// ActionByRequest is one action.
func (s *Service) ActionByRequest(ctx context.Context, server, request string) (Action, error) {
	if err := s.mayReadActions(ctx, server, "os_compute_api:os-instance-actions:show"); err != nil {
		return Action{}, err
	}
	a, err := s.actions.One(ctx, store.Eq("server_id", server), store.Eq("request_id", request))
	return a, store.WrapNotFound(err, func() *nacre.Error { return nacre.Errorf(nacre.NotFound, "", "Action %s not found", request) })
}

func (s *Service) mayReadActions(ctx context.Context, server, rule string) error {
	sv, err := s.servers.Get(ctx, server)
	if err != nil {
		return store.WrapNotFound(err, func() *nacre.Error { return serverNotFound(server) })
	}
	if err := s.enforce(ctx, rule, policy.Map{"project_id": sv.ProjectID, "user_id": sv.UserID}); err != nil {
		return serverNotFound(server)
	}
	return nil
}

// HostID is the opaque name of the action's host.
func (a Action) HostID() string { return hashHost(a.ProjectID, a.Host) }
