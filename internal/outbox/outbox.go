// Package outbox keeps events with the change that they report and hands them to
// the bus afterwards. [Outbox.Emit] writes a row in the caller's transaction;
// [Outbox.Run] publishes rows in order and deletes what it sent, so an event is
// delivered at least once and never without its change.
package outbox

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"time"

	"github.com/google/uuid"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/store"
)

// Row is a waiting event.
type Row struct {
	// ID sorts by time (UUIDv7) and is the event's id.
	ID   string      `store:"id,pk"`
	Body nacre.Event `store:"body,json"`
}

// Table is the definition for an area's schema.
func Table() *store.TableDef { return store.Define[Row]("outbox") }

// Outbox belongs to one area.
type Outbox struct {
	area string
	rows *store.Table[Row]
	kick chan struct{}
	log  *slog.Logger
}

// New makes the outbox of an area. log may be nil.
func New(area string, e store.Engine, log *slog.Logger) *Outbox {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Outbox{area: area, rows: store.NewTable[Row](e, "outbox"), kick: make(chan struct{}, 1), log: log}
}

// Emit records an event in the context's transaction; outside one it is an
// error. The caller in the context is the one reported.
func (o *Outbox) Emit(ctx context.Context, typ, resource, projectID string, payload any) error {
	if !store.Inside(ctx, o.rows.Engine()) {
		return store.ErrTx
	}
	e := nacre.Event{Area: o.area, Type: typ, Resource: resource, ProjectID: projectID, At: time.Now().UTC()}
	id, err := uuid.NewV7()
	if err != nil {
		return err
	}
	e.ID = id.String()
	if c := nacre.CallerFrom(ctx); c != nil {
		e.UserID, e.RequestID = c.UserID, c.RequestID
	}
	if payload != nil {
		if e.Payload, err = json.Marshal(payload); err != nil {
			return err
		}
	}
	store.AfterCommit(ctx, o.Kick)
	return o.rows.Insert(ctx, Row{ID: e.ID, Body: e})
}

// Kick makes Run look now.
func (o *Outbox) Kick() {
	select {
	case o.kick <- struct{}{}:
	default:
	}
}

// Run relays until ctx ends. What publish refuses is tried again later.
func (o *Outbox) Run(ctx context.Context, publish func(ctx context.Context, e nacre.Event) error) {
	const batch = 200
	tick := time.NewTicker(2 * time.Second)
	defer tick.Stop()
	for ctx.Err() == nil {
		n, err := o.relay(ctx, publish, batch)
		if err != nil && !errors.Is(err, context.Canceled) {
			o.log.Warn("outbox", "area", o.area, "error", err)
		}
		if n == batch {
			continue
		}
		select {
		case <-ctx.Done():
		case <-o.kick:
		case <-tick.C:
		}
	}
}

func (o *Outbox) relay(ctx context.Context, publish func(ctx context.Context, e nacre.Event) error, limit int) (int, error) {
	rows, err := o.rows.Select(ctx, store.Select{Limit: limit})
	if err != nil || len(rows) == 0 {
		return 0, err
	}
	sent := make([]string, 0, len(rows))
	var failed error
	for _, r := range rows {
		if failed = publish(ctx, r.Body); failed != nil {
			break
		}
		sent = append(sent, r.ID)
	}
	if len(sent) > 0 {
		if _, err := o.rows.DeleteWhere(ctx, store.In("id", sent)); err != nil {
			return 0, err
		}
	}
	return len(sent), failed
}
