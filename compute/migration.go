package compute

import (
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"time"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/compute/hypervisor"
	"github.com/nacre-cloud/nacre/internal/policy"
	"github.com/nacre-cloud/nacre/internal/roster"
	"github.com/nacre-cloud/nacre/store"
)

// The types of a migration (nova's).
const (
	TypeResize     = "resize"
	TypeMigration  = "migration"
	TypeLive       = "live-migration"
	TypeEvacuation = "evacuation"
)

// Migration is a server's way from one host to another, as it is shown. What goes on
// with it is in the server's row (Moving).
type Migration struct {
	ID string `store:"id,pk"`
	// Number is the small id of the API.
	Number    int64  `store:"number,unique=migration_number"`
	ServerID  string `store:"server_id,index=migration_server"`
	ProjectID string `store:"project_id,index=migration_project"`
	UserID    string `store:"user_id"`
	Type      string `store:"type"`
	// Status is nova's: queued, preparing, pre-migrating, migrating, running,
	// post-migrating, finished, confirmed, reverting, reverted, completed, cancelled,
	// done, error.
	Status string `store:"status"`
	// Source and Dest are hosts; DestIP is the latter's address.
	Source string `store:"source"`
	Dest   string `store:"dest"`
	DestIP string `store:"dest_ip"`
	// OldFlavor and NewFlavor are the flavors' ids.
	OldFlavor string              `store:"old_flavor"`
	NewFlavor string              `store:"new_flavor"`
	Progress  hypervisor.Progress `store:"progress,json"`
	Created   time.Time           `store:"created_at,index=migration_created"`
	Updated   time.Time           `store:"updated_at,index=migration_updated"`
}

// Moving is what a server that moves carries until it is at rest.
type Moving struct {
	// Migration is the Migration's id, and the consumer that holds what the server had.
	Migration string `json:"migration"`
	Type      string `json:"type"`
	Ticket    string `json:"ticket"`
	// Wanted is the host that was asked for, "" if any.
	Wanted string `json:"wanted,omitempty"`
	// Switched says that the server's Host is its new one, and OtherHost the old one.
	Switched bool `json:"switched,omitempty"`
	// Tell says that the old host is to know of the move; Cancel that a user called it
	// off; Halt that the old host is to give it up, Drop that the new one is.
	Tell   bool `json:"tell,omitempty"`
	Cancel bool `json:"cancel,omitempty"`
	Halt   bool `json:"halt,omitempty"`
	Drop   bool `json:"drop,omitempty"`
	// Source and Target are the hosts' migration listeners; Offer is the target's.
	Source string `json:"source,omitempty"`
	Target string `json:"target,omitempty"`
	Offer  string `json:"offer,omitempty"`
	// VMState is what the server was; the flavors are what it had and is to have.
	VMState   string `json:"vm_state"`
	OldFlavor Flavor `json:"old_flavor"`
	NewFlavor Flavor `json:"new_flavor"`
	// At is when the server reached its new host.
	At time.Time `json:"at,omitzero"`
	// Sent says that the old host has sent the running guest.
	Sent bool `json:"sent,omitempty"`
	// What is wanted of the other host (nothing while Generation is 0), and what it said.
	Generation int64 `json:"generation,omitempty"`
	Seen
	// Landed says that the other host has the guest whole.
	Landed bool `json:"landed,omitempty"`
}

// next is a generation that neither of the server's hosts has seen.
func (s *Server) next() int64 {
	g := s.Generation
	if s.Move != nil {
		g = max(g, s.Move.Generation)
	}
	return g + 1
}

// swap makes the other host the server's own, and the reverse.
func (s *Server) swap() {
	m := s.Move
	s.Host, s.OtherHost = s.OtherHost, s.Host
	s.Generation, m.Generation = m.Generation, s.Generation
	s.Seen, m.Seen = m.Seen, s.Seen
	m.Switched = !m.Switched
	s.setFlavor(m.OldFlavor)
	if m.Switched {
		s.setFlavor(m.NewFlavor)
	}
}

// setFlavor gives the server a flavor; while it moves, its use counts as the larger of
// the two that it may end with.
func (s *Server) setFlavor(f Flavor) {
	s.Flavor, s.FlavorID = f, f.ID
	g := f
	if m := s.Move; m != nil {
		g.VCPUs, g.RAM = max(m.OldFlavor.VCPUs, m.NewFlavor.VCPUs), max(m.OldFlavor.RAM, m.NewFlavor.RAM)
	}
	s.VCPUs, s.RAM, s.Disk = int64(g.VCPUs), int64(g.RAM), int64(f.Disk+f.Ephemeral)
}

// take notes what the other host says, and reports whether that is news.
func (m *Moving) take(st hypervisor.State, by roster.Mark) bool {
	if st.Generation < m.SeenGen || st.Generation == 0 {
		m.SeenEpoch, m.SeenSequence = by.Epoch, by.Sequence
		return false
	}
	old, news := *m, !m.said(st)
	m.note(st, by)
	if st.Move.ID == m.Migration {
		m.Landed = m.Landed || st.Move.Landed
		if st.Move.Offer != "" {
			m.Offer = st.Move.Offer
		}
	}
	return news || m.Offer != old.Offer || m.Landed != old.Landed
}

// role is the part of the move that one of the server's hosts is told.
func (m *Moving) role(target bool) *hypervisor.Move {
	out := &hypervisor.Move{ID: m.Migration, Kind: hypervisor.Cold, Target: target, Peer: m.Target, Ticket: m.Ticket}
	if target {
		out.Peer = m.Source
	}
	if m.Type == TypeLive {
		out.Kind = hypervisor.Live
		if out.Cancel = m.Drop; !target {
			out.Offer, out.Cancel = m.Offer, m.Halt
		}
	}
	return out
}

// otherDesired is what the server's other host is to do about it; nil is nothing yet.
func (s *Service) otherDesired(ctx context.Context, sv *Server) (*hypervisor.Desired, error) {
	m := sv.Move
	if m == nil || m.Generation == 0 {
		return nil, nil
	}
	side := *sv
	side.Generation, side.Move = m.Generation, nil
	if side.Flavor = m.NewFlavor; m.Switched {
		side.Flavor = m.OldFlavor
	}
	if m.Type != TypeLive {
		side.WantPower = hypervisor.Shutdown
	}
	d, err := s.desired(ctx, &side)
	d.Move = m.role(!m.Switched)
	return &d, err
}

// newMigration makes the row of a move that begins; in the caller's transaction.
func (s *Service) newMigration(ctx context.Context, sv *Server, typ, status string) (Migration, error) {
	if err := store.Lock(ctx, s.c.Engine, "migration"); err != nil {
		return Migration{}, err
	}
	g, err := s.migrations.Aggregate(ctx, store.Aggregate{Max: "number"})
	if err != nil {
		return Migration{}, err
	}
	n, _ := g[0].Max.(int64)
	now := time.Now().UTC()
	m := Migration{ID: s.c.IDs.NewID(), Number: n + 1, ServerID: sv.ID, ProjectID: sv.ProjectID, UserID: sv.UserID, Type: typ, Status: status, Source: sv.Host,
		OldFlavor: sv.FlavorID, NewFlavor: sv.FlavorID, Created: now, Updated: now}
	if c := nacre.CallerFrom(ctx); c != nil {
		m.UserID, m.ProjectID = c.UserID, c.ProjectID
	}
	if sv.Move != nil {
		sv.Move.Migration, sv.Move.Ticket, sv.Move.Type = m.ID, rand.Text(), typ
		m.NewFlavor = sv.Move.NewFlavor.ID
	}
	return m, s.migrations.Insert(ctx, m)
}

// setMigration changes a migration's status; in the caller's transaction.
func (s *Service) setMigration(ctx context.Context, id, status string) error {
	_, err := s.migrations.UpdateWhere(ctx, store.Eq("id", id), store.Set{"status": status, "updated_at": time.Now().UTC()})
	return err
}

// takeProgress notes how far a live migration is.
func (s *Service) takeProgress(ctx context.Context, st hypervisor.State) error {
	if st.Move.Progress == (hypervisor.Progress{}) {
		return nil
	}
	_, err := s.migrations.Update(ctx, st.Move.ID, func(m *Migration) error {
		if m.ServerID == st.ID {
			m.Progress, m.Updated = st.Move.Progress, time.Now().UTC()
		}
		return nil
	})
	if errors.Is(err, store.ErrNoRow) {
		return nil
	}
	return err
}

// InProgress are the states of a live migration that goes on (nova's list).
var InProgress = []string{"queued", "accepted", "preparing", "running", "post-migrating"}

// Migrations lists migrations, newest first, with the caller's right to see all
// projects' or its own. The filters are columns: server_id, status, type, source,
// project_id, user_id; "host" is either end.
func (s *Service) Migrations(ctx context.Context, q nacre.Query, w ...store.Where) ([]Migration, error) {
	const rule = "os_compute_api:os-migrations:index"
	c, err := s.caller(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.enforce(ctx, rule, nil); err != nil {
		return nil, err
	}
	// What a marker must match: it may have ceased to match the filters.
	visible := store.And()
	if project, _ := q.Get("project_id"); project == "" || project != c.ProjectID {
		if err := s.enforce(ctx, rule+":all_projects", policy.Map{}); err != nil {
			return nil, err
		}
	} else {
		visible = store.Eq("project_id", project)
	}
	for _, f := range q.Filters {
		if f.Name == "host" {
			w = append(w, store.Or(store.Eq("source", f.Value), store.Eq("dest", f.Value)))
		} else {
			w = append(w, store.Eq(f.Name, f.Value))
		}
	}
	out, err := s.migrations.Page(ctx, store.Select{Where: store.And(w...), Limit: q.Limit, Order: []store.Order{{Column: "created_at", Desc: true}, {Column: "number", Desc: true}}}, q.Marker, visible)
	return out, store.WrapNotFound(err, func() *nacre.Error {
		return nacre.Errorf(nacre.Invalid, "MarkerNotFound", "Marker %s could not be found.", q.Marker)
	})
}

// SeesMigrationHosts reports whether the caller may see between which hosts servers
// move; rule is the list's.
func (s *Service) SeesMigrationHosts(ctx context.Context, rule string, project string) bool {
	return s.allowed(ctx, rule+":host", policy.Map{"project_id": project})
}

// ServerMigrations are a server's live migrations that go on.
func (s *Service) ServerMigrations(ctx context.Context, server, rule string) ([]Migration, error) {
	if _, err := s.serverFor(ctx, server, rule); err != nil {
		return nil, err
	}
	return s.migrations.Where(ctx, store.Eq("server_id", server), store.Eq("type", TypeLive), store.In("status", InProgress))
}

// ServerMigration is one migration of a server that goes on and is live.
func (s *Service) ServerMigration(ctx context.Context, server string, number int64, rule string) (Migration, error) {
	if _, err := s.serverFor(ctx, server, rule); err != nil {
		return Migration{}, err
	}
	m, err := s.serverMigration(ctx, server, number)
	if err == nil && (m.Type != TypeLive || !slices.Contains(InProgress, m.Status)) {
		err = nacre.Errorf(nacre.NotFound, "", "Migration %d for server %s is not live-migration or not in progress.", number, server)
	}
	return m, err
}

func (s *Service) serverMigration(ctx context.Context, server string, number int64) (Migration, error) {
	m, err := s.migrations.One(ctx, store.Eq("server_id", server), store.Eq("number", number))
	return m, store.WrapNotFound(err, func() *nacre.Error {
		return nacre.Errorf(nacre.NotFound, "MigrationNotFoundForInstance", "Migration %d not found for instance %s", number, server)
	})
}
