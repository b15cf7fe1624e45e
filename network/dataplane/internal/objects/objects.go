// Package objects keeps the objects that a data plane driver was given: in
// memory for looking up, and as small JSON files for finding them again after a
// restart. It decides about generations, and tells watchers of changed ports.
package objects

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/network/dataplane"
)

// Store holds every object of one host. Methods are safe for concurrent use;
// what they return must not be changed by the caller.
type Store struct {
	dir string

	mu       sync.RWMutex
	networks map[string]dataplane.Network
	ports    map[string]dataplane.Port
	routers  map[string]dataplane.Router
	groups   map[string]dataplane.SecurityGroup
	// byNetwork indexes ports, so that a host of thousands stays quick.
	byNetwork map[string]map[string]struct{}
	byTap     map[string]string
}

var kinds = []dataplane.Kind{
	dataplane.KindNetwork, dataplane.KindPort, dataplane.KindRouter, dataplane.KindSecurityGroup,
}

// Open reads what dir holds, making it when it is missing. An empty dir keeps
// everything in memory. A file that cannot be read as an object is an error: to
// go on without it would be to forget what is wired.
func Open(dir string) (*Store, error) {
	s := &Store{
		dir:       dir,
		networks:  map[string]dataplane.Network{},
		ports:     map[string]dataplane.Port{},
		routers:   map[string]dataplane.Router{},
		groups:    map[string]dataplane.SecurityGroup{},
		byNetwork: map[string]map[string]struct{}{},
		byTap:     map[string]string{},
	}
	if dir == "" {
		return s, nil
	}
	for _, kind := range kinds {
		folder := filepath.Join(dir, string(kind))
		if err := os.MkdirAll(folder, 0o700); err != nil {
			return nil, fmt.Errorf("data plane state: %w", err)
		}
		entries, err := os.ReadDir(folder)
		if err != nil {
			return nil, fmt.Errorf("data plane state: %w", err)
		}
		for _, entry := range entries {
			path := filepath.Join(folder, entry.Name())
			if !strings.HasSuffix(entry.Name(), ".json") {
				if strings.HasPrefix(entry.Name(), ".new-") {
					_ = os.Remove(path)
				}
				continue
			}
			if err := s.load(kind, path); err != nil {
				return nil, fmt.Errorf("data plane state %s: %w", path, err)
			}
		}
	}
	return s, nil
}

func (s *Store) load(kind dataplane.Kind, path string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	switch kind {
	case dataplane.KindNetwork:
		var n dataplane.Network
		err = json.Unmarshal(data, &n)
		s.networks[n.ID] = n
	case dataplane.KindPort:
		var p dataplane.Port
		err = json.Unmarshal(data, &p)
		s.setPort(p)
	case dataplane.KindRouter:
		var r dataplane.Router
		err = json.Unmarshal(data, &r)
		s.routers[r.ID] = r
	case dataplane.KindSecurityGroup:
		var g dataplane.SecurityGroup
		err = json.Unmarshal(data, &g)
		s.groups[g.ID] = g
	}
	return err
}

// PutNetwork keeps n unless a newer generation is in place; it says whether it did.
func (s *Store) PutNetwork(n dataplane.Network) (bool, error) {
	return put(s, dataplane.KindNetwork, n.ID, n.Generation, n, func() (int64, bool) {
		old, ok := s.networks[n.ID]
		return old.Generation, ok
	}, func() { s.networks[n.ID] = n })
}

// PutPort keeps p unless a newer generation is in place; it says whether it did.
func (s *Store) PutPort(p dataplane.Port) (bool, error) {
	return put(s, dataplane.KindPort, p.ID, p.Generation, p, func() (int64, bool) {
		old, ok := s.ports[p.ID]
		return old.Generation, ok
	}, func() { s.setPort(p) })
}

// PutRouter keeps r unless a newer generation is in place; it says whether it did.
func (s *Store) PutRouter(r dataplane.Router) (bool, error) {
	return put(s, dataplane.KindRouter, r.ID, r.Generation, r, func() (int64, bool) {
		old, ok := s.routers[r.ID]
		return old.Generation, ok
	}, func() { s.routers[r.ID] = r })
}

// PutSecurityGroup keeps g unless a newer generation is in place; it says whether it did.
func (s *Store) PutSecurityGroup(g dataplane.SecurityGroup) (bool, error) {
	return put(s, dataplane.KindSecurityGroup, g.ID, g.Generation, g, func() (int64, bool) {
		old, ok := s.groups[g.ID]
		return old.Generation, ok
	}, func() { s.groups[g.ID] = g })
}

// put writes the file before the map: an object that is reported in place is
// found again after a crash.
func put(s *Store, kind dataplane.Kind, id string, generation int64, object any, old func() (int64, bool), set func()) (bool, error) {
	if err := checkID(kind, id); err != nil {
		return false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if g, ok := old(); ok && g > generation {
		return false, nil
	}
	if s.dir != "" {
		data, err := json.Marshal(object)
		if err != nil {
			return false, err
		}
		if err := writeFile(s.path(kind, id), data); err != nil {
			return false, fmt.Errorf("data plane state: %w", err)
		}
	}
	set()
	return true, nil
}

func (s *Store) setPort(p dataplane.Port) {
	s.forgetPort(p.ID)
	s.ports[p.ID] = p
	s.byTap[p.Tap] = p.ID
	if s.byNetwork[p.NetworkID] == nil {
		s.byNetwork[p.NetworkID] = map[string]struct{}{}
	}
	s.byNetwork[p.NetworkID][p.ID] = struct{}{}
}

func (s *Store) forgetPort(id string) {
	old, ok := s.ports[id]
	if !ok {
		return
	}
	delete(s.ports, id)
	if s.byTap[old.Tap] == id {
		delete(s.byTap, old.Tap)
	}
	delete(s.byNetwork[old.NetworkID], id)
	if len(s.byNetwork[old.NetworkID]) == 0 {
		delete(s.byNetwork, old.NetworkID)
	}
}

// Delete forgets an object, file first. One that is not there is success.
func (s *Store) Delete(kind dataplane.Kind, id string) error {
	if err := checkID(kind, id); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dir != "" {
		if err := os.Remove(s.path(kind, id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("data plane state: %w", err)
		}
	}
	switch kind {
	case dataplane.KindNetwork:
		delete(s.networks, id)
	case dataplane.KindPort:
		s.forgetPort(id)
	case dataplane.KindRouter:
		delete(s.routers, id)
	case dataplane.KindSecurityGroup:
		delete(s.groups, id)
	}
	return nil
}

// List is every object, ordered by kind and id.
func (s *Store) List() []dataplane.Ref {
	s.mu.RLock()
	defer s.mu.RUnlock()
	refs := make([]dataplane.Ref, 0, len(s.networks)+len(s.ports)+len(s.routers)+len(s.groups))
	for id, o := range s.networks {
		refs = append(refs, dataplane.Ref{Kind: dataplane.KindNetwork, ID: id, Generation: o.Generation})
	}
	for id, o := range s.ports {
		refs = append(refs, dataplane.Ref{Kind: dataplane.KindPort, ID: id, Generation: o.Generation})
	}
	for id, o := range s.routers {
		refs = append(refs, dataplane.Ref{Kind: dataplane.KindRouter, ID: id, Generation: o.Generation})
	}
	for id, o := range s.groups {
		refs = append(refs, dataplane.Ref{Kind: dataplane.KindSecurityGroup, ID: id, Generation: o.Generation})
	}
	slices.SortFunc(refs, func(a, b dataplane.Ref) int {
		if c := strings.Compare(string(a.Kind), string(b.Kind)); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	return refs
}

// Network looks one up.
func (s *Store) Network(id string) (dataplane.Network, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	n, ok := s.networks[id]
	return n, ok
}

// Port looks one up.
func (s *Store) Port(id string) (dataplane.Port, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	p, ok := s.ports[id]
	return p, ok
}

// PortByTap looks one up by its device.
func (s *Store) PortByTap(name string) (dataplane.Port, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	p, ok := s.ports[s.byTap[name]]
	return p, ok
}

// Router looks one up.
func (s *Store) Router(id string) (dataplane.Router, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	r, ok := s.routers[id]
	return r, ok
}

// SecurityGroup looks one up.
func (s *Store) SecurityGroup(id string) (dataplane.SecurityGroup, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	g, ok := s.groups[id]
	return g, ok
}

// Networks is all networks, by id.
func (s *Store) Networks() []dataplane.Network {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return sorted(s.networks)
}

// Ports is all ports, by id.
func (s *Store) Ports() []dataplane.Port {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return sorted(s.ports)
}

// Routers is all routers, by id.
func (s *Store) Routers() []dataplane.Router {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return sorted(s.routers)
}

// PortsOf is the ports of one network, by id.
func (s *Store) PortsOf(networkID string) []dataplane.Port {
	s.mu.RLock()
	defer s.mu.RUnlock()
	found := make(map[string]dataplane.Port, len(s.byNetwork[networkID]))
	for id := range s.byNetwork[networkID] {
		found[id] = s.ports[id]
	}
	return sorted(found)
}

func sorted[T any](m map[string]T) []T {
	ids := make([]string, 0, len(m))
	for id := range m {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	all := make([]T, len(ids))
	for i, id := range ids {
		all[i] = m[id]
	}
	return all
}

func (s *Store) path(kind dataplane.Kind, id string) string {
	return filepath.Join(s.dir, string(kind), id+".json")
}

// checkID keeps an id from being anything but one file name.
func checkID(kind dataplane.Kind, id string) error {
	if !slices.Contains(kinds, kind) {
		return nacre.Errorf(nacre.Invalid, "kind", "%q is no kind of data plane object", kind)
	}
	ok := id != "" && len(id) <= 64 && id[0] != '.'
	for _, c := range id {
		ok = ok && (c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '-' || c == '_' || c == '.')
	}
	if !ok {
		return nacre.Errorf(nacre.Invalid, "id", "%q is no id of a %s", id, kind)
	}
	return nil
}

// writeFile replaces a file whole. It does not wait for the disk: after a power
// failure the kernel's wiring is gone too, and the host asks for everything.
func writeFile(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}
