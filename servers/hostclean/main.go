// Command hostclean takes away all that a cloud of Nacre's made on this host:
// guests with their disks, namespaces, bridges, rules, sysctls as they were, and
// the state directory. It touches nothing else. Run it as root, while no cloud
// runs; `make clean` does.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/nacre-cloud/nacre/compute/hypervisor/libvirt"
	"github.com/nacre-cloud/nacre/network/dataplane/linux"
	"github.com/nacre-cloud/nacre/servers/kit"
)

func main() {
	def := kit.Default()
	state := flag.String("state-dir", def.StateDir, "the cloud's state directory")
	instances := flag.String("instances-dir", def.Instances, "directory of the guests' disks")
	guests := flag.Bool("guests", true, "ask libvirt for guests of ours")
	flag.Parse()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	if err := clean(ctx, *state, *instances, *guests); err != nil {
		fmt.Fprintln(os.Stderr, "hostclean:", err)
		os.Exit(1)
	}
}

func clean(ctx context.Context, state, instances string, guests bool) error {
	if _, err := os.Stat(state); err == nil {
		s, err := kit.OpenState(state) // its lock says that no cloud runs
		if err != nil {
			return err
		}
		defer s.Close() //nolint:errcheck // the directory is gone by then
	}
	var errs error
	if guests {
		errs = cleanGuests(ctx, instances)
	}
	errs = errors.Join(errs, linux.Clean(ctx, ""))
	if errs != nil {
		return errs // the state still says what there is
	}
	base := filepath.Join(filepath.Dir(instances), "base")
	errs = errors.Join(os.RemoveAll(instances), os.RemoveAll(base), os.RemoveAll(state))
	_ = os.Remove(filepath.Dir(instances)) // goes if it is empty now: it may hold what is not ours
	return errs
}

func cleanGuests(ctx context.Context, instances string) error {
	d, err := libvirt.New(libvirt.Config{InstancesDir: instances})
	if err != nil {
		return err
	}
	defer d.Close() //nolint:errcheck // at the end anyway
	list, err := d.List(ctx)
	for _, in := range list {
		fmt.Println("removing the guest", in.Name)
		err = errors.Join(err, d.Delete(ctx, in.ID))
	}
	return err
}
