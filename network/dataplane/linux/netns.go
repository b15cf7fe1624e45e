//go:build linux

package linux

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

const (
	netnsDir      = "/run/netns"
	networkPrefix = "nacre-n-"
	routerPrefix  = "nacre-r-"
	// alias marks links that are ours, and taps that we have wired before.
	alias = "nacre"
	// commandTimeout bounds each program that is run.
	commandTimeout = 30 * time.Second
)

// space is a network namespace, open.
type space struct {
	name   string
	handle netns.NsHandle
	nl     *netlink.Handle
}

// thisSpace opens the namespace that the process is in.
func thisSpace() (*space, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	h, err := netns.Get()
	if err != nil {
		return nil, fmt.Errorf("network namespace: %w", err)
	}
	return newSpace("", h)
}

func newSpace(name string, h netns.NsHandle) (*space, error) {
	nl, err := netlink.NewHandleAt(h, unix.NETLINK_ROUTE, unix.NETLINK_NETFILTER)
	if err != nil {
		_ = h.Close()
		return nil, fmt.Errorf("netlink in namespace %s: %w", name, err)
	}
	return &space{name: name, handle: h, nl: nl}, nil
}

// openSpace opens a named namespace; os.ErrNotExist when there is none.
func openSpace(name string) (*space, error) {
	if _, err := os.Stat(filepath.Join(netnsDir, name)); err != nil {
		return nil, err
	}
	h, err := netns.GetFromName(name)
	if err != nil {
		return nil, fmt.Errorf("network namespace %s: %w", name, err)
	}
	return newSpace(name, h)
}

// makeSpace opens a named namespace, and makes it first when it is missing. A
// name without a namespace behind it, left by a crash, is replaced.
func makeSpace(name string) (s *space, made bool, err error) {
	s, err = openSpace(name)
	if err == nil {
		return s, false, nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		if err := deleteSpace(name); err != nil {
			return nil, false, err
		}
	}
	var h netns.NsHandle
	err = onThread(func() error {
		var err error
		h, err = netns.NewNamed(name)
		return err
	})
	if err != nil {
		return nil, false, fmt.Errorf("make network namespace %s: %w", name, err)
	}
	s, err = newSpace(name, h)
	return s, true, err
}

// deleteSpace removes a namespace's name; the kernel removes the namespace when
// nothing else holds it.
func deleteSpace(name string) error {
	path := filepath.Join(netnsDir, name)
	if err := unix.Unmount(path, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("unmount %s: %w", path, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// ourSpaces are the names of namespaces that are ours.
func ourSpaces() ([]string, error) {
	entries, err := os.ReadDir(netnsDir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), networkPrefix) || strings.HasPrefix(e.Name(), routerPrefix) {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

func (s *space) close() {
	s.nl.Close()
	_ = s.handle.Close()
}

// onThread runs f on a thread of its own, which may change its namespace. The
// thread ends with f unless it is back where it was.
func onThread(f func() error) error {
	var err error
	var done sync.WaitGroup
	done.Go(func() {
		runtime.LockOSThread()
		before, e := netns.Get()
		if e != nil {
			err = e
			return
		}
		defer before.Close()
		err = f()
		// A locked thread dies with its goroutine: one that cannot go back is
		// never used again.
		if netns.Set(before) == nil {
			runtime.UnlockOSThread()
		}
	})
	done.Wait()
	return err
}

// do runs f in the namespace. Sockets that f opens stay in it; goroutines that f
// starts do not.
func (s *space) do(f func() error) error {
	return onThread(func() error {
		if err := netns.Set(s.handle); err != nil {
			return fmt.Errorf("enter network namespace %s: %w", s.name, err)
		}
		return f()
	})
}

// run runs a program in the namespace with the input, and gives its output.
func (s *space) run(ctx context.Context, input, name string, args ...string) (string, error) {
	var out string
	err := s.do(func() error {
		var err error
		out, err = run(ctx, input, name, args...)
		return err
	})
	return out, err
}

func run(ctx context.Context, input, name string, args ...string) (string, error) {
	path, err := tool(name)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	cmd.Stdin = strings.NewReader(input)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return "", fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, firstLines(stderr.String()))
	}
	return stdout.String(), nil
}

func firstLines(s string) string {
	lines := strings.SplitN(strings.TrimSpace(s), "\n", 4)
	return strings.Join(lines[:min(len(lines), 3)], "; ")
}

// tool finds a program, in the places of system programs too, which a user's
// PATH under sudo may leave out.
func tool(name string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	for _, dir := range []string{"/usr/sbin", "/sbin", "/usr/local/sbin"} {
		path := filepath.Join(dir, name)
		if info, err := os.Stat(path); err == nil && info.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	return "", fmt.Errorf("the program %q is missing on this host", name)
}

// sysctl sets values under /proc/sys in the namespace. What the kernel does not
// have, starting with "-", is passed over.
func (s *space) sysctl(values ...string) error {
	return s.do(func() error {
		for _, v := range values {
			optional := strings.HasPrefix(v, "-")
			key, value, _ := strings.Cut(strings.TrimPrefix(v, "-"), "=")
			err := os.WriteFile(filepath.Join("/proc/sys", key), []byte(value), 0o644)
			if err != nil && !(optional && errors.Is(err, os.ErrNotExist)) {
				return fmt.Errorf("in namespace %s: %w", s.name, err)
			}
		}
		return nil
	})
}

func readSysctl(key string) (string, error) {
	data, err := os.ReadFile(filepath.Join("/proc/sys", key))
	return strings.TrimSpace(string(data)), err
}

// link looks a link up; nil when there is none.
func (s *space) link(name string) (netlink.Link, error) {
	l, err := s.nl.LinkByName(name)
	var missing netlink.LinkNotFoundError
	if errors.As(err, &missing) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look up link %s in namespace %s: %w", name, s.name, err)
	}
	return l, nil
}

// deleteLink removes a link; one that is not there is success.
func (s *space) deleteLink(name string) error {
	l, err := s.link(name)
	if err != nil || l == nil {
		return err
	}
	if err := s.nl.LinkDel(l); err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("delete link %s: %w", name, err)
	}
	return nil
}
