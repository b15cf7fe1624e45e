package servers

import (
	"context"
	"io"
	"strings"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/compute"
	"github.com/nacre-cloud/nacre/identity"
	"github.com/nacre-cloud/nacre/image"
	"github.com/nacre-cloud/nacre/image/importer"
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
	if err != nil {
		return nil, err
	}
	return r, nil
}

// imageConfig is what image is made of.
func (cl *Cloud) imageConfig() (image.Config, error) {
	c := &cl.c
	fetcher, err := importer.NewFetcher(c.ImageFetch)
	if err != nil {
		return image.Config{}, err
	}
	out := image.Config{Engine: c.Engines["image"], Backend: c.Images, Policy: c.Policy["image"], PolicyOptions: c.PolicyOptions["image"], Publish: cl.Bus.PublishEvent,
		Fetcher: fetcher, Remote: remoteImages{cl}, Limits: cl.limitsEdge(), MaxSize: c.MaxImage, Alone: c.Alone, Instance: c.Instance, Log: c.Log}
	if c.ImageSetup != nil {
		c.ImageSetup(&out)
	}
	return out, nil
}

// imageLimits is the edge from image to identity's unified limits. A resource that
// is not registered is unlimited.
type imageLimits struct{ svc *identity.Service }

var _ image.Limits = imageLimits{}

func (w imageLimits) Limits(ctx context.Context, project string) (map[string]int64, error) {
	if err := store.Outside(ctx); err != nil {
		return nil, err
	}
	ctx = nacre.AsService(ctx, "image")
	registered, err := w.svc.Limits.ListRegisteredLimits(ctx, nacre.Query{})
	if err != nil {
		return nil, err
	}
	out := map[string]int64{}
	for _, l := range registered {
		if strings.HasPrefix(l.ResourceName, "image_") {
			out[l.ResourceName] = int64(l.DefaultLimit)
		}
	}
	if len(out) == 0 {
		return nil, nil
	}
	own, err := w.svc.Limits.ListLimits(ctx, nacre.Query{Filters: []nacre.Filter{{Name: "project_id", Value: project}}})
	if err != nil {
		return nil, err
	}
	for _, l := range own {
		if _, known := out[l.ResourceName]; known && string(l.ProjectID) == project {
			out[l.ResourceName] = int64(l.ResourceLimit)
		}
	}
	return out, nil
}
