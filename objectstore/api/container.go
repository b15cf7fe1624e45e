package api

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/objectstore"
)

// containerHeaders are those of a container's own beside its metadata.
var containerHeaders = []string{"X-Container-Read", "X-Container-Write", "X-Versions-Location", "X-History-Location", "X-Container-Sync-Key", "X-Container-Sync-To"}

func (c *call) containerChange() (objectstore.ContainerChange, error) {
	ch := objectstore.ContainerChange{Meta: c.userHeaders("X-Container-Meta-"), Policy: c.r.Header.Get("X-Storage-Policy")}
	for _, name := range containerHeaders {
		if v, ok := c.r.Header[name]; ok {
			ch.Meta[name] = strings.TrimSpace(v[0])
		} else if _, ok := c.r.Header["X-Remove-"+name[2:]]; ok {
			ch.Meta[name] = ""
		}
	}
	for _, name := range []string{"X-Versions-Location", "X-History-Location"} {
		if v := ch.Meta[name]; v != "" {
			ch.Meta[name] = unescape(v)
		}
	}
	c.tagSetting(containerTagsSet, containerTags, ch.Meta)
	if v, ok := c.r.Header["X-Versions-Enabled"]; ok {
		on := isTrue(v[0])
		ch.Versions = &on
	}
	if ch.Meta["X-Container-Sync-To"] != "" {
		return ch, nacre.Errorf(nacre.Invalid, "", "Container sync is not served here")
	}
	return ch, nil
}

func (c *call) putContainer() {
	ch, err := c.containerChange()
	if err != nil {
		c.fail(err)
		return
	}
	made, err := c.svc.PutContainer(c.ctx, c.ref, ch)
	switch {
	case err != nil:
		c.fail(err)
	case made:
		c.plain(http.StatusCreated)
	default:
		c.plain(http.StatusAccepted)
	}
}

func (c *call) postContainer() {
	ch, err := c.containerChange()
	if err == nil {
		err = c.svc.PostContainer(c.ctx, c.ref, ch)
	}
	if err != nil {
		c.fail(err)
		return
	}
	c.plain(http.StatusNoContent)
}

func (c *call) deleteContainer() {
	if err := c.svc.DeleteContainer(c.ctx, c.ref); err != nil {
		c.fail(err)
		return
	}
	c.plain(http.StatusNoContent)
}

func (c *call) getContainer() {
	f, err := c.format()
	if err != nil {
		c.fail(err)
		return
	}
	q, err := c.listQuery()
	if err != nil {
		c.fail(err)
		return
	}
	var cont objectstore.Container
	var es []objectstore.ObjectEntry
	switch {
	case c.r.Method == http.MethodHead, q.Limit == -2:
		cont, err = c.svc.Container(c.ctx, c.ref)
	default:
		cont, es, err = c.svc.ListObjects(c.ctx, c.ref, q)
	}
	if err != nil {
		c.fail(err)
		return
	}
	h := c.w.Header()
	h.Set("X-Timestamp", objectstore.Timestamp(cont.Created))
	h.Set("Last-Modified", modified(cont.Changed))
	h.Set("X-Container-Object-Count", strconv.FormatInt(cont.Objects, 10))
	h.Set("X-Container-Bytes-Used", strconv.FormatInt(cont.Bytes+cont.VersionBytes, 10))
	h.Set("X-Storage-Policy", cont.Policy)
	h.Set("Accept-Ranges", "bytes")
	for k, v := range cont.Meta {
		if !strings.HasPrefix(k, "X-Container-Sysmeta-") {
			h.Set(k, v)
		}
	}
	c.showTagSetting(containerTagsSet, cont.Meta[containerTags])
	if cont.Versions != "" {
		h.Set("X-Versions-Enabled", map[bool]string{true: "True", false: "False"}[cont.Versions == "enabled"])
	}
	if c.r.Method == http.MethodHead {
		h.Set("Content-Type", f+"; charset=utf-8")
		h.Set("Content-Length", "0")
		c.w.WriteHeader(http.StatusNoContent)
		return
	}
	c.listing(f, c.objectsText(f, es, q.Versions))
}
