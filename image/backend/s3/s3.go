// Package s3 keeps images in a bucket of any service that speaks S3. An image is
// one object, named by its key below an optional prefix; it is uploaded in parts,
// so its size need not be known and memory holds one part.
//
// The service is first spoken to when it is first needed: a cloud starts though it
// is away, and may be the one that serves it.
package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/image/backend"
)

// Options of New. Endpoint, Bucket and the keys are required.
type Options struct {
	// Endpoint is host and port; Secure speaks TLS to it.
	Endpoint string
	Secure   bool
	Region   string
	Bucket   string
	// CreateBucket makes the bucket with the first image, where it is missing.
	CreateBucket bool
	// VirtualHost names the bucket in the host, not in the path.
	VirtualHost bool
	// Prefix stands before each key, for instance "images/".
	Prefix               string
	AccessKey, SecretKey string
	// PartSize in bytes is what an upload holds in memory; 0 means 16 MiB. An
	// image has at most 10,000 parts.
	PartSize uint64
	// Transport is for tests; nil is the library's own.
	Transport http.RoundTripper
}

// Driver implements backend.Driver.
type Driver struct {
	c    *minio.Client
	o    Options
	made atomic.Bool
}

var (
	_ backend.Driver    = (*Driver)(nil)
	_ backend.Described = (*Driver)(nil)
	_ backend.Addresser = (*Driver)(nil)
)

// New makes the driver, without a request.
func New(o Options) (*Driver, error) {
	switch {
	case o.Bucket == "" || o.AccessKey == "" || o.SecretKey == "":
		return nil, errors.New("s3: the bucket, the access key or the secret key is missing")
	case o.PartSize == 0:
		o.PartSize = 16 << 20
	case o.PartSize < 5<<20:
		return nil, errors.New("s3: parts have 5 MiB at least")
	}
	lookup := minio.BucketLookupPath
	if o.VirtualHost {
		lookup = minio.BucketLookupDNS
	}
	c, err := minio.New(o.Endpoint, &minio.Options{Creds: credentials.NewStaticV4(o.AccessKey, o.SecretKey, ""), Secure: o.Secure, Region: o.Region,
		BucketLookup: lookup, Transport: o.Transport})
	if err != nil {
		return nil, fmt.Errorf("s3: %w", err)
	}
	return &Driver{c: c, o: o}, nil
}

// bucket makes the bucket where it is missing, once.
func (d *Driver) bucket(ctx context.Context) error {
	if !d.o.CreateBucket || d.made.Load() {
		return nil
	}
	have, err := d.c.BucketExists(ctx, d.o.Bucket)
	if err == nil && !have {
		err = d.c.MakeBucket(ctx, d.o.Bucket, minio.MakeBucketOptions{Region: d.o.Region})
		if minio.ToErrorResponse(err).Code == "BucketAlreadyOwnedByYou" {
			err = nil // somebody else was as quick
		}
	}
	d.made.Store(err == nil)
	return err
}

// reader remembers the error of the source, which the library would wrap as one of
// the service, or try again.
type reader struct {
	ctx context.Context
	r   io.Reader
	n   int64
	err error
}

func (r *reader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		r.err = err
		return 0, err
	}
	n, err := r.r.Read(p)
	r.n += int64(n)
	if err != nil && !errors.Is(err, io.EOF) {
		r.err = err
	}
	return n, err
}

// Put implements backend.Driver.
func (d *Driver) Put(ctx context.Context, key string, r io.Reader) (int64, error) {
	if err := d.bucket(ctx); err != nil {
		return 0, err
	}
	src := &reader{ctx: ctx, r: r}
	_, err := d.c.PutObject(ctx, d.o.Bucket, d.o.Prefix+key, src, -1, minio.PutObjectOptions{ContentType: "application/octet-stream", PartSize: d.o.PartSize, DisableContentSha256: true})
	if src.err != nil {
		err = src.err
	}
	if err != nil {
		clean := context.WithoutCancel(ctx)
		return 0, errors.Join(worded(err), d.Delete(clean, key))
	}
	return src.n, nil
}

func worded(err error) error {
	var r minio.ErrorResponse
	if errors.As(err, &r) {
		switch r.StatusCode {
		case http.StatusNotFound:
			return nacre.Errorf(nacre.NotFound, "", "no such blob")
		case http.StatusRequestEntityTooLarge, http.StatusInsufficientStorage:
			return backend.Full(err)
		}
	}
	return err
}

// Open implements backend.Driver. The reader seeks.
func (d *Driver) Open(ctx context.Context, key string) (io.ReadCloser, int64, error) {
	o, err := d.c.GetObject(ctx, d.o.Bucket, d.o.Prefix+key, minio.GetObjectOptions{})
	if err != nil {
		return nil, 0, worded(err)
	}
	st, err := o.Stat()
	if err != nil {
		return nil, 0, errors.Join(worded(err), o.Close())
	}
	return o, st.Size, nil
}

// Delete implements backend.Driver.
func (d *Driver) Delete(ctx context.Context, key string) error {
	if err := d.c.RemoveIncompleteUpload(ctx, d.o.Bucket, d.o.Prefix+key); err != nil && nacre.KindOf(worded(err)) != nacre.NotFound {
		return err
	}
	err := worded(d.c.RemoveObject(ctx, d.o.Bucket, d.o.Prefix+key, minio.RemoveObjectOptions{}))
	if errors.Is(err, nacre.NotFound) {
		return nil
	}
	return err
}

// List implements backend.Driver.
func (d *Driver) List(ctx context.Context) ([]string, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var keys []string
	for o := range d.c.ListObjects(ctx, d.o.Bucket, minio.ListObjectsOptions{Prefix: d.o.Prefix, Recursive: true}) {
		if d.missing(o.Err) {
			return nil, nil
		}
		if o.Err != nil {
			return nil, o.Err
		}
		keys = append(keys, strings.TrimPrefix(o.Key, d.o.Prefix))
	}
	for u := range d.c.ListIncompleteUploads(ctx, d.o.Bucket, d.o.Prefix, true) {
		if u.Err != nil {
			return nil, u.Err
		}
		if k := strings.TrimPrefix(u.Key, d.o.Prefix); !slices.Contains(keys, k) {
			keys = append(keys, k)
		}
	}
	return keys, nil
}

// missing tells a bucket that will be made from one that should be there.
func (d *Driver) missing(err error) bool {
	return d.o.CreateBucket && err != nil && minio.ToErrorResponse(err).Code == "NoSuchBucket"
}

// Kind implements backend.Described.
func (d *Driver) Kind() string { return "s3" }

// Properties implements backend.Described.
func (d *Driver) Properties() map[string]any {
	return map[string]any{"s3_store_large_object_size": d.o.PartSize >> 20, "s3_store_large_object_chunk_size": d.o.PartSize >> 20, "s3_store_thread_pools": 1}
}

// URL implements backend.Addresser. Unlike glance's it holds no keys.
func (d *Driver) URL(key string) string {
	scheme := "s3"
	if d.o.Secure {
		scheme = "s3+https"
	}
	return scheme + "://" + d.o.Endpoint + "/" + d.o.Bucket + "/" + d.o.Prefix + key
}
