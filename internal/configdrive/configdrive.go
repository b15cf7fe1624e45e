// Package configdrive writes config drives: an ISO 9660 image labelled
// "config-2" that holds files by path, with Rock Ridge and Joliet names so that
// any guest sees them as they are.
package configdrive

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/diskfs/go-diskfs/backend/file"
	"github.com/diskfs/go-diskfs/filesystem/iso9660"
)

// Label is the volume label by which guests find a config drive.
const Label = "config-2"

const blockSize = 2048

// Write makes the image at dst, whole or not at all: it is written beside dst,
// made durable and renamed. Its mode is 0600, for it may hold a password.
func Write(dst string, files map[string][]byte) (err error) {
	dir, err := os.MkdirTemp(filepath.Dir(dst), ".configdrive-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	tree := filepath.Join(dir, "tree")
	if err := os.Mkdir(tree, 0o755); err != nil {
		return err
	}
	var total int64
	for name, data := range files {
		if !fs.ValidPath(name) || name == "." || strings.Contains(name, "\\") {
			return fmt.Errorf("config drive: %q is not a usable path", name)
		}
		if err := os.MkdirAll(filepath.Join(tree, path.Dir(name)), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(tree, name), data, 0o644); err != nil {
			return err
		}
		// A file takes whole blocks; names and directories are covered by the rest.
		total += (int64(len(data))+blockSize-1)/blockSize*blockSize + 2*blockSize
	}
	image := filepath.Join(dir, "image")
	f, err := os.OpenFile(image, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if cerr := f.Close(); cerr != nil && !errors.Is(cerr, os.ErrClosed) {
			err = errors.Join(err, cerr)
		}
	}()
	iso, err := iso9660.Create(file.New(f, false), total+1<<20, 0, blockSize, tree)
	if err != nil {
		return fmt.Errorf("config drive: %w", err)
	}
	if err := iso.Finalize(iso9660.FinalizeOptions{RockRidge: true, Joliet: true, VolumeIdentifier: Label, PublisherIdentifier: "OpenStack Nova"}); err != nil {
		return fmt.Errorf("config drive: %w", err)
	}
	return publish(image, dst)
}

func publish(image, dst string) error {
	f, err := os.OpenFile(image, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	// Guests' disk drivers want whole sectors; the image may end inside one.
	size, err := f.Seek(0, io.SeekEnd)
	if err == nil {
		err = f.Truncate((size + blockSize - 1) / blockSize * blockSize)
	}
	if err == nil {
		err = padLabels(f)
	}
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	return os.Rename(image, dst)
}

// padLabels makes the volume identifiers end in spaces, as the standard says:
// the library pads them with zeros, which some readers take for part of the label.
func padLabels(f *os.File) error {
	const (
		firstDescriptor         = 16
		idOffset, idLength      = 40, 32
		primary, joliet, closes = 1, 2, 255
	)
	for sector := int64(firstDescriptor); ; sector++ {
		head := make([]byte, idOffset+idLength)
		if _, err := f.ReadAt(head, sector*blockSize); err != nil {
			return err
		}
		id := []byte(strings.Repeat(" ", idLength))
		switch head[0] {
		case closes:
			return nil
		case primary:
			copy(id, Label)
		case joliet:
			for i := range idLength / 2 {
				id[2*i] = 0
			}
			for i, c := range []byte(Label) {
				id[2*i+1] = c
			}
		default:
			continue
		}
		if _, err := f.WriteAt(id, sector*blockSize+idOffset); err != nil {
			return err
		}
	}
}

// Read is what a config drive holds, by path.
func Read(src string) (map[string][]byte, error) {
	f, err := os.Open(src)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	iso, err := iso9660.Read(file.New(f, true), info.Size(), 0, blockSize)
	if err != nil {
		return nil, err
	}
	if got := strings.TrimSpace(iso.Label()); got != Label {
		return nil, fmt.Errorf("config drive: the label is %q", got)
	}
	files := map[string][]byte{}
	var walk func(dir string) error
	walk = func(dir string) error {
		entries, err := iso.ReadDir(dir)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if e.Name() == "." || e.Name() == ".." {
				continue
			}
			p := path.Join(dir, e.Name())
			if e.IsDir() {
				if err := walk(p); err != nil {
					return err
				}
				continue
			}
			data, err := iso.ReadFile(p)
			if err != nil {
				return err
			}
			files[p] = data
		}
		return nil
	}
	return files, walk(".")
}
