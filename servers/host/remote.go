package host

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/compute/hypervisor"
)

// Remote is a control plane in another process, as a host sees it: it hands out the
// bytes of images and answers metadata requests.
type Remote struct {
	name, secret, base string
	client             *http.Client
}

// NewRemote makes one. control is the control plane's address without a path; client
// may be nil.
func NewRemote(control, name, secret string, client *http.Client) (*Remote, error) {
	u, err := url.Parse(control)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("control: %q is no address of a control plane (https://HOST:PORT)", control)
	}
	if name == "" || secret == "" {
		return nil, fmt.Errorf("a host needs its name and its secret (host_secret): nacre host add makes them")
	}
	if client == nil {
		client = &http.Client{}
	}
	return &Remote{name, secret, strings.TrimRight(control, "/") + "/host", client}, nil
}

var (
	_ hypervisor.Images = (*Remote)(nil)
	_ Metadata          = (*Remote)(nil)
)

// Open implements hypervisor.Images.
func (r *Remote) Open(ctx context.Context, serverID, imageID string) (io.ReadCloser, hypervisor.Image, error) {
	var about hypervisor.Image
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.base+"/images/"+url.PathEscape(serverID)+"/"+url.PathEscape(imageID), nil)
	if err != nil {
		return nil, about, err
	}
	resp, err := r.RoundTrip(req)
	if err != nil {
		return nil, about, &nacre.Error{Kind: nacre.Unavailable, Message: "the control plane does not answer", Err: err}
	}
	if resp.StatusCode == http.StatusOK {
		err = json.Unmarshal([]byte(resp.Header.Get(hypervisor.ImageHeader)), &about)
		if err == nil {
			return resp.Body, about, nil
		}
	} else {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 1000))
		err = fmt.Errorf("%s: %s", resp.Status, strings.TrimSpace(string(text)))
	}
	_ = resp.Body.Close()
	if resp.StatusCode >= 500 {
		return nil, about, &nacre.Error{Kind: nacre.Unavailable, Message: "the control plane can't give the image now", Err: err}
	}
	return nil, about, &nacre.Error{Kind: nacre.Forbidden, Message: "the control plane refuses image " + imageID, Err: err}
}

// URL implements Metadata.
func (r *Remote) URL() string { return r.base + "/metadata" }

// Secret implements Metadata.
func (r *Remote) Secret() string { return hypervisor.CredentialHash(r.secret) }

// RoundTrip implements Metadata: it shows the host's secret.
func (r *Remote) RoundTrip(req *http.Request) (*http.Response, error) {
	req = req.Clone(req.Context())
	req.SetBasicAuth(r.name, r.secret)
	t := r.client.Transport
	if t == nil {
		t = http.DefaultTransport
	}
	return t.RoundTrip(req)
}
