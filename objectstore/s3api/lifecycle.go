package s3api

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/nacre-cloud/nacre/objectstore"
)

type sizedXML struct {
	Prefix  string   `xml:"Prefix,omitempty"`
	Tags    []tagXML `xml:"Tag"`
	Larger  int64    `xml:"ObjectSizeGreaterThan,omitempty"`
	Smaller int64    `xml:"ObjectSizeLessThan,omitempty"`
}

type filterXML struct {
	Prefix  *string   `xml:"Prefix,omitempty"`
	Tag     *tagXML   `xml:"Tag,omitempty"`
	Larger  int64     `xml:"ObjectSizeGreaterThan,omitempty"`
	Smaller int64     `xml:"ObjectSizeLessThan,omitempty"`
	And     *sizedXML `xml:"And,omitempty"`
}

type expirationXML struct {
	Days   int    `xml:"Days,omitempty"`
	Date   string `xml:"Date,omitempty"`
	Marker bool   `xml:"ExpiredObjectDeleteMarker,omitempty"`
}

type oldXML struct {
	Days int `xml:"NoncurrentDays,omitempty"`
	Keep int `xml:"NewerNoncurrentVersions,omitempty"`
}

type abortXML struct {
	Days int `xml:"DaysAfterInitiation"`
}

type ruleXML struct {
	ID          string         `xml:"ID,omitempty"`
	Status      string         `xml:"Status"`
	Prefix      *string        `xml:"Prefix,omitempty"`
	Filter      *filterXML     `xml:"Filter,omitempty"`
	Expiration  *expirationXML `xml:"Expiration,omitempty"`
	Old         *oldXML        `xml:"NoncurrentVersionExpiration,omitempty"`
	Abort       *abortXML      `xml:"AbortIncompleteMultipartUpload,omitempty"`
	Transitions []struct{}     `xml:"Transition"`
	OldMoves    []struct{}     `xml:"NoncurrentVersionTransition"`
}

type lifecycleXML struct {
	XMLName xml.Name  `xml:"LifecycleConfiguration"`
	Space   string    `xml:"xmlns,attr,omitempty"`
	Rules   []ruleXML `xml:"Rule"`
}

// maxRules bounds a lifecycle. What it takes must also fit with the bucket.
const maxRules = 100

// rule is a rule as it is kept.
func (x *ruleXML) rule() (objectstore.LifecycleRule, error) {
	r := objectstore.LifecycleRule{ID: x.ID, Disabled: x.Status == "Disabled"}
	if x.Status != "Enabled" && x.Status != "Disabled" || len(x.ID) > 255 || x.Prefix != nil && x.Filter != nil {
		return r, fault("MalformedXML")
	}
	if len(x.Transitions)+len(x.OldMoves) > 0 {
		return r, newFault("NotImplemented", "There is one storage class here; objects do not change it.")
	}
	if x.Prefix != nil {
		r.Prefix = *x.Prefix
	}
	if err := x.Filter.into(&r); err != nil {
		return r, err
	}
	if err := x.Expiration.into(&r); err != nil {
		return r, err
	}
	if err := x.others(&r); err != nil {
		return r, err
	}
	if x.Expiration == nil && x.Old == nil && x.Abort == nil {
		return r, newFault("InvalidRequest", "At least one action needs to be specified in a rule.")
	}
	return r, nil
}

func (e *expirationXML) into(r *objectstore.LifecycleRule) error {
	if e == nil {
		return nil
	}
	n := 0
	for _, given := range []bool{e.Days != 0, e.Date != "", e.Marker} {
		if given {
			n++
		}
	}
	if n != 1 || e.Days < 0 {
		return fault("MalformedXML")
	}
	r.Days, r.Markers = e.Days, e.Marker
	if e.Date == "" {
		return nil
	}
	var err error
	if r.Date, err = time.Parse(time.RFC3339, e.Date); err != nil {
		return fault("MalformedXML")
	}
	if !r.Date.Equal(r.Date.Truncate(24 * time.Hour)) {
		return newFault("InvalidArgument", "'Date' must be at midnight GMT")
	}
	return nil
}

// others are the actions on older versions and on unfinished uploads.
func (x *ruleXML) others(r *objectstore.LifecycleRule) error {
	if o := x.Old; o != nil {
		if o.Days <= 0 || o.Keep < 0 || o.Keep > 100 {
			return newFault("InvalidArgument", "'NoncurrentDays' for NoncurrentVersionExpiration action must be a positive integer")
		}
		r.OldDays, r.OldKeep = o.Days, o.Keep
	}
	if a := x.Abort; a != nil {
		if a.Days <= 0 {
			return newFault("InvalidArgument", "'DaysAfterInitiation' for AbortIncompleteMultipartUpload action must be a positive integer")
		}
		if len(r.Tags) > 0 || r.Larger+r.Smaller > 0 {
			return newFault("InvalidRequest", "AbortIncompleteMultipartUpload cannot be specified with Tags or sizes.")
		}
		r.AbortDays = a.Days
	}
	return nil
}

func (f *filterXML) into(r *objectstore.LifecycleRule) error {
	if f == nil {
		return nil
	}
	all := sizedXML{Larger: f.Larger, Smaller: f.Smaller}
	n := 0
	if f.Prefix != nil {
		all.Prefix = *f.Prefix
		n++
	}
	if f.Tag != nil {
		all.Tags = []tagXML{*f.Tag}
		n++
	}
	if f.Larger > 0 {
		n++
	}
	if f.Smaller > 0 {
		n++
	}
	if f.And != nil {
		all = *f.And
		n++
	}
	if n > 1 || all.Larger < 0 || all.Smaller < 0 {
		return fault("MalformedXML")
	}
	if _, err := tagSet(all.Tags, maxObjectTags); err != nil {
		return err
	}
	r.Prefix, r.Larger, r.Smaller = all.Prefix, all.Larger, all.Smaller
	for _, t := range all.Tags {
		if r.Tags == nil {
			r.Tags = map[string]string{}
		}
		r.Tags[t.Key] = t.Value
	}
	return nil
}

// ruleOf shows a rule that is kept.
func ruleOf(r *objectstore.LifecycleRule) ruleXML {
	x := ruleXML{ID: r.ID, Status: "Enabled", Filter: &filterXML{}}
	if r.Disabled {
		x.Status = "Disabled"
	}
	q := url.Values{}
	for k, v := range r.Tags {
		q.Set(k, v)
	}
	tags := tagsOf(q.Encode())
	switch {
	case len(tags) > 1 || len(tags) == 1 && r.Prefix != "" || r.Larger > 0 && (r.Prefix != "" || r.Smaller > 0 || len(tags) > 0) || r.Smaller > 0 && (r.Prefix != "" || len(tags) > 0):
		x.Filter.And = &sizedXML{r.Prefix, tags, r.Larger, r.Smaller}
	case len(tags) == 1:
		x.Filter.Tag = &tags[0]
	case r.Larger > 0, r.Smaller > 0:
		x.Filter.Larger, x.Filter.Smaller = r.Larger, r.Smaller
	default:
		x.Filter.Prefix = &r.Prefix
	}
	if r.Days > 0 || !r.Date.IsZero() || r.Markers {
		x.Expiration = &expirationXML{Days: r.Days, Marker: r.Markers}
		if !r.Date.IsZero() {
			x.Expiration.Date = stamp(r.Date)
		}
	}
	if r.OldDays > 0 {
		x.Old = &oldXML{r.OldDays, r.OldKeep}
	}
	if r.AbortDays > 0 {
		x.Abort = &abortXML{r.AbortDays}
	}
	return x
}

func (c *call) putLifecycle() error {
	var doc lifecycleXML
	if err := c.readXML(&doc); err != nil {
		return err
	}
	if len(doc.Rules) == 0 || len(doc.Rules) > maxRules {
		return fault("MalformedXML")
	}
	ids := map[string]bool{}
	rules := make([]objectstore.LifecycleRule, len(doc.Rules))
	for i := range doc.Rules {
		r, err := doc.Rules[i].rule()
		if err != nil {
			return err
		}
		if r.ID == "" {
			r.ID = fmt.Sprintf("rule-%d", i+1)
		}
		if ids[r.ID] {
			return newFault("InvalidArgument", "Rule ID must be unique. Found same ID for more than one rule")
		}
		rules[i], ids[r.ID] = r, true
	}
	text, err := json.Marshal(rules)
	if err != nil {
		return err
	}
	return c.setBucket(http.StatusOK, objectstore.LifecycleRules, string(text), nil)
}

func (c *call) getLifecycle() error {
	cont, err := c.svc.Container(c.ctx, c.ref())
	if err != nil {
		return c.bucketError(err)
	}
	rules := cont.Lifecycle()
	if len(rules) == 0 {
		return fault("NoSuchLifecycleConfiguration")
	}
	out := lifecycleXML{Space: namespace}
	for i := range rules {
		out.Rules = append(out.Rules, ruleOf(&rules[i]))
	}
	return c.xml(http.StatusOK, out)
}

func (c *call) deleteLifecycle() error {
	return c.setBucket(http.StatusNoContent, objectstore.LifecycleRules, "", nil)
}

// showExpiration says when an object goes by its bucket's lifecycle.
func (c *call) showExpiration(cont *objectstore.Container, o *objectstore.Object) {
	if at, rule := cont.ExpiresBy(o); !at.IsZero() {
		c.w.Header().Set("X-Amz-Expiration", fmt.Sprintf("expiry-date=%q, rule-id=%q", at.UTC().Format(http.TimeFormat), rule))
	}
}
