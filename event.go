package nacre

import (
	"encoding/json"
	"time"
)

// Event is something that happened. It is committed with the change that it
// reports and delivered at least once; consumers drop doubles by ID.
type Event struct {
	// ID is unique for all time.
	ID string `json:"id"`
	// Area is the emitting area's name: "compute".
	Area string `json:"area"`
	// Type is the OpenStack notification's event type: "compute.instance.create.end".
	Type string `json:"type"`
	// Resource is the id of what it happened to.
	Resource string `json:"resource,omitempty"`
	// ProjectID and UserID say under whom.
	ProjectID string `json:"project_id,omitempty"`
	UserID    string `json:"user_id,omitempty"`
	// RequestID says under which request.
	RequestID string `json:"request_id,omitempty"`
	// At is when, UTC.
	At time.Time `json:"at"`
	// Payload is the event's own content.
	Payload json.RawMessage `json:"payload,omitempty"`
}
