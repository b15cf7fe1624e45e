package servers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/image"
	"github.com/nacre-cloud/nacre/internal/rest"
	"github.com/nacre-cloud/nacre/store"
)

// remoteImages is the edge from image to another region's, for glance-download: it
// finds the region's endpoint in the catalog of whoever asks, and reads with their
// token.
type remoteImages struct{ cl *Cloud }

var _ image.Remote = remoteImages{}

// regionIdle is how long another region may send nothing.
const regionIdle = time.Minute

func (w remoteImages) Open(ctx context.Context, region, service, id string) (im image.RemoteImage, body io.ReadCloser, err error) {
	if err := store.Outside(ctx); err != nil {
		return im, nil, err
	}
	caller := nacre.CallerFrom(ctx)
	if caller == nil || caller.Token == "" {
		return im, nil, nacre.Errorf(nacre.Unauthenticated, "", "There is no token for the region %s.", region)
	}
	base, err := w.endpoint(ctx, region, service)
	if err != nil {
		return im, nil, err
	}
	base += "/v2/images/" + id
	meta, err := w.get(ctx, base, caller.Token)
	if err != nil {
		return im, nil, err
	}
	err = decodeRemote(io.LimitReader(meta.Body, 4<<20), &im)
	if err = errors.Join(err, meta.Body.Close()); err != nil {
		return im, nil, fmt.Errorf("the image %s of region %s: %w", id, region, err)
	}
	if im.Status != image.Active {
		return im, http.NoBody, nil
	}
	data, err := w.get(ctx, base+"/file", caller.Token)
	if err != nil {
		return im, nil, err
	}
	return im, data.Body, nil
}

// endpoint is where a region's image service is. Regions are told apart without
// case, as Glance does.
func (w remoteImages) endpoint(ctx context.Context, region, service string) (string, error) {
	if w.cl.Identity == nil {
		url, err := w.cl.c.Others.RegionEndpoint(ctx, "image", region, service)
		return strings.TrimSuffix(strings.TrimRight(url, "/"), "/v2"), err
	}
	entries, err := w.cl.Identity.Catalog.Own(ctx)
	if err != nil {
		return "", err
	}
	for _, e := range entries {
		if e.Type != "image" {
			continue
		}
		for _, p := range e.Endpoints {
			if strings.EqualFold(string(p.RegionID), region) && p.Interface == service {
				return strings.TrimSuffix(strings.TrimRight(p.URL, "/"), "/v2"), nil
			}
		}
	}
	return "", nacre.Errorf(nacre.NotFound, "", "%s glance endpoint not found for region %s", service, region)
}

// get asks an endpoint of the catalog. It goes nowhere else: a redirect would take
// the token along.
func (w remoteImages) get(ctx context.Context, url, token string) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := func() { cancel(nil) }
	idle := time.AfterFunc(regionIdle, func() { cancel(fmt.Errorf("nothing came for %s", regionIdle)) })
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		stop()
		return nil, err
	}
	req.Header.Set("X-Auth-Token", token)
	res, err := w.client(url).Do(req)
	if err == nil && res.StatusCode != http.StatusOK {
		err = errors.Join(refused(res.StatusCode, url), res.Body.Close())
	}
	if err != nil {
		idle.Stop()
		stop()
		return nil, err
	}
	res.Body = &idleBody{ReadCloser: res.Body, idle: idle, stop: stop}
	return res, nil
}

// client reaches a URL, this cloud's own without a socket.
func (w remoteImages) client(url string) *http.Client {
	c := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	if strings.HasPrefix(url, w.cl.c.URL+"/") {
		c.Transport = rest.Transport(w.cl.handler)
	}
	return c
}

func refused(code int, url string) error {
	kind := nacre.Unavailable
	switch code {
	case http.StatusNotFound, http.StatusForbidden, http.StatusUnauthorized:
		kind = nacre.NotFound
	}
	return nacre.Errorf(kind, "", "%s answered %d %s", url, code, http.StatusText(code))
}

// idleBody is a body whose reading ends when nothing comes for too long.
type idleBody struct {
	io.ReadCloser
	idle *time.Timer
	stop func()
}

func (b *idleBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.idle.Reset(regionIdle)
	return n, err
}

func (b *idleBody) Close() error {
	b.idle.Stop()
	err := b.ReadCloser.Close()
	b.stop()
	return err
}

// decodeRemote reads an image as its API shows it.
func decodeRemote(r io.Reader, im *image.RemoteImage) error {
	var raw map[string]any
	d := json.NewDecoder(r)
	d.UseNumber()
	if err := d.Decode(&raw); err != nil {
		return err
	}
	text := func(name string) string { s, _ := raw[name].(string); return s }
	im.Status, im.DiskFormat, im.ContainerFormat = text("status"), text("disk_format"), text("container_format")
	im.Properties = map[string]string{}
	for name, v := range raw {
		if s, ok := v.(string); ok {
			im.Properties[name] = s
		}
	}
	if im.Status != image.Active {
		return nil
	}
	n, _ := raw["size"].(json.Number)
	size, err := n.Int64()
	if err != nil {
		return errors.New("size attribute of the remote image could not be determined")
	}
	im.Size = size
	return nil
}
