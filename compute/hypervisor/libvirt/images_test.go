package libvirt

import (
	"bytes"
	"context"
	"crypto/sha512"
	"encoding/hex"
	"io"
	"sync"

	"github.com/nacre-cloud/nacre/compute/hypervisor"
)

// source is an image source that counts what is read.
type source struct {
	img  hypervisor.Image
	data []byte
	mu   sync.Mutex
	read int64
	// breaks makes that many readers fail half way.
	breaks int
}

func newSource(id, format string, data []byte) *source {
	sum := sha512.Sum512(data)
	return &source{data: data, img: hypervisor.Image{ID: id, Format: format, Size: int64(len(data)), Hash: "sha512:" + hex.EncodeToString(sum[:])}}
}

func (s *source) Open(context.Context, string, string) (io.ReadCloser, hypervisor.Image, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var r io.Reader = bytes.NewReader(s.data)
	if s.breaks > 0 {
		s.breaks--
		r = io.MultiReader(bytes.NewReader(s.data[:len(s.data)/2]), failing{})
	}
	return io.NopCloser(counted{s, r}), s.img, nil
}

type counted struct {
	s *source
	r io.Reader
}

func (c counted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.s.mu.Lock()
	c.s.read += int64(n)
	c.s.mu.Unlock()
	return n, err
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }
