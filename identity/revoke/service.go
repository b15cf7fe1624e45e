package revoke

import (
	"errors"
	"sync"
	"time"

	"github.com/nacre-cloud/nacre/identity/fernet"
	"github.com/nacre-cloud/nacre/identity/kit"
	"github.com/nacre-cloud/nacre/store"
)

// Config is what a Service is made of. All must be set, as kit.Area says.
type Config struct {
	kit.Area
	// TTL is how long a token lives at the most.
	TTL time.Duration
}

// Service is revocations. Its methods are safe for concurrent use.
type Service struct {
	area  kit.Area
	table *store.Table[Row]
	ttl   time.Duration

	syncing chan struct{} // held while the table is read

	mu     sync.RWMutex
	marks  map[string]mark
	seen   map[string]time.Time // ids of the last minute's rows
	seq    uint64               // of the last change
	synced time.Time            // when Sync last began to read
	last   time.Time            // when anything last did
}

// New makes a Service. It reads nothing from the engine yet.
func New(cfg Config) (*Service, error) {
	if err := cfg.Check("revoke"); err != nil {
		return nil, err
	}
	if cfg.TTL <= 0 {
		return nil, errors.New("revoke: Config.TTL is missing")
	}
	return &Service{area: cfg.Area, table: newTable(cfg.Engine), ttl: cfg.TTL, syncing: make(chan struct{}, 1), marks: map[string]mark{}, seen: map[string]time.Time{}}, nil
}

// Subject is a token as far as it can be revoked.
type Subject struct {
	Token *fernet.Token
	// UserDomainID is the domain of the token's user, DomainID that of its scope.
	UserDomainID, DomainID string
	// Others are users whom the token rests on besides its own.
	Others []string
}
