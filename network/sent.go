package network

import (
	"sync"
	"time"

	"github.com/nacre-cloud/nacre/network/dataplane"
)

// sendings remembers what this process sent to hosts a short while ago, so that
// waking a host's work for one object does not send again all those that the host
// is still busy with. It is no more than that: what it forgets is sent once more.
type sendings struct {
	mu sync.Mutex
	m  map[string]sending
}

type sending struct {
	wanted int64
	gone   bool
	at     time.Time
}

// due picks the places to send now, notes them as sent, and says after how long to
// look again.
func (s *sendings) due(pending []Place, now time.Time) ([]Place, time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.m == nil {
		s.m = map[string]sending{}
	}
	out, wait := make([]Place, 0, len(pending)), resend
	for _, p := range pending {
		last, ok := s.m[p.ID]
		since := now.Sub(last.at)
		rest := time.Duration(0)
		switch {
		case !ok || since < 0:
		case last.wanted == p.Wanted && last.gone == p.Gone:
			rest = resend - since
		case p.Kind == dataplane.KindSecurityGroup && !p.Gone && !last.gone:
			rest = gather - since
		}
		if rest > 0 {
			wait = min(wait, rest)
			continue
		}
		s.m[p.ID] = sending{p.Wanted, p.Gone, now}
		out = append(out, p)
	}
	if len(s.m) > 2*len(pending)+1000 {
		for id, last := range s.m {
			if now.Sub(last.at) >= resend {
				delete(s.m, id)
			}
		}
	}
	return out, wait
}

// forget has places sent again as soon as they are asked for.
func (s *sendings) forget(ps []Place) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range ps {
		delete(s.m, p.ID)
	}
}
