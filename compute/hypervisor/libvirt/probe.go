package libvirt

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// probeCode is firmware that enters long mode, counts in memory twenty million
// times and leaves through QEMU's isa-debug-exit with 0x15. A processor that
// really runs guests is done in a few milliseconds; one whose every instruction
// is emulated by the host's kernel is not done in a minute.
//
//	cli; cld; ax = ds = es = 0
//	clear 0x1000..0x3fff; page tables there: one 2 MiB page at 0
//	cr4 |= PAE; cr3 = 0x1000; EFER |= LME
//	lgdt; cr0 |= PG|PE; jump to 64 bit code
//	ecx = 20000000; do incl 0x4000 while --ecx
//	out 0xf4, 0x15; hlt
const probeCode = "fafc31c08ed88ec0bf0010b90018f3abc70600100320c70600200330c7060030" +
	"83000f20e00c200f22e066b8001000000f22d866b9800000c00f3280cc010f30" +
	"2e660f01165b000f20c0660d010000800f22c066ea78000f0008000f0068000f" +
	"000f1f8000000000000000000000000000000000009a2000b9002d3101ff0425" +
	"00400000ffc975f566baf400b015eef4ebfd"

const (
	probeExit    = 0x15<<1 | 1 // what isa-debug-exit makes of 0x15
	probeTimeout = 3 * time.Second
)

// probeKVM reports why KVM can't be used, or nil.
func probeKVM(ctx context.Context, emulator string) error {
	return probe(ctx, emulator, "kvm", "host")
}

func probe(ctx context.Context, emulator, accel, cpu string) (err error) {
	code, err := hex.DecodeString(probeCode)
	if err != nil {
		return err
	}
	firmware := make([]byte, 64<<10)
	for i := range firmware {
		firmware[i] = 0xf4 // hlt
	}
	copy(firmware, code)
	copy(firmware[0xfff0:], []byte{0xea, 0x00, 0x00, 0x00, 0xf0}) // the reset vector: jmp f000:0000
	dir, err := os.MkdirTemp("", "nacre-probe-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	file := filepath.Join(dir, "firmware")
	if err := os.WriteFile(file, firmware, 0o600); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, emulator, "-machine", "q35", "-accel", accel, "-cpu", cpu, "-m", "16", "-display", "none",
		"-nodefaults", "-no-user-config", "-bios", file, "-device", "isa-debug-exit,iobase=0xf4,iosize=1")
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit) && exit.ExitCode() == probeExit:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("a test guest made no headway in %s", probeTimeout)
	case err != nil:
		return fmt.Errorf("a test guest failed: %w: %.200s", err, out)
	}
	return errors.New("a test guest ended unexpectedly")
}
