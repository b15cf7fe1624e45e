package api

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/nacre-cloud/nacre"
)

// recon shows what of Swift's recon has a meaning here. What it says of the disk is for
// the reseller's administrator.
func (c *call) recon() {
	var doc any
	what := strings.TrimPrefix(c.path, "/recon/")
	switch what {
	case "version":
		doc = map[string]string{"version": swiftVersion}
	case "time":
		doc = float64(time.Now().UnixMicro()) / 1e6
	case "diskusage", "quarantined":
		err := c.authenticate()
		if err == nil {
			doc, err = c.disk(what)
		}
		if err != nil {
			c.fail(err)
			return
		}
	default:
		c.plain(http.StatusNotFound)
		return
	}
	c.json(doc)
}

// disk is how full the store is, or how many blobs were found damaged and set aside.
func (c *call) disk(what string) (any, error) {
	u, err := c.svc.Usage(c.ctx)
	if err != nil {
		return nil, err
	}
	if what == "diskusage" {
		return []map[string]any{{"device": "objects", "mounted": true, "size": u.Size, "used": u.Size - u.Free, "avail": u.Free}}, nil
	}
	return map[string]any{"accounts": 0, "containers": 0, "objects": u.Rotten, "policies": map[string]any{"0": map[string]any{"objects": u.Rotten}}}, nil
}

// endpoints tells programs that want to be near their data where it is: here. Nobody is
// asked who they are, and nothing is said of what there is.
func (c *call) endpoints(path string) {
	if c.r.Method != http.MethodGet {
		c.w.Header().Set("Allow", "GET")
		c.plain(http.StatusMethodNotAllowed)
		return
	}
	version, rest, _ := strings.Cut(strings.Trim(path, "/"), "/")
	if version != "v1" && version != "v2" {
		version, rest = "v1", strings.Trim(path, "/")
	}
	at := scheme(c.r) + "://" + c.r.Host + c.base + "/v1/" + escapePath(rest)
	account, rest, _ := strings.Cut(rest, "/")
	container, object, _ := strings.Cut(rest, "/")
	switch {
	case account == "", container == "" && object != "":
		c.text(http.StatusBadRequest, "Invalid path: "+escapePath(c.path))
	case version == "v2":
		c.json(map[string]any{"endpoints": []string{at}, "headers": map[string]string{}})
	default:
		c.json([]string{at})
	}
}

func (c *call) json(doc any) {
	body, err := json.Marshal(doc)
	if err != nil {
		c.fail(errors.Join(nacre.Errorf(nacre.Internal, "", "no JSON"), err))
		return
	}
	c.body(http.StatusOK, "application/json", string(body))
}
