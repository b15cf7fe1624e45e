package hypervisor

import (
	"context"
	"io"
	"time"
)

// A server moves between two hosts in one of two kinds.
//
// Cold: the source's guest is off, its agent serves the server's files on its
// migration listener to whoever shows the move's ticket; the target pulls them
// ([Mover.Receive]) and ends with a guest that is off. The source keeps what it has
// until a tombstone (the move was confirmed) or a Desired without a Move (it was
// called off) comes.
//
// Live: the target prepares ([Mover.Prepare]) and reports an offer; the source,
// given that offer, sends the running guest ([Mover.Migrate]). The guest is where
// the hypervisors say that it runs; if they say nothing, the source keeps it. A
// target that is told to cancel drops what it prepared, unless the guest has
// arrived: then it says so.
//
// Every message may come twice or late, every process may die at any moment: each
// side looks at what is there and goes on from that.

// MoveKind is how a server moves.
type MoveKind string

// The kinds.
const (
	Cold MoveKind = "cold"
	Live MoveKind = "live"
)

// Move is a server's way to another host, as one of the two hosts is told.
type Move struct {
	// ID is the migration's uuid.
	ID   string   `json:"id"`
	Kind MoveKind `json:"kind"`
	// Target says that this host is where the server goes; else it comes from here.
	Target bool `json:"target,omitempty"`
	// Peer is the other host's migration listener ("https://10.0.0.2:6083"): a target
	// pulls the files from it.
	Peer string `json:"peer"`
	// Ticket is what each host shows the other: random, for this move of this server.
	Ticket string `json:"ticket"`
	// Offer is what the target of a live move reported; the source hands it to its driver.
	Offer string `json:"offer,omitempty"`
	// Cancel calls a live move off, if that is still possible.
	Cancel bool `json:"cancel,omitempty"`
}

// MoveState is what a host says of a move.
type MoveState struct {
	ID string `json:"id"`
	// Offer is set once a live move's target is ready.
	Offer string `json:"offer,omitempty"`
	// Moved says that the guest is not this host's any more: it was sent.
	Moved bool `json:"moved,omitempty"`
	// Landed says that the guest came here whole: it runs, or stands still as it did.
	Landed bool `json:"landed,omitempty"`
	Progress
}

// Progress is how far a live move is, in bytes; zeros if unknown.
type Progress struct {
	MemoryTotal, MemoryDone, MemoryLeft int64
	DiskTotal, DiskDone, DiskLeft       int64
}

// Mover is what a driver implements besides [Driver] if its instances can move
// between hosts with drivers of the same kind. The rules of Driver hold.
type Mover interface {
	// Files are what a server has on this host and a target must have: its disks, and
	// what they are made on.
	Files(ctx context.Context, id string) ([]File, error)
	// OpenFile reads one of them.
	OpenFile(ctx context.Context, id, name string) (io.ReadCloser, error)
	// Receive makes the server out of the files of a peer and leaves it off. Its root and
	// ephemeral disks are at least as large as spec says, with what was on them; its swap
	// disk is of that size, and empty where that is another. Called again after a crash it
	// starts over.
	Receive(ctx context.Context, spec Spec, from Peer) error
	// Prepare makes ready for a guest that comes running, and returns what the source's
	// driver must know to send it. Until the guest is here the instance is Partial.
	Prepare(ctx context.Context, spec Spec, from Peer) (offer string, err error)
	// Migrate sends a guest that runs or is paused to a host that is prepared, and returns
	// once it is so there, after which the instance here is off and Moved; an error means that it is
	// still here. A ctx that ends calls it off: what came of it says the returned error.
	// Called again after a crash it finds out and goes on.
	Migrate(ctx context.Context, id, offer string, to Peer, progress func(Progress)) error
	// Hurry has a Migrate that is under way finish at the cost of the guest's pace.
	Hurry(ctx context.Context, id string) error
}

// Lander is a Mover whose guests travel through the migration listeners of the
// agents, and not by means of the hypervisor's own.
type Lander interface {
	// Land takes in the guest that a peer sends, once it is Prepared. Landing again
	// what has landed is success.
	Land(ctx context.Context, id string, guest io.Reader) error
}

// File is something that a server consists of. Name is a plain name, as in a directory.
type File struct {
	Name string `json:"name"`
	// Size is in bytes, as read.
	Size int64 `json:"size"`
	// Shared files (an image's copy) are the same for all servers that have one of
	// that name; who has it need not read it.
	Shared bool `json:"shared,omitempty"`
	// Fixed files are the server's own, but do not change while its guest runs, so that
	// the target of a live move may read them.
	Fixed bool `json:"fixed,omitempty"`
	// Format is the disk's: "raw", "qcow2"; "" for what is no disk.
	Format string `json:"format,omitempty"`
	// Virtual is the size in bytes of the disk that a guest sees.
	Virtual int64 `json:"virtual,omitempty"`
}

// Peer is the other host of a move.
type Peer interface {
	// Files and Open are Mover's Files and OpenFile there.
	Files(ctx context.Context) ([]File, error)
	Open(ctx context.Context, name string) (io.ReadCloser, error)
	// Send hands a guest to Lander's Land there.
	Send(ctx context.Context, guest io.Reader) error
}

// Call is what compute asks a host that is to answer at once.
type Call struct {
	ConsoleRequest
	// Hurry asks for [Mover.Hurry] of the server instead.
	Hurry bool `json:"hurry,omitempty"`
}

// ProgressEvery is how often a driver tells of its progress at most.
const ProgressEvery = time.Second
