package s3api

import (
	"encoding/xml"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"unicode/utf8"

	"github.com/nacre-cloud/nacre/objectstore"
)

// Tags lie with an object or bucket as a query string.
const (
	objectTags = objectstore.ObjectTags
	bucketTags = "X-Container-Sysmeta-S3-Tags"
)

// Bounds of S3.
const (
	maxObjectTags = 10
	maxBucketTags = 50
	maxTagKey     = 128
	maxTagValue   = 256
)

type tagXML struct{ Key, Value string }

type taggingXML struct {
	XMLName xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ Tagging"`
	Tags    []tagXML `xml:"TagSet>Tag"`
}

// tagSet is tags as they are kept, if there are not too many or too long ones.
func tagSet(tags []tagXML, most int) (string, error) {
	if len(tags) > most {
		return "", newFault("BadRequest", "Object tags cannot be greater than "+strconv.Itoa(most))
	}
	q := url.Values{}
	for _, t := range tags {
		switch {
		case t.Key == "" || utf8.RuneCountInString(t.Key) > maxTagKey:
			return "", newFault("InvalidTag", "The TagKey you have provided is invalid")
		case utf8.RuneCountInString(t.Value) > maxTagValue:
			return "", newFault("InvalidTag", "The TagValue you have provided is invalid")
		case q.Has(t.Key):
			return "", newFault("InvalidTag", "Cannot provide multiple Tags with the same key")
		}
		q.Set(t.Key, t.Value)
	}
	return q.Encode(), nil
}

// tagsOf are tags that are kept.
func tagsOf(kept string) []tagXML {
	q, _ := url.ParseQuery(kept) // made by tagSet
	out := []tagXML{}
	for k := range q {
		out = append(out, tagXML{k, q.Get(k)})
	}
	slices.SortFunc(out, func(a, b tagXML) int {
		if a.Key < b.Key {
			return -1
		}
		return 1
	})
	return out
}

// headerTags are the tags of the header X-Amz-Tagging, as they are kept.
func headerTags(h http.Header) (string, error) {
	q, err := url.ParseQuery(h.Get("X-Amz-Tagging"))
	if err != nil {
		return "", newFault("InvalidArgument", "The header 'x-amz-tagging' shall be encoded as UTF-8 then URLEncoded URL query parameters without tag name duplicates.")
	}
	var tags []tagXML
	for k, vs := range q {
		for _, v := range vs {
			tags = append(tags, tagXML{k, v})
		}
	}
	return tagSet(tags, maxObjectTags)
}

func (c *call) getObjectTags() error {
	o, err := c.svc.Get(c.ctx, c.ref(), objectstore.GetOptions{Manifest: true, Version: c.q.Get("versionId")})
	if err != nil {
		return c.keyError(err)
	}
	c.version(o.Version)
	return c.xml(http.StatusOK, taggingXML{Tags: tagsOf(o.Meta()[objectTags])})
}

func (c *call) putObjectTags() error {
	var doc struct {
		XMLName xml.Name `xml:"Tagging"`
		Tags    []tagXML `xml:"TagSet>Tag"`
	}
	if err := c.readXML(&doc); err != nil {
		return err
	}
	tags, err := tagSet(doc.Tags, maxObjectTags)
	if err != nil {
		return err
	}
	return c.setObjectTags(tags, http.StatusOK)
}

func (c *call) deleteObjectTags() error { return c.setObjectTags("", http.StatusNoContent) }

func (c *call) setObjectTags(tags string, status int) error {
	v, err := c.svc.SetSysmeta(c.ctx, c.ref(), c.q.Get("versionId"), objectTags, tags)
	if err != nil {
		return c.keyError(err)
	}
	c.version(v)
	c.w.WriteHeader(status)
	return nil
}

func (c *call) getBucketTags() error {
	cont, err := c.svc.Container(c.ctx, c.ref())
	if err != nil {
		return c.bucketError(err)
	}
	tags := cont.Meta[bucketTags]
	if tags == "" {
		return fault("NoSuchTagSet")
	}
	return c.xml(http.StatusOK, taggingXML{Tags: tagsOf(tags)})
}

func (c *call) putBucketTags() error {
	var doc struct {
		XMLName xml.Name `xml:"Tagging"`
		Tags    []tagXML `xml:"TagSet>Tag"`
	}
	if err := c.readXML(&doc); err != nil {
		return err
	}
	tags, err := tagSet(doc.Tags, maxBucketTags)
	if err != nil {
		return err
	}
	return c.setBucket(http.StatusNoContent, bucketTags, tags, nil)
}

func (c *call) deleteBucketTags() error {
	return c.setBucket(http.StatusNoContent, bucketTags, "", nil)
}

// setBucket keeps something with a bucket, with further headers; empty takes it away.
func (c *call) setBucket(status int, name, value string, headers map[string]string) error {
	if int64(len(value)) > c.svc.Limits().HeaderSize {
		return newFault("InvalidRequest", "This is more than is kept with a bucket here.")
	}
	meta := map[string]string{name: value}
	for k, v := range headers {
		meta[k] = v
	}
	if err := c.svc.PostContainer(c.ctx, c.ref(), objectstore.ContainerChange{Meta: meta}); err != nil {
		return c.bucketError(err)
	}
	c.w.WriteHeader(status)
	return nil
}
