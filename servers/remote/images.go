package remote

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/gophercloud/gophercloud/v2"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/compute"
	"github.com/nacre-cloud/nacre/image"
)

// Images is the edge from compute to an image service.
func (c *Cloud) Images() compute.Images { return images{c} }

type images struct{ c *Cloud }

// imageFields are an image's own; all others are properties.
var imageFields = map[string]bool{"id": true, "name": true, "status": true, "visibility": true, "protected": true, "checksum": true, "size": true, "virtual_size": true,
	"disk_format": true, "container_format": true, "min_disk": true, "min_ram": true, "owner": true, "os_hidden": true, "os_hash_algo": true, "os_hash_value": true,
	"created_at": true, "updated_at": true, "tags": true, "self": true, "file": true, "schema": true, "locations": true, "direct_url": true, "stores": true}

type imageDoc struct {
	ID              string `json:"id"`
	Name            string `json:"name"`
	Status          string `json:"status"`
	DiskFormat      string `json:"disk_format"`
	ContainerFormat string `json:"container_format"`
	Size            int64  `json:"size"`
	VirtualSize     int64  `json:"virtual_size"`
	MinDisk         int    `json:"min_disk"`
	MinRAM          int    `json:"min_ram"`
	HashAlgo        string `json:"os_hash_algo"`
	HashValue       string `json:"os_hash_value"`
}

func (e images) Image(ctx context.Context, id string) (compute.Image, error) {
	var out compute.Image
	a, err := e.c.as(ctx, "image", "v2")
	if err != nil {
		return out, err
	}
	im, props, err := a.image(ctx, id)
	if err != nil {
		return out, err
	}
	out = compute.Image{ID: im.ID, Name: im.Name, Status: im.Status, DiskFormat: im.DiskFormat, ContainerFormat: im.ContainerFormat, Size: im.Size, VirtualSize: im.VirtualSize,
		MinDisk: im.MinDisk, MinRAM: im.MinRAM, Properties: props}
	if im.HashValue != "" {
		out.Hash = im.HashAlgo + ":" + im.HashValue
	}
	return out, nil
}

// image reads an image and its properties.
func (a *api) image(ctx context.Context, id string) (im imageDoc, props map[string]string, err error) {
	var raw jsonRaw
	if err := a.get(ctx, "images/"+url.PathEscape(id), &raw); err != nil {
		return im, nil, err
	}
	if err := raw.decode(&im); err != nil {
		return im, nil, fmt.Errorf("the image service's answer: %w", err)
	}
	var all map[string]any
	if err := raw.decode(&all); err != nil {
		return im, nil, err
	}
	props = map[string]string{}
	for name, v := range all {
		if s, ok := v.(string); ok && !imageFields[name] {
			props[name] = s
		}
	}
	return im, props, nil
}

func (e images) Open(ctx context.Context, id string) (io.ReadCloser, error) {
	a, err := e.c.as(ctx, "image", "v2")
	if err != nil {
		return nil, err
	}
	return a.data(ctx, id)
}

// data streams an image's bytes.
func (a *api) data(ctx context.Context, id string) (io.ReadCloser, error) {
	resp, err := a.send(ctx, http.MethodGet, "images/"+url.PathEscape(id)+"/file",
		gophercloud.RequestOpts{MoreHeaders: a.headers, OmitHeaders: []string{"Accept"}, OkCodes: []int{http.StatusOK, http.StatusNoContent}, KeepResponseBody: true})
	if err != nil {
		return nil, a.fault(err)
	}
	if resp.StatusCode == http.StatusNoContent {
		_ = resp.Body.Close()
		return nil, nacre.Errorf(nacre.Conflict, "ImageNotActive", "Image %s is not active.", id)
	}
	return resp.Body, nil
}

// Limits is the edge from image to an identity service's unified limits.
func (c *Cloud) Limits() image.Limits { return limits{c} }

type limits struct{ c *Cloud }

func (e limits) Limits(ctx context.Context, project string) (map[string]int64, error) {
	a, err := e.c.as(nacre.AsService(ctx, "image"), "identity", "v3")
	if err != nil {
		return nil, err
	}
	type limit struct {
		Resource string `json:"resource_name"`
		Default  int64  `json:"default_limit"`
		Limit    int64  `json:"resource_limit"`
		Project  string `json:"project_id"`
	}
	registered, err := listAll[limit](ctx, a, "registered_limits", "registered_limits")
	if err != nil {
		return nil, err
	}
	out := map[string]int64{}
	for _, l := range registered {
		if len(l.Resource) > 6 && l.Resource[:6] == "image_" {
			out[l.Resource] = l.Default
		}
	}
	if len(out) == 0 {
		return nil, nil
	}
	own, err := listAll[limit](ctx, a, "limits", "limits?project_id="+url.QueryEscape(project))
	if err != nil {
		return nil, err
	}
	for _, l := range own {
		if _, known := out[l.Resource]; known && l.Project == project {
			out[l.Resource] = l.Limit
		}
	}
	return out, nil
}
