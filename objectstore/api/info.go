package api

import (
	"encoding/json"
	"net/http"
	"sync"
	"time"

	"github.com/nacre-cloud/nacre/objectstore"
)

// swiftVersion is the release whose behaviour is served.
const swiftVersion = "2.35.0"

// info says what this store can do. Container sync is not among it.
func (c *call) info() {
	if c.r.Method != http.MethodGet && c.r.Method != http.MethodHead {
		c.w.Header().Set("Allow", "GET, HEAD, OPTIONS")
		c.plain(http.StatusMethodNotAllowed)
		return
	}
	l := c.svc.Limits()
	var policies []map[string]any
	for i, p := range c.svc.Policies() {
		e := map[string]any{"name": p, "aliases": p}
		if i == 0 {
			e["default"] = true
		}
		policies = append(policies, e)
	}
	none := map[string]any{}
	methods := []string{"GET", "HEAD", "PUT", "POST", "DELETE"}
	doc := map[string]any{
		"swift": map[string]any{
			"version": swiftVersion, "max_file_size": l.FileSize, "max_meta_name_length": l.MetaName, "max_meta_value_length": l.MetaValue, "max_meta_count": l.MetaCount,
			"max_meta_overall_size": l.MetaOverall, "max_header_size": l.HeaderSize, "max_object_name_length": l.ObjectName, "max_container_name_length": l.ContainerName,
			"max_account_name_length": l.AccountName, "container_listing_limit": l.ContainerListing, "account_listing_limit": l.AccountListing, "extra_header_count": 0,
			"allow_account_management": c.svc.AccountManagement(), "account_autocreate": true, "strict_cors_mode": true, "policies": policies, "valid_api_versions": []string{"v1", "v1.0"},
			"auto_create_account_prefix": ".",
		},
		"slo": map[string]any{"max_manifest_segments": l.Segments, "max_manifest_size": l.ManifestSize, "min_segment_size": 1, "yield_frequency": int(c.Heartbeat / time.Second), "allow_async_delete": false},
		"dlo": map[string]any{"max_segments": 10000}, "symlink": map[string]any{"symloop_max": 2, "static_links": true},
		"tempurl": map[string]any{"methods": methods, "allowed_digests": objectstore.Digests, "incoming_remove_headers": []string{"x-timestamp", "x-open-expired"}, "incoming_allow_headers": []string{},
			"outgoing_remove_headers": []string{"x-object-meta-*"}, "outgoing_allow_headers": []string{"x-object-meta-public-*"}},
		"formpost":    map[string]any{"allowed_digests": objectstore.Digests},
		"bulk_delete": map[string]any{"max_deletes_per_request": l.BulkDeletes, "max_failed_deletes": 1000}, "bulk_upload": map[string]any{"max_containers_per_extraction": l.BulkContainers, "max_failed_extractions": 1000},
		"staticweb": none, "crossdomain": none, "object_versioning": none, "versioned_writes": map[string]any{"allowed_flags": []string{"x-versions-location", "x-history-location"}},
		"container_quotas": none, "account_quotas": none, "copy": none, "keystoneauth": none, "etag_quoter": map[string]any{"enable_by_default": false},
	}
	if len(c.Domains) > 0 {
		doc["domain_remap"] = map[string]any{"default_reseller_prefix": c.svc.Prefix()}
	}
	if c.Alias != nil {
		doc["cname_lookup"] = map[string]any{"lookup_depth": 1}
	}
	if c.Login != nil {
		doc["tempauth"] = map[string]any{"account_acls": true}
	}
	if c.Writes > 0 {
		doc["ratelimit"] = map[string]any{"account_ratelimit": c.Writes}
	}
	for k, v := range c.Features {
		doc[k] = v
	}
	body, err := json.Marshal(doc)
	if err != nil {
		c.fail(err)
		return
	}
	c.corsAll()
	c.body(http.StatusOK, "application/json; charset=UTF-8", string(body))
}

// crossdomain is the policy file of Adobe's players: everybody may.
func (c *call) crossdomain() {
	c.body(http.StatusOK, "application/xml", "<?xml version=\"1.0\"?>\n<!DOCTYPE cross-domain-policy SYSTEM \"http://www.adobe.com/xml/dtds/cross-domain-policy.dtd\" >\n"+
		"<cross-domain-policy>\n<allow-access-from domain=\"*\" secure=\"false\" />\n</cross-domain-policy>")
}

// login is the old way to get a token: a user ("project:user") and a key in
// headers.
func (c *call) login() {
	if c.Login == nil {
		c.plain(http.StatusNotFound)
		return
	}
	h := c.r.Header
	user, key := h.Get("X-Auth-User"), h.Get("X-Auth-Key")
	if user == "" {
		user, key = h.Get("X-Storage-User"), h.Get("X-Storage-Pass")
	}
	token, account, expires, err := c.Login(c.ctx, user, key)
	if err != nil {
		c.fail(err)
		return
	}
	out := c.w.Header()
	out.Set("X-Auth-Token", token)
	out.Set("X-Storage-Token", token)
	out.Set("X-Storage-Url", scheme(c.r)+"://"+c.r.Host+c.base+"/v1/"+account)
	if left := time.Until(expires); left > 0 {
		out.Set("X-Auth-Token-Expires", secs(left))
	}
	c.plain(http.StatusOK)
}

// rates bounds the changes of each account.
type rates struct {
	most int
	mu   sync.Mutex
	// at is when an account may next make a change, if it made them evenly.
	at map[string]time.Time
}

func (r *rates) allow(method, account string) bool {
	if r.most <= 0 || method == http.MethodGet || method == http.MethodHead || method == http.MethodOptions {
		return true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	if r.at == nil || len(r.at) > 10000 {
		r.at = map[string]time.Time{}
	}
	next := r.at[account]
	if next.Before(now) {
		next = now
	}
	// A second's worth may come at once.
	if next.Sub(now) > time.Second {
		return false
	}
	r.at[account] = next.Add(time.Second / time.Duration(r.most))
	return true
}
