package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/nacre-cloud/nacre/compute/hypervisor"
)

// record is what was reached with a server. It is a memory aid: without it (or
// with a file cut off by a crash) the agent still converges, and only errs on
// the mild side.
type record struct {
	Generation int64     `json:"generation"`
	Boot       int64     `json:"boot"`
	Build      int64     `json:"build,omitempty"`
	Built      bool      `json:"built,omitempty"`
	Failed     bool      `json:"failed,omitempty"`
	Gone       bool      `json:"gone,omitempty"`
	GoneAt     time.Time `json:"gone_at,omitzero"`
}

func (a *Agent) path(id string) string { return filepath.Join(a.cfg.Dir, id+".json") }

func (a *Agent) readDir() error {
	if a.cfg.Dir == "" {
		return nil
	}
	if err := os.MkdirAll(a.cfg.Dir, 0o700); err != nil {
		return fmt.Errorf("the agent's directory: %w", err)
	}
	entries, err := os.ReadDir(a.cfg.Dir)
	if err != nil {
		return fmt.Errorf("the agent's directory: %w", err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, e := range entries {
		id, ok := strings.CutSuffix(e.Name(), ".json")
		if !ok || !hypervisor.SafeID(id) {
			continue
		}
		data, err := os.ReadFile(a.path(id))
		if err != nil {
			return err
		}
		var r record
		if json.Unmarshal(data, &r) != nil {
			a.log.Warn("a record was cut off and is not used", "server", id)
			continue
		}
		s := a.get(id)
		s.record, s.known, s.gone = r, true, r.GoneAt
	}
	return nil
}

func (a *Agent) keep(id string, r record) error {
	if a.cfg.Dir == "" {
		return nil
	}
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return os.WriteFile(a.path(id), data, 0o600)
}

func (a *Agent) drop(id string) {
	if a.cfg.Dir == "" {
		return
	}
	if err := os.Remove(a.path(id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		a.log.Error("a record can't be removed", "server", id, "err", err)
	}
}
