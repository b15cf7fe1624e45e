package s3api

import (
	"cmp"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/objectstore"
)

// segments is what the container of a bucket's parts ends in.
const segments = objectstore.SegmentsSuffix

type ownerXML struct {
	ID          string
	DisplayName string
}

func (c *call) ownerXML() *ownerXML { return &ownerXML{c.owner, c.owner} }

func (c *call) listBuckets() error {
	type bucket struct{ Name, CreationDate string }
	var out []bucket
	q := objectstore.ListQuery{}
	for {
		_, es, err := c.svc.ListContainers(c.ctx, c.account, q)
		if err != nil {
			return err
		}
		for _, e := range es {
			if !strings.HasSuffix(e.Name, segments) {
				out = append(out, bucket{e.Name, stamp(e.Changed)})
			}
		}
		if int64(len(es)) < c.svc.Limits().AccountListing {
			break
		}
		q.Marker = es[len(es)-1].Name
	}
	return c.xml(http.StatusOK, struct {
		XMLName xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ ListAllMyBucketsResult"`
		Owner   *ownerXML
		Buckets []bucket `xml:"Buckets>Bucket"`
	}{Owner: c.ownerXML(), Buckets: out})
}

var bucketName = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)

// cannedACL is a container's ACL for one of S3's.
func cannedACL(name string) (map[string]string, error) {
	rd, wr := "", ""
	switch name {
	case "", "private", "bucket-owner-full-control", "bucket-owner-read":
	case "public-read":
		rd = ".r:*,.rlistings"
	case "public-read-write":
		rd, wr = ".r:*,.rlistings", "*:*"
	case "authenticated-read":
		rd = "*:*"
	default:
		return nil, fault("InvalidArgument")
	}
	return map[string]string{"X-Container-Read": rd, "X-Container-Write": wr}, nil
}

func (c *call) createBucket() error {
	if !bucketName.MatchString(c.bucket) || strings.Contains(c.bucket, "..") {
		return fault("InvalidBucketName")
	}
	if c.size != 0 {
		var doc struct {
			XMLName            xml.Name `xml:"CreateBucketConfiguration"`
			LocationConstraint string
		}
		if err := c.readXML(&doc); err != nil {
			return err
		}
	}
	meta, err := cannedACL(c.r.Header.Get("X-Amz-Acl"))
	if err != nil {
		return err
	}
	if strings.EqualFold(c.r.Header.Get("X-Amz-Bucket-Object-Lock-Enabled"), "true") {
		return fault("NotImplemented")
	}
	if _, err := c.svc.Container(c.ctx, c.ref()); err == nil {
		return fault("BucketAlreadyOwnedByYou")
	} else if !errors.Is(err, nacre.NotFound) {
		return err
	}
	meta[cannedName] = c.r.Header.Get("X-Amz-Acl")
	for k, v := range meta {
		if v == "" {
			delete(meta, k)
		}
	}
	if _, err := c.svc.PutContainer(c.ctx, c.ref(), objectstore.ContainerChange{Meta: meta}); err != nil {
		return err
	}
	c.w.Header().Set("Location", "/"+c.bucket)
	c.w.WriteHeader(http.StatusOK)
	return nil
}

func (c *call) headBucket() error {
	if _, err := c.svc.Container(c.ctx, c.ref()); err != nil {
		return c.bucketError(err)
	}
	c.w.Header().Set("X-Amz-Bucket-Region", c.Region)
	c.w.WriteHeader(http.StatusOK)
	return nil
}

func (c *call) deleteBucket() error {
	if err := c.svc.DeleteContainer(c.ctx, c.ref()); err != nil {
		if errors.Is(err, nacre.Conflict) {
			return fault("BucketNotEmpty")
		}
		return c.bucketError(err)
	}
	// What unfinished uploads have left goes with the bucket.
	seg := objectstore.Ref{Account: c.account, Container: c.bucket + segments}
	for {
		_, es, err := c.svc.ListObjects(c.ctx, seg, objectstore.ListQuery{})
		if errors.Is(err, nacre.NotFound) {
			break
		}
		if err != nil {
			return err
		}
		for _, e := range es {
			r := seg
			r.Object = e.Name
			if _, err := c.svc.Delete(c.ctx, r, objectstore.DeleteOptions{}); err != nil && !errors.Is(err, nacre.NotFound) {
				return err
			}
		}
		if len(es) == 0 {
			if err := c.svc.DeleteContainer(c.ctx, seg); err != nil && !errors.Is(err, nacre.NotFound) && !errors.Is(err, nacre.Conflict) {
				return err
			}
			break
		}
	}
	c.w.WriteHeader(http.StatusNoContent)
	return nil
}

func (c *call) location() error {
	if _, err := c.svc.Container(c.ctx, c.ref()); err != nil {
		return c.bucketError(err)
	}
	region := c.Region
	if region == "us-east-1" {
		region = ""
	}
	return c.xml(http.StatusOK, struct {
		XMLName xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ LocationConstraint"`
		Region  string   `xml:",chardata"`
	}{Region: region})
}

type granteeXML struct {
	Type        string `xml:"http://www.w3.org/2001/XMLSchema-instance type,attr"`
	ID          string `xml:"ID,omitempty"`
	DisplayName string `xml:"DisplayName,omitempty"`
	URI         string `xml:"URI,omitempty"`
}

type grantXML struct {
	Grantee    granteeXML
	Permission string
}

const allUsers = "http://acs.amazonaws.com/groups/global/AllUsers"

// getACL shows a bucket's ACL as grants; an object has its bucket's.
func (c *call) getACL() error {
	cont, err := c.svc.Container(c.ctx, objectstore.Ref{Account: c.account, Container: c.bucket})
	if err != nil {
		return c.bucketError(err)
	}
	if c.key != "" {
		if _, err := c.svc.Get(c.ctx, c.ref(), objectstore.GetOptions{Manifest: true, Version: c.q.Get("versionId")}); err != nil {
			return c.keyError(err)
		}
	}
	grants := []grantXML{{granteeXML{Type: "CanonicalUser", ID: c.owner, DisplayName: c.owner}, "FULL_CONTROL"}}
	if strings.Contains(cont.Meta["X-Container-Read"], ".r:*") {
		grants = append(grants, grantXML{granteeXML{Type: "Group", URI: allUsers}, "READ"})
	}
	if cont.Meta["X-Container-Write"] == "*:*" {
		grants = append(grants, grantXML{granteeXML{Type: "Group", URI: allUsers}, "WRITE"})
	}
	return c.xml(http.StatusOK, struct {
		XMLName xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ AccessControlPolicy"`
		Owner   *ownerXML
		Grants  []grantXML `xml:"AccessControlList>Grant"`
	}{Owner: c.ownerXML(), Grants: grants})
}

func (c *call) putBucketACL() error {
	name := c.r.Header.Get("X-Amz-Acl")
	if name == "" {
		var doc struct {
			XMLName xml.Name `xml:"AccessControlPolicy"`
			Grants  []struct {
				Grantee struct {
					URI string
					ID  string
				}
				Permission string
			} `xml:"AccessControlList>Grant"`
		}
		if err := c.readXML(&doc); err != nil {
			return err
		}
		name = "private"
		for _, g := range doc.Grants {
			switch {
			case g.Grantee.URI == "" && g.Grantee.ID == c.owner:
			case g.Grantee.URI == allUsers && g.Permission == "READ" && name == "private":
				name = "public-read"
			case g.Grantee.URI == allUsers && g.Permission == "READ":
			case g.Grantee.URI == allUsers && g.Permission == "WRITE":
				name = "public-read-write"
			default:
				return fault("NotImplemented")
			}
		}
	}
	meta, err := cannedACL(name)
	if err != nil {
		return err
	}
	cont, err := c.svc.Container(c.ctx, c.ref())
	if err != nil {
		return c.bucketError(err)
	}
	if p := cont.Meta[bucketPolicy]; p != "" {
		acl, err := policyACL([]byte(p), c.bucket)
		if err != nil {
			return err
		}
		meta["X-Container-Read"] = wider(acl, meta["X-Container-Read"])
	}
	meta[cannedName] = name
	if err := c.svc.PostContainer(c.ctx, c.ref(), objectstore.ContainerChange{Meta: meta}); err != nil {
		return c.bucketError(err)
	}
	c.w.WriteHeader(http.StatusOK)
	return nil
}

// putObjectACL takes what changes nothing: an object has no ACL of its own.
func (c *call) putObjectACL() error {
	if _, err := c.svc.Get(c.ctx, c.ref(), objectstore.GetOptions{Manifest: true}); err != nil {
		return c.keyError(err)
	}
	switch c.r.Header.Get("X-Amz-Acl") {
	case "private", "bucket-owner-full-control", "bucket-owner-read":
		c.w.WriteHeader(http.StatusOK)
		return nil
	}
	return fault("NotImplemented")
}

type versioningXML struct {
	XMLName xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ VersioningConfiguration"`
	Status  string   `xml:"Status,omitempty"`
}

func (c *call) getVersioning() error {
	cont, err := c.svc.Container(c.ctx, c.ref())
	if err != nil {
		return c.bucketError(err)
	}
	return c.xml(http.StatusOK, versioningXML{Status: map[string]string{"enabled": "Enabled", "suspended": "Suspended"}[cont.Versions]})
}

func (c *call) putVersioning() error {
	var doc struct {
		XMLName   xml.Name `xml:"VersioningConfiguration"`
		Status    string
		MFADelete string `xml:"MfaDelete"`
	}
	if err := c.readXML(&doc); err != nil {
		return err
	}
	if doc.MFADelete == "Enabled" {
		return fault("NotImplemented")
	}
	on := doc.Status == "Enabled"
	if !on && doc.Status != "Suspended" {
		return fault("MalformedXML")
	}
	if err := c.svc.PostContainer(c.ctx, c.ref(), objectstore.ContainerChange{Versions: &on}); err != nil {
		return c.bucketError(err)
	}
	c.w.WriteHeader(http.StatusOK)
	return nil
}

// maxKeysOf reads max-keys.
func (c *call) count(name string) (int, error) {
	v := c.q.Get(name)
	if v == "" {
		return maxKeys, nil
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < 0 {
		return 0, fault("InvalidArgument")
	}
	return min(n, maxKeys), nil
}

// encoder encodes names if the client asked for it.
func (c *call) encoder() (func(string) string, error) {
	switch c.q.Get("encoding-type") {
	case "":
		return func(s string) string { return s }, nil
	case "url":
		return func(s string) string { return escape(s, false) }, nil
	}
	return nil, fault("InvalidArgument")
}

type contentXML struct {
	Key          string
	LastModified string
	ETag         string
	Size         int64
	Owner        *ownerXML `xml:"Owner,omitempty"`
	StorageClass string
}

type prefixXML struct{ Prefix string }

type listXML struct {
	XMLName               xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ ListBucketResult"`
	Name                  string
	Prefix                string
	Marker                *string `xml:"Marker,omitempty"`
	NextMarker            string  `xml:"NextMarker,omitempty"`
	ContinuationToken     string  `xml:"ContinuationToken,omitempty"`
	NextContinuationToken string  `xml:"NextContinuationToken,omitempty"`
	StartAfter            string  `xml:"StartAfter,omitempty"`
	KeyCount              *int    `xml:"KeyCount,omitempty"`
	MaxKeys               int
	Delimiter             string `xml:"Delimiter,omitempty"`
	EncodingType          string `xml:"EncodingType,omitempty"`
	IsTruncated           bool
	Contents              []contentXML
	CommonPrefixes        []prefixXML
}

// listObjects is both versions of the listing.
func (c *call) listObjects() error {
	n, err := c.count("max-keys")
	if err != nil {
		return err
	}
	enc, err := c.encoder()
	if err != nil {
		return err
	}
	v2 := c.q.Get("list-type") == "2"
	q := objectstore.ListQuery{Prefix: c.q.Get("prefix"), Delimiter: c.q.Get("delimiter"), Limit: n + 1}
	out := listXML{Name: c.bucket, Prefix: enc(q.Prefix), MaxKeys: n, Delimiter: enc(q.Delimiter), EncodingType: c.q.Get("encoding-type")}
	if v2 {
		out.ContinuationToken, out.StartAfter = c.q.Get("continuation-token"), enc(c.q.Get("start-after"))
		q.Marker = c.q.Get("start-after")
		if t := out.ContinuationToken; t != "" {
			m, err := base64.RawURLEncoding.DecodeString(t)
			if err != nil {
				return fault("InvalidArgument")
			}
			q.Marker = string(m)
		}
	} else {
		m := enc(c.q.Get("marker"))
		out.Marker, q.Marker = &m, c.q.Get("marker")
	}
	_, es, err := c.svc.ListObjects(c.ctx, c.ref(), q)
	if err != nil {
		return c.bucketError(err)
	}
	if n == 0 {
		es = nil
	}
	if len(es) > n {
		es = es[:n]
		out.IsTruncated = true
		last := es[n-1].Name
		if v2 {
			out.NextContinuationToken = base64.RawURLEncoding.EncodeToString([]byte(last))
		} else {
			out.NextMarker = enc(last)
		}
	}
	if v2 {
		k := len(es)
		out.KeyCount = &k
	}
	for _, e := range es {
		if e.Subdir {
			out.CommonPrefixes = append(out.CommonPrefixes, prefixXML{enc(e.Name)})
			continue
		}
		x := contentXML{Key: enc(e.Name), LastModified: stamp(e.Modified), ETag: `"` + e.S3Etag + `"`, Size: e.Bytes, StorageClass: "STANDARD"}
		if !v2 || c.q.Get("fetch-owner") == "true" {
			x.Owner = c.ownerXML()
		}
		out.Contents = append(out.Contents, x)
	}
	return c.xml(http.StatusOK, out)
}

type versionXML struct {
	XMLName      xml.Name
	Key          string
	VersionID    string `xml:"VersionId"`
	IsLatest     bool
	LastModified string
	ETag         string `xml:"ETag,omitempty"`
	Size         *int64 `xml:"Size,omitempty"`
	Owner        *ownerXML
	StorageClass string `xml:"StorageClass,omitempty"`
}

func (c *call) listVersions() error {
	n, err := c.count("max-keys")
	if err != nil {
		return err
	}
	enc, err := c.encoder()
	if err != nil {
		return err
	}
	q := objectstore.ListQuery{Prefix: c.q.Get("prefix"), Delimiter: c.q.Get("delimiter"), Marker: c.q.Get("key-marker"), VersionMarker: c.q.Get("version-id-marker"), Limit: n + 1, Versions: true}
	_, es, err := c.svc.ListObjects(c.ctx, c.ref(), q)
	if err != nil {
		return c.bucketError(err)
	}
	out := struct {
		XMLName             xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ ListVersionsResult"`
		Name                string
		Prefix              string
		KeyMarker           string
		VersionIDMarker     string `xml:"VersionIdMarker"`
		NextKeyMarker       string `xml:"NextKeyMarker,omitempty"`
		NextVersionIDMarker string `xml:"NextVersionIdMarker,omitempty"`
		MaxKeys             int
		Delimiter           string `xml:"Delimiter,omitempty"`
		EncodingType        string `xml:"EncodingType,omitempty"`
		IsTruncated         bool
		Versions            []versionXML
		CommonPrefixes      []prefixXML
	}{Name: c.bucket, Prefix: enc(q.Prefix), KeyMarker: enc(q.Marker), VersionIDMarker: q.VersionMarker, MaxKeys: n, Delimiter: enc(q.Delimiter), EncodingType: c.q.Get("encoding-type")}
	if n == 0 {
		es = nil
	}
	if len(es) > n {
		es = es[:n]
		out.IsTruncated = true
		out.NextKeyMarker, out.NextVersionIDMarker = enc(es[n-1].Name), es[n-1].Version
	}
	for i := range es {
		e := &es[i]
		if e.Subdir {
			out.CommonPrefixes = append(out.CommonPrefixes, prefixXML{enc(e.Name)})
			continue
		}
		x := versionXML{XMLName: xml.Name{Local: "Version"}, Key: enc(e.Name), VersionID: cmp.Or(e.Version, objectstore.NullVersion), IsLatest: e.Latest, LastModified: stamp(e.Modified), Owner: c.ownerXML()}
		if e.Marker {
			x.XMLName.Local = "DeleteMarker"
		} else {
			x.ETag, x.Size, x.StorageClass = `"`+e.S3Etag+`"`, &e.Bytes, "STANDARD"
		}
		out.Versions = append(out.Versions, x)
	}
	return c.xml(http.StatusOK, out)
}

// together is how many deletions go at the same time: the store commits them as one.
const together = 32

func (c *call) deleteMany() error {
	var doc struct {
		XMLName xml.Name `xml:"Delete"`
		Quiet   bool
		Objects []struct {
			Key       string
			VersionID string `xml:"VersionId"`
		} `xml:"Object"`
	}
	if err := c.readXML(&doc); err != nil {
		return err
	}
	if len(doc.Objects) > maxKeys || len(doc.Objects) == 0 {
		return fault("MalformedXML")
	}
	if _, err := c.svc.Container(c.ctx, c.ref()); err != nil {
		return c.bucketError(err)
	}
	type deleted struct {
		Key           string
		VersionID     string `xml:"VersionId,omitempty"`
		Marker        bool   `xml:"DeleteMarker,omitempty"`
		MarkerVersion string `xml:"DeleteMarkerVersionId,omitempty"`
	}
	type failed struct{ Key, Code, Message string }
	out := struct {
		XMLName xml.Name  `xml:"http://s3.amazonaws.com/doc/2006-03-01/ DeleteResult"`
		Deleted []deleted `xml:"Deleted"`
		Errors  []failed  `xml:"Error"`
	}{}
	errs, gone := make([]error, len(doc.Objects)), make([]objectstore.Deleted, len(doc.Objects))
	var wg sync.WaitGroup
	free := make(chan struct{}, together)
	for i, o := range doc.Objects {
		free <- struct{}{}
		wg.Go(func() {
			defer func() { <-free }()
			gone[i], errs[i] = c.remove(objectstore.Ref{Account: c.account, Container: c.bucket, Object: o.Key}, o.VersionID)
		})
	}
	wg.Wait()
	for i, o := range doc.Objects {
		if errs[i] != nil && !errors.Is(errs[i], nacre.NotFound) {
			e := asS3(errs[i])
			out.Errors = append(out.Errors, failed{o.Key, e.code, e.message})
			continue
		}
		if doc.Quiet {
			continue
		}
		x := deleted{Key: o.Key, VersionID: o.VersionID, Marker: gone[i].Marker}
		if x.Marker {
			x.MarkerVersion = gone[i].Version
		}
		out.Deleted = append(out.Deleted, x)
	}
	return c.xml(http.StatusOK, out)
}
