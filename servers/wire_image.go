package servers

import (
	"context"
	"io"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/compute"
	"github.com/nacre-cloud/nacre/image"
	"github.com/nacre-cloud/nacre/store"
)

// images is the edge from compute to image.
type images struct{ svc *image.Service }

var _ compute.Images = images{}

func (w images) Image(ctx context.Context, id string) (compute.Image, error) {
	if err := store.Outside(ctx); err != nil {
		return compute.Image{}, err
	}
	im, err := w.svc.Get(ctx, id)
	if err != nil {
		return compute.Image{}, err
	}
	out := compute.Image{ID: im.ID, Name: im.Name, Status: im.Status, DiskFormat: im.DiskFormat, ContainerFormat: im.ContainerFormat,
		Size: im.Size, VirtualSize: im.VirtualSize, MinDisk: im.MinDisk, MinRAM: im.MinRAM, Properties: im.Properties}
	if im.HashValue != "" {
		out.Hash = im.HashAlgo + ":" + im.HashValue
	}
	return out, nil
}

func (w images) Open(ctx context.Context, id string) (io.ReadCloser, error) {
	if err := store.Outside(ctx); err != nil {
		return nil, err
	}
	_, r, ok, err := w.svc.Open(ctx, id)
	if err == nil && !ok {
		err = nacre.Errorf(nacre.Conflict, "ImageNotActive", "Image %s is not active.", id)
	}
	return r, err
}
