// Package s3api is Amazon's S3 in front of the object store: buckets are
// containers of the account whose EC2 credential signs.
//
//	h := s3api.New(s3api.Config{Service: svc, Keys: keys})
//
// It serves buckets, objects, copies, multipart uploads (kept as static large
// objects, their parts in the container BUCKET+segments), both listings, versions,
// deletion of many, canned ACLs, policies that let everybody read, tags, lifecycles
// that expire objects, CORS rules, presigned URLs; signatures of version 4 (in headers,
// in the query, by chunk, with trailing checksums) and 2; path and virtual-host style.
// What it does not have, it says: other policies and lifecycles, encryption by
// customers' keys and object locks answer as a bucket without them, or NotImplemented.
//
// An object that was put by either API is read by the other. The owner of a bucket
// is the project; another project's bucket does not exist here.
package s3api

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/internal/rest"
	"github.com/nacre-cloud/nacre/objectstore"
	"github.com/nacre-cloud/nacre/objectstore/blob"
)

// Keys finds the secret behind an access key and who signs with it: an *Error of
// kind NotFound where there is none.
type Keys interface {
	Key(ctx context.Context, access string) (secret string, caller *nacre.Caller, err error)
}

// Config of New. Service and Keys are required.
type Config struct {
	Service *objectstore.Service
	Keys    Keys
	// Region is where buckets are said to be; empty is us-east-1. Signatures for
	// any region are taken.
	Region string
	// Domains are host names below which a bucket is a host.
	Domains []string
	Log     *slog.Logger
}

// Features is the entry of Swift's /info.
func Features() map[string]any {
	return map[string]any{"s3api": map[string]any{"max_bucket_listing": maxKeys, "max_parts_listing": maxKeys, "max_upload_part_num": maxParts, "max_multi_delete_objects": maxKeys,
		"allow_multipart_uploads": true, "min_segment_size": minPart, "s3_acl": false}}
}

// Bounds of S3.
const (
	maxKeys  = 1000
	maxParts = 10000
	minPart  = 5 << 20
	// maxXML bounds a request's document.
	maxXML = 2 << 20
)

type handler struct {
	Config
	svc *objectstore.Service
	now func() time.Time
}

// New is the handler.
func New(c Config) http.Handler {
	if c.Region == "" {
		c.Region = "us-east-1"
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return &handler{Config: c, svc: c.Service, now: c.Service.Now}
}

// call is one request.
type call struct {
	*handler
	w       http.ResponseWriter
	r       *http.Request
	ctx     context.Context
	q       url.Values
	id      string
	account string
	owner   string
	bucket  string
	key     string
	// virtual says that the host names the bucket.
	virtual bool
	// body is the request's, freed of chunk signatures and checked; size is what it
	// gives, or -1.
	body  io.Reader
	size  int64
	check *checks
}

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var b [12]byte
	_, _ = rand.Read(b[:])
	c := &call{handler: h, w: w, r: r, q: r.URL.Query(), id: "tx" + hex.EncodeToString(b[:])}
	w.Header().Set("X-Amz-Request-Id", c.id)
	w.Header().Set("X-Trans-Id", c.id)
	c.ctx = rest.WithRequestID(r.Context(), c.id)
	c.where()
	if r.Method == http.MethodOptions {
		if err := c.preflight(); err != nil {
			c.fail(err)
		}
		return
	}
	err := c.authenticate()
	if err == nil {
		err = c.cors()
	}
	if err != nil {
		c.fail(err)
		return
	}
	if c.bucket != "" && (strings.HasSuffix(c.bucket, segments) || strings.Contains(c.bucket, "/")) {
		c.fail(fault("NoSuchBucket"))
		return
	}
	op := c.route()
	if op == nil {
		c.fail(fault("MethodNotAllowed"))
		return
	}
	if err := op(); err != nil {
		c.fail(err)
	}
}

// where finds the bucket and key.
func (c *call) where() {
	host := c.r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	path := strings.TrimPrefix(c.r.URL.Path, "/")
	for _, d := range c.Domains {
		if b, ok := strings.CutSuffix(strings.ToLower(host), "."+strings.ToLower(strings.TrimPrefix(d, "."))); ok {
			c.bucket, c.key, c.virtual = b, path, true
			return
		}
	}
	c.bucket, c.key, _ = strings.Cut(path, "/")
}

func (c *call) has(name string) bool { _, ok := c.q[name]; return ok }

// route is the operation that a request asks for.
func (c *call) route() func() error {
	m := c.r.Method
	switch {
	case c.bucket == "":
		return map[string]func() error{"GET": c.listBuckets}[m]
	case c.key == "":
		for _, sub := range []struct {
			name string
			ops  map[string]func() error
		}{
			{"location", map[string]func() error{"GET": c.location}},
			{"acl", map[string]func() error{"GET": c.getACL, "PUT": c.putBucketACL}},
			{"versioning", map[string]func() error{"GET": c.getVersioning, "PUT": c.putVersioning}},
			{"versions", map[string]func() error{"GET": c.listVersions}},
			{"uploads", map[string]func() error{"GET": c.listUploads}},
			{"delete", map[string]func() error{"POST": c.deleteMany}},
			{"policy", map[string]func() error{"GET": c.getPolicy, "PUT": c.putPolicy, "DELETE": c.deletePolicy}},
			{"policyStatus", map[string]func() error{"GET": c.policyStatus}},
			{"lifecycle", map[string]func() error{"GET": c.getLifecycle, "PUT": c.putLifecycle, "DELETE": c.deleteLifecycle}},
			{"cors", map[string]func() error{"GET": c.getCORS, "PUT": c.putCORS, "DELETE": c.deleteCORS}},
			{"tagging", map[string]func() error{"GET": c.getBucketTags, "PUT": c.putBucketTags, "DELETE": c.deleteBucketTags}},
			{"encryption", map[string]func() error{"GET": c.none("ServerSideEncryptionConfigurationNotFoundError")}},
			{"object-lock", map[string]func() error{"GET": c.none("ObjectLockConfigurationNotFoundError")}},
			{"website", map[string]func() error{"GET": c.none("NoSuchWebsiteConfiguration")}},
			{"replication", map[string]func() error{"GET": c.none("ReplicationConfigurationNotFoundError")}},
			{"logging", map[string]func() error{"GET": c.empty("BucketLoggingStatus")}},
			{"notification", map[string]func() error{"GET": c.empty("NotificationConfiguration")}},
			{"requestPayment", nil}, {"accelerate", nil}, {"analytics", nil}, {"inventory", nil}, {"metrics", nil}, {"intelligent-tiering", nil}, {"session", nil},
			{"ownershipControls", map[string]func() error{"GET": c.none("OwnershipControlsNotFoundError")}},
			{"publicAccessBlock", map[string]func() error{"GET": c.none("NoSuchPublicAccessBlockConfiguration")}},
		} {
			if c.has(sub.name) {
				if f := sub.ops[m]; f != nil {
					return f
				}
				return c.none("NotImplemented")
			}
		}
		return map[string]func() error{"GET": c.listObjects, "HEAD": c.headBucket, "PUT": c.createBucket, "DELETE": c.deleteBucket}[m]
	}
	switch {
	case c.has("uploads"):
		return map[string]func() error{"POST": c.createUpload}[m]
	case c.has("uploadId"):
		return map[string]func() error{"GET": c.listParts, "PUT": c.putPart, "POST": c.completeUpload, "DELETE": c.abortUpload}[m]
	case c.has("acl"):
		return map[string]func() error{"GET": c.getACL, "PUT": c.putObjectACL}[m]
	case c.has("tagging"):
		return map[string]func() error{"GET": c.getObjectTags, "PUT": c.putObjectTags, "DELETE": c.deleteObjectTags}[m]
	case c.has("retention"), c.has("legal-hold"), c.has("torrent"), c.has("restore"), c.has("select"):
		return c.none("NotImplemented")
	case c.has("attributes"):
		return map[string]func() error{"GET": c.attributes}[m]
	}
	return map[string]func() error{"GET": c.getObject, "HEAD": c.getObject, "PUT": c.putObject, "DELETE": c.deleteObject}[m]
}

// none answers that a bucket lacks something.
func (c *call) none(code string) func() error {
	return func() error {
		if _, err := c.svc.Container(c.ctx, c.ref()); err != nil {
			return c.bucketError(err)
		}
		return fault(code)
	}
}

// empty answers with an empty document.
func (c *call) empty(root string) func() error {
	return func() error {
		if _, err := c.svc.Container(c.ctx, c.ref()); err != nil {
			return c.bucketError(err)
		}
		return c.xml(http.StatusOK, struct {
			XMLName xml.Name
		}{xml.Name{Space: namespace, Local: root}})
	}
}

func (c *call) ref() objectstore.Ref {
	return objectstore.Ref{Account: c.account, Container: c.bucket, Object: c.key}
}

const namespace = "http://s3.amazonaws.com/doc/2006-03-01/"

// s3Error is an error in S3's terms.
type s3Error struct {
	status        int
	code, message string
}

func (e *s3Error) Error() string { return e.code + ": " + e.message }

// faults are S3's errors by their code.
var faults = map[string]s3Error{
	"AccessDenied": {403, "", "Access Denied."}, "AccessForbidden": {403, "", "Access Forbidden."}, "SignatureDoesNotMatch": {403, "", "The request signature we calculated does not match the signature you provided. Check your key and signing method."},
	"InvalidAccessKeyId": {403, "", "The AWS Access Key Id you provided does not exist in our records."}, "RequestTimeTooSkewed": {403, "", "The difference between the request time and the current time is too large."},
	"NoSuchBucket": {404, "", "The specified bucket does not exist."}, "NoSuchKey": {404, "", "The specified key does not exist."}, "NoSuchVersion": {404, "", "The specified version does not exist."},
	"NoSuchUpload":     {404, "", "The specified multipart upload does not exist. The upload ID might be invalid, or the multipart upload might have been aborted or completed."},
	"MethodNotAllowed": {405, "", "The specified method is not allowed against this resource."}, "BucketNotEmpty": {409, "", "The bucket you tried to delete is not empty."},
	"BucketAlreadyOwnedByYou": {409, "", "Your previous request to create the named bucket succeeded and you already own it."}, "InvalidBucketName": {400, "", "The specified bucket is not valid."},
	"InvalidArgument": {400, "", "Invalid Argument."}, "MalformedXML": {400, "", "The XML you provided was not well-formed or did not validate against our published schema."},
	"BadDigest": {400, "", "The Content-MD5 you specified did not match what we received."}, "InvalidDigest": {400, "", "The Content-MD5 you specified was invalid."},
	"XAmzContentSHA256Mismatch": {400, "", "The provided 'x-amz-content-sha256' header does not match what was computed."}, "IncompleteBody": {400, "", "You did not provide the number of bytes specified by the Content-Length HTTP header."},
	"EntityTooLarge": {400, "", "Your proposed upload exceeds the maximum allowed object size."}, "EntityTooSmall": {400, "", "Your proposed upload is smaller than the minimum allowed object size."},
	"InvalidPart":       {400, "", "One or more of the specified parts could not be found. The part might not have been uploaded, or the specified entity tag might not have matched the part's entity tag."},
	"InvalidPartNumber": {416, "", "The requested partnumber is not satisfiable"},
	"InvalidPartOrder":  {400, "", "The list of parts was not in ascending order. Parts list must be specified in order by part number."}, "AuthorizationQueryParametersError": {400, "", "Error parsing the query parameters of the signature."},
	"AuthorizationHeaderMalformed": {400, "", "The authorization header that you provided is not valid."}, "InvalidRange": {416, "", "The requested range cannot be satisfied."}, "PreconditionFailed": {412, "", "At least one of the preconditions you specified did not hold."},
	"MissingContentLength": {411, "", "You must provide the Content-Length HTTP header."}, "NotImplemented": {501, "", "A header or query you provided implies functionality that is not implemented."}, "InternalError": {500, "", "We encountered an internal error. Please try again."},
	"SlowDown": {503, "", "Please reduce your request rate."}, "ServiceUnavailable": {503, "", "Please reduce your request rate."}, "InvalidRequest": {400, "", "The request is invalid."}, "QuotaExceeded": {403, "", "The quota of the bucket or its project is exceeded."},
	"NoSuchBucketPolicy": {404, "", "The bucket policy does not exist"}, "NoSuchLifecycleConfiguration": {404, "", "The lifecycle configuration does not exist"}, "NoSuchCORSConfiguration": {404, "", "The CORS configuration does not exist"},
	"BadRequest": {400, "", "Bad Request"}, "InvalidTag": {400, "", "The tag provided was not a valid tag."}, "MalformedPolicy": {400, "", "Policies must be valid JSON."},
	"OwnershipControlsNotFoundError": {404, "", "The bucket ownership controls were not found"},
	"NoSuchTagSet":                   {404, "", "The TagSet does not exist"}, "ServerSideEncryptionConfigurationNotFoundError": {404, "", "The server side encryption configuration was not found"},
	"ObjectLockConfigurationNotFoundError": {404, "", "Object Lock configuration does not exist for this bucket"}, "NoSuchWebsiteConfiguration": {404, "", "The specified bucket does not have a website configuration"},
	"ReplicationConfigurationNotFoundError": {404, "", "The replication configuration was not found"}, "NoSuchPublicAccessBlockConfiguration": {404, "", "The public access block configuration was not found"},
}

func fault(code string) error { return newFault(code, "") }

// newFault is an error with words of its own, unless they are empty.
func newFault(code, message string) *s3Error {
	f := faults[code]
	f.code = code
	if message != "" {
		f.message = message
	}
	return &f
}

// bucketError words an error about a bucket.
func (c *call) bucketError(err error) error {
	if errors.Is(err, nacre.NotFound) {
		return fault("NoSuchBucket")
	}
	return err
}

// keyError words an error about an object: what is missing may be its bucket.
func (c *call) keyError(err error) error {
	var e *nacre.Error
	if errors.As(err, &e) && e.Code == "DeleteMarker" {
		c.w.Header().Set("X-Amz-Delete-Marker", "true")
		return fault("MethodNotAllowed")
	}
	if !errors.Is(err, nacre.NotFound) {
		return err
	}
	if _, cerr := c.svc.Container(c.ctx, objectstore.Ref{Account: c.account, Container: c.bucket}); errors.Is(cerr, nacre.NotFound) {
		return fault("NoSuchBucket")
	}
	if c.q.Get("versionId") != "" {
		return fault("NoSuchVersion")
	}
	return fault("NoSuchKey")
}

// asS3 is any error in S3's terms.
func asS3(err error) *s3Error {
	var e *s3Error
	if errors.As(err, &e) {
		return e
	}
	code := "InternalError"
	switch kind := nacre.KindOf(err); {
	case errors.Is(err, objectstore.ErrEtag):
		code = "BadDigest"
	case errors.Is(err, objectstore.ErrCutOff), errors.Is(err, io.ErrUnexpectedEOF):
		code = "IncompleteBody"
	case errors.Is(err, objectstore.ErrTooLarge):
		code = "EntityTooLarge"
	case errors.Is(err, blob.ErrFull), kind == nacre.Unavailable:
		code = "ServiceUnavailable"
	case kind == nacre.Forbidden, kind == nacre.Unauthenticated:
		code = "AccessDenied"
	case kind == nacre.NotFound:
		code = "NoSuchKey"
	case kind == nacre.QuotaExceeded:
		code = "QuotaExceeded"
	case kind == nacre.TooLarge:
		code = "EntityTooLarge"
	case kind == nacre.Precondition:
		code = "PreconditionFailed"
	case kind == nacre.Invalid:
		code = "InvalidArgument"
	}
	f := newFault(code, "")
	if f.code == "InvalidArgument" {
		var ne *nacre.Error
		if errors.As(err, &ne) {
			f.message = ne.Message
		}
	}
	return f
}

func (c *call) fail(err error) {
	if c.r.Context().Err() != nil {
		return // nobody reads an answer
	}
	e := asS3(err)
	if e.status >= 500 && e.code != "NotImplemented" {
		c.Log.ErrorContext(c.ctx, "a request failed", "method", c.r.Method, "path", c.r.URL.Path, "error", err)
	}
	if c.r.ContentLength != 0 {
		c.w.Header().Set("Connection", "close")
	}
	if c.r.Method == http.MethodHead {
		c.w.WriteHeader(e.status)
		return
	}
	_ = c.xml(e.status, struct {
		XMLName  xml.Name `xml:"Error"`
		Code     string
		Message  string
		Resource string
		ID       string `xml:"RequestId"`
	}{Code: e.code, Message: e.message, Resource: c.r.URL.Path, ID: c.id})
}

// xml answers with a document.
func (c *call) xml(status int, v any) error {
	out, err := xml.Marshal(v)
	if err != nil {
		return err
	}
	c.w.Header().Set("Content-Type", "application/xml")
	c.w.WriteHeader(status)
	_, _ = c.w.Write(append([]byte(xml.Header), out...))
	return nil
}

// readXML reads the request's document. Entities beyond XML's own are not known to
// the decoder, so a document can't make it grow or read files.
func (c *call) readXML(v any) error {
	raw, err := io.ReadAll(io.LimitReader(c.body, maxXML+1))
	if err != nil {
		return err
	}
	if len(raw) > maxXML || xml.Unmarshal(raw, v) != nil {
		return fault("MalformedXML")
	}
	return nil
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }
