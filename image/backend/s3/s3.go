// Package s3 keeps images in a bucket of any service that speaks S3. An image is
// one object, named by its key below an optional prefix; it is uploaded in parts,
// so its size need not be known and memory holds one part.
package s3

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"

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
	c *minio.Client
	o Options
}

var (
	_ backend.Driver    = (*Driver)(nil)
	_ backend.Described = (*Driver)(nil)
	_ backend.Addresser = (*Driver)(nil)
)

// New opens the bucket, and makes it where it is missing.
func New(ctx context.Context, o Options) (*Driver, error) {
	if o.PartSize == 0 {
		o.PartSize = 16 << 20
	}
	c, err := minio.New(o.Endpoint, &minio.Options{Creds: credentials.NewStaticV4(o.AccessKey, o.SecretKey, ""), Secure: o.Secure, Region: o.Region,
		BucketLookup: minio.BucketLookupPath, Transport: o.Transport})
	if err != nil {
		return nil, err
	}
	have, err := c.BucketExists(ctx, o.Bucket)
	if err == nil && !have {
		err = c.MakeBucket(ctx, o.Bucket, minio.MakeBucketOptions{Region: o.Region})
	}
	if err != nil {
		return nil, err
	}
	return &Driver{c, o}, nil
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
