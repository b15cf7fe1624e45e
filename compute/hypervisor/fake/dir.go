package fake

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// The directory holds one file per instance, "<id>.<version>.json". A change
// writes the next version and then removes the last: a process that dies leaves
// the old state or the new one. A new name each time, because file systems flush
// a file that is replaced by rename, at a cost that a boot storm would notice.
// There is no fsync: a simulated guest does not outlive the machine's power
// either.

func (d *Driver) file(id string, version int) string {
	return filepath.Join(d.cfg.Dir, fmt.Sprintf("%s.%d.json", id, version))
}

func (d *Driver) load() error {
	if d.cfg.Dir == "" {
		return nil
	}
	if err := os.MkdirAll(d.cfg.Dir, 0o700); err != nil {
		return fmt.Errorf("the simulated hypervisor's directory: %w", err)
	}
	entries, err := os.ReadDir(d.cfg.Dir)
	if err != nil {
		return fmt.Errorf("the simulated hypervisor's directory: %w", err)
	}
	newest := map[string]int{}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".json.tmp") {
			if err := os.Remove(filepath.Join(d.cfg.Dir, e.Name())); err != nil {
				return err
			}
		}
		if id, version, ok := parseName(e.Name()); ok {
			newest[id] = max(newest[id], version)
		}
	}
	for _, e := range entries {
		id, version, ok := parseName(e.Name())
		if !ok {
			continue
		}
		path := filepath.Join(d.cfg.Dir, e.Name())
		if version < newest[id] {
			if err := os.Remove(path); err != nil {
				return err
			}
			continue
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		in := &instance{version: version}
		if err := json.Unmarshal(data, in); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		if in.Spec.ID != id {
			return fmt.Errorf("%s: holds the instance %q", path, in.Spec.ID)
		}
		d.instances[id] = in
	}
	return nil
}

func parseName(name string) (id string, version int, ok bool) {
	name, ok = strings.CutSuffix(name, ".json")
	if !ok {
		return "", 0, false
	}
	id, v, ok := strings.Cut(name, ".")
	version, err := strconv.Atoi(v)
	return id, version, ok && err == nil
}

// save keeps the instance; its version goes up.
func (d *Driver) save(in *instance) error {
	if d.cfg.Dir == "" {
		return nil
	}
	data, err := json.Marshal(in)
	if err != nil {
		return err
	}
	path := d.file(in.Spec.ID, in.version+1)
	if err := os.WriteFile(path+".tmp", data, 0o600); err != nil {
		return err
	}
	if err := os.Rename(path+".tmp", path); err != nil {
		return err
	}
	in.version++
	if in.version == 1 {
		return nil
	}
	return d.remove(in.Spec.ID, in.version-1)
}

func (d *Driver) remove(id string, version int) error {
	if d.cfg.Dir == "" {
		return nil
	}
	if err := os.Remove(d.file(id, version)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
