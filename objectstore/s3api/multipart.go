package s3api

import (
	"bytes"
	"context"
	"crypto/md5" //nolint:gosec // S3's entity tags are made of MD5 sums
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/objectstore"
)

// upload is what the bytes of an upload's object say that the finished object is to
// have.
type upload struct {
	Type string            `json:"type"`
	Meta map[string]string `json:"meta"`
}

func (c *call) segment(name string) objectstore.Ref {
	return objectstore.Ref{Account: c.account, Container: c.bucket + segments, Object: name}
}

func partName(key, id string, n int) string { return fmt.Sprintf("%s/%s/%05d", key, id, n) }

func (c *call) createUpload() error {
	n, err := c.newObject()
	if err != nil {
		return err
	}
	if _, err := c.svc.Container(c.ctx, objectstore.Ref{Account: c.account, Container: c.bucket}); err != nil {
		return c.bucketError(err)
	}
	if _, err := c.svc.PutContainer(c.ctx, c.segment(""), objectstore.ContainerChange{}); err != nil {
		return err
	}
	id := strings.ToLower(rand.Text())
	body, err := json.Marshal(upload{n.ContentType, n.Meta})
	if err != nil {
		return err
	}
	if _, err := c.svc.Put(c.ctx, objectstore.NewObject{Ref: c.segment(c.key + "/" + id), Body: bytes.NewReader(body), Size: int64(len(body)), ContentType: objectstore.UploadType}); err != nil {
		return err
	}
	return c.xml(http.StatusOK, struct {
		XMLName xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ InitiateMultipartUploadResult"`
		Bucket  string
		Key     string
		ID      string `xml:"UploadId"`
	}{Bucket: c.bucket, Key: c.key, ID: id})
}

// upload reads the upload that a request names.
func (c *call) upload() (string, upload, error) {
	var u upload
	id := c.q.Get("uploadId")
	if id == "" || strings.Contains(id, "/") {
		return id, u, fault("NoSuchUpload")
	}
	o, body, err := c.svc.Read(c.ctx, c.segment(c.key+"/"+id), objectstore.GetOptions{})
	if err != nil {
		if errors.Is(err, nacre.NotFound) {
			if _, cerr := c.svc.Container(c.ctx, objectstore.Ref{Account: c.account, Container: c.bucket}); errors.Is(cerr, nacre.NotFound) {
				return id, u, fault("NoSuchBucket")
			}
			return id, u, fault("NoSuchUpload")
		}
		return id, u, err
	}
	err = json.NewDecoder(body).Decode(&u)
	err = errors.Join(err, body.Close())
	if o.ContentType != objectstore.UploadType {
		return id, u, fault("NoSuchUpload")
	}
	return id, u, err
}

func (c *call) putPart() error {
	n, err := strconv.Atoi(c.q.Get("partNumber"))
	if err != nil || n < 1 || n > maxParts {
		return fault("InvalidArgument")
	}
	id, _, err := c.upload()
	if err != nil {
		return err
	}
	obj, err := c.newObject()
	if err != nil {
		return err
	}
	obj.Ref, obj.Meta, obj.If, obj.ContentType = c.segment(partName(c.key, id, n)), map[string]string{}, nil, "application/octet-stream"
	src := c.r.Header.Get("X-Amz-Copy-Source")
	if src != "" {
		o, err := c.source(src)
		if err != nil {
			return err
		}
		from, size := int64(0), o.Length
		if rg := c.r.Header.Get("X-Amz-Copy-Source-Range"); rg != "" {
			var last int64
			if k, err := fmt.Sscanf(rg, "bytes=%d-%d", &from, &last); err != nil || k != 2 || from < 0 || last < from || last >= o.Length {
				return fault("InvalidArgument")
			}
			size = last - from + 1
		}
		body, err := o.Open(c.ctx, from, size)
		if err != nil {
			return err
		}
		defer body.Close() //nolint:errcheck // read only
		obj.Body, obj.Size, obj.Etag = body, size, ""
	}
	o, err := c.svc.Put(c.ctx, obj)
	if err != nil {
		return err
	}
	if src != "" {
		return c.xml(http.StatusOK, struct {
			XMLName      xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ CopyPartResult"`
			LastModified string
			ETag         string
		}{LastModified: stamp(o.At), ETag: `"` + o.Etag + `"`})
	}
	c.w.Header().Set("ETag", `"`+o.Etag+`"`)
	c.w.WriteHeader(http.StatusOK)
	return nil
}

// parts lists an upload's parts.
func (c *call) parts(ctx context.Context, key, id string) ([]objectstore.ObjectEntry, error) {
	var out []objectstore.ObjectEntry
	q := objectstore.ListQuery{Prefix: key + "/" + id + "/"}
	for {
		_, es, err := c.svc.ListObjects(ctx, c.segment(""), q)
		if err != nil {
			return nil, err
		}
		out = append(out, es...)
		if int64(len(es)) < c.svc.Limits().ContainerListing {
			return out, nil
		}
		q.Marker = es[len(es)-1].Name
	}
}

func (c *call) abortUpload() error {
	id, _, err := c.upload()
	if err != nil {
		return err
	}
	// The upload goes first: no part can come to it any more.
	if _, err := c.svc.Delete(c.ctx, c.segment(c.key+"/"+id), objectstore.DeleteOptions{}); err != nil && !errors.Is(err, nacre.NotFound) {
		return err
	}
	if err := c.svc.DropUpload(c.ctx, c.account, c.bucket, c.key+"\n"+id); err != nil {
		return err
	}
	c.w.WriteHeader(http.StatusNoContent)
	return nil
}

func (c *call) completeUpload() error {
	var doc struct {
		XMLName xml.Name `xml:"CompleteMultipartUpload"`
		Parts   []struct {
			PartNumber int
			ETag       string
		} `xml:"Part"`
	}
	if err := c.readXML(&doc); err != nil {
		return err
	}
	if len(doc.Parts) == 0 || len(doc.Parts) > maxParts {
		return fault("MalformedXML")
	}
	id, u, err := c.upload()
	if err != nil {
		return c.again(err, id)
	}
	es, err := c.parts(c.ctx, c.key, id)
	if err != nil {
		return err
	}
	have := map[string]objectstore.ObjectEntry{}
	for _, e := range es {
		have[e.Name] = e
	}
	n := objectstore.NewObject{Ref: c.ref(), ContentType: u.Type, Meta: u.Meta, Kind: objectstore.KindSLO}
	if n.Meta == nil {
		n.Meta = map[string]string{}
	}
	n.Meta[objectstore.UploadOf] = c.key + "\n" + id
	sums := md5.New() //nolint:gosec // see the import
	last := 0
	for i, p := range doc.Parts {
		if p.PartNumber <= last {
			return fault("InvalidPartOrder")
		}
		last = p.PartNumber
		e, ok := have[partName(c.key, id, p.PartNumber)]
		if !ok || strings.Trim(p.ETag, `"`) != e.Etag {
			return fault("InvalidPart")
		}
		if e.Bytes < minPart && i < len(doc.Parts)-1 {
			return fault("EntityTooSmall")
		}
		raw, err := hex.DecodeString(e.Etag)
		if err != nil {
			return err
		}
		sums.Write(raw)
		if e.Bytes > 0 {
			n.Segments = append(n.Segments, objectstore.Segment{Path: "/" + c.bucket + segments + "/" + e.Name, Etag: e.Etag, Size: &e.Bytes})
		}
		delete(have, e.Name)
	}
	tag := fmt.Sprintf("%s-%d", hex.EncodeToString(sums.Sum(nil)), len(doc.Parts))
	n.ListEtag = ";s3_etag=" + tag
	if len(n.Segments) == 0 {
		// One part without a byte is a plain empty object.
		n.Kind, n.Body = "", nil
	}
	h := c.r.Header
	n.If = func(old *objectstore.Object) error {
		if h.Get("If-None-Match") == "*" && old != nil {
			return fault("PreconditionFailed")
		}
		return nil
	}
	o, err := c.put(n)
	if err != nil {
		return c.keyError(err)
	}
	// Parts that were not used, and the upload, are of no use any more.
	ctx := context.WithoutCancel(c.ctx)
	drop := []string{c.key + "/" + id}
	for name := range have {
		drop = append(drop, name)
	}
	for _, name := range drop {
		if _, err := c.svc.Delete(ctx, c.segment(name), objectstore.DeleteOptions{}); err != nil && !errors.Is(err, nacre.NotFound) {
			c.Log.WarnContext(ctx, "a part of an upload was left behind", "bucket", c.bucket, "name", name, "error", err)
		}
	}
	return c.completed(o.Version, tag)
}

// again answers a completion that came twice: the object is there already.
func (c *call) again(err error, id string) error {
	o, gerr := c.svc.Get(c.ctx, c.ref(), objectstore.GetOptions{Manifest: true})
	if gerr != nil || o.Meta()[objectstore.UploadOf] != c.key+"\n"+id {
		return err
	}
	return c.completed(o.Version, o.S3Etag())
}

func (c *call) completed(version, tag string) error {
	c.version(version)
	return c.xml(http.StatusOK, struct {
		XMLName  xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ CompleteMultipartUploadResult"`
		Location string
		Bucket   string
		Key      string
		ETag     string
	}{Location: "http://" + c.r.Host + "/" + escape(c.bucket+"/"+c.key, false), Bucket: c.bucket, Key: c.key, ETag: `"` + tag + `"`})
}

func (c *call) listParts() error {
	n, err := c.count("max-parts")
	if err != nil {
		return err
	}
	enc, err := c.encoder()
	if err != nil {
		return err
	}
	marker := 0
	if m := c.q.Get("part-number-marker"); m != "" {
		if marker, err = strconv.Atoi(m); err != nil || marker < 0 {
			return fault("InvalidArgument")
		}
	}
	id, _, err := c.upload()
	if err != nil {
		return err
	}
	es, err := c.parts(c.ctx, c.key, id)
	if err != nil {
		return err
	}
	type part struct {
		PartNumber   int
		LastModified string
		ETag         string
		Size         int64
	}
	out := struct {
		XMLName              xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ ListPartsResult"`
		Bucket               string
		Key                  string
		ID                   string `xml:"UploadId"`
		Initiator, Owner     *ownerXML
		StorageClass         string
		PartNumberMarker     int
		NextPartNumberMarker int
		MaxParts             int
		EncodingType         string `xml:"EncodingType,omitempty"`
		IsTruncated          bool
		Parts                []part `xml:"Part"`
	}{Bucket: c.bucket, Key: enc(c.key), ID: id, Initiator: c.ownerXML(), Owner: c.ownerXML(), StorageClass: "STANDARD", PartNumberMarker: marker, MaxParts: n, EncodingType: c.q.Get("encoding-type")}
	for _, e := range es {
		num, err := strconv.Atoi(e.Name[strings.LastIndexByte(e.Name, '/')+1:])
		if err != nil || num <= marker {
			continue
		}
		if len(out.Parts) == n {
			out.IsTruncated = true
			break
		}
		out.Parts = append(out.Parts, part{num, stamp(e.Modified), `"` + e.Etag + `"`, e.Bytes})
		out.NextPartNumberMarker = num
	}
	return c.xml(http.StatusOK, out)
}

func (c *call) listUploads() error {
	n, err := c.count("max-uploads")
	if err != nil {
		return err
	}
	enc, err := c.encoder()
	if err != nil {
		return err
	}
	if _, err := c.svc.Container(c.ctx, c.ref()); err != nil {
		return c.bucketError(err)
	}
	prefix, delimiter, keyMarker, idMarker := c.q.Get("prefix"), c.q.Get("delimiter"), c.q.Get("key-marker"), c.q.Get("upload-id-marker")
	type item struct {
		Key              string
		ID               string `xml:"UploadId"`
		Initiator, Owner *ownerXML
		StorageClass     string
		Initiated        string
	}
	out := struct {
		XMLName            xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ ListMultipartUploadsResult"`
		Bucket             string
		KeyMarker          string
		UploadIDMarker     string `xml:"UploadIdMarker"`
		NextKeyMarker      string `xml:"NextKeyMarker,omitempty"`
		NextUploadIDMarker string `xml:"NextUploadIdMarker,omitempty"`
		Prefix             string
		Delimiter          string `xml:"Delimiter,omitempty"`
		MaxUploads         int
		EncodingType       string `xml:"EncodingType,omitempty"`
		IsTruncated        bool
		Uploads            []item `xml:"Upload"`
		CommonPrefixes     []prefixXML
	}{Bucket: c.bucket, KeyMarker: enc(keyMarker), UploadIDMarker: idMarker, Prefix: enc(prefix), Delimiter: enc(delimiter), MaxUploads: n, EncodingType: c.q.Get("encoding-type")}
	q := objectstore.ListQuery{Prefix: prefix}
	if keyMarker != "" {
		q.Marker = keyMarker + "/" + idMarker
	}
	seen := map[string]bool{}
	for !out.IsTruncated {
		_, es, err := c.svc.ListObjects(c.ctx, c.segment(""), q)
		if errors.Is(err, nacre.NotFound) {
			break
		}
		if err != nil {
			return err
		}
		for _, e := range es {
			i := strings.LastIndexByte(e.Name, '/')
			if e.ContentType != objectstore.UploadType || i < 0 {
				continue
			}
			key, id := e.Name[:i], e.Name[i+1:]
			if key < keyMarker || key == keyMarker && idMarker == "" {
				continue
			}
			sub := ""
			if delimiter != "" && len(key) >= len(prefix) {
				if j := strings.Index(key[len(prefix):], delimiter); j >= 0 {
					sub = key[:len(prefix)+j+len(delimiter)]
				}
			}
			if sub != "" && seen[sub] {
				continue
			}
			if len(out.Uploads)+len(out.CommonPrefixes) == n {
				out.IsTruncated = true
				break
			}
			if sub != "" {
				seen[sub] = true
				out.CommonPrefixes = append(out.CommonPrefixes, prefixXML{enc(sub)})
			} else {
				out.Uploads = append(out.Uploads, item{enc(key), id, c.ownerXML(), c.ownerXML(), "STANDARD", stamp(e.Modified)})
			}
			out.NextKeyMarker, out.NextUploadIDMarker = enc(key), id
		}
		if int64(len(es)) < c.svc.Limits().ContainerListing {
			break
		}
		q.Marker = es[len(es)-1].Name
	}
	if !out.IsTruncated {
		out.NextKeyMarker, out.NextUploadIDMarker = "", ""
	}
	return c.xml(http.StatusOK, out)
}
