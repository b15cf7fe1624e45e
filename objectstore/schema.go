package objectstore

import (
	"encoding/json"
	"time"

	"github.com/nacre-cloud/nacre/store"
)

// Account is a tenant's name space: "AUTH_" and a project's id.
type Account struct {
	Name    string    `store:"name,pk"`
	Created time.Time `store:"created_at"`
	// Changed is when it was last put or posted to.
	Changed time.Time `store:"changed_at"`
	// Meta are its headers: "X-Account-Meta-…" as given by users, and what the
	// service keeps under "X-Account-Sysmeta-…".
	Meta map[string]string `store:"meta,json"`
	// Deleted is when it was deleted; what it holds is being taken away.
	Deleted time.Time `store:"deleted_at,null,index"`
}

// Container is a set of objects.
type Container struct {
	ID      string            `store:"id,pk"`
	Account string            `store:"account,unique=container_name"`
	Name    string            `store:"name,unique=container_name,index"`
	Created time.Time         `store:"created_at"`
	Changed time.Time         `store:"changed_at"`
	Policy  string            `store:"policy"`
	Meta    map[string]string `store:"meta,json"`
	// Versions is "" (never asked for), "enabled" or "suspended".
	Versions string `store:"versions"`
	// Objects and Bytes are what a listing sums up to; VersionBytes what older
	// versions take.
	Objects      int64 `store:"objects"`
	Bytes        int64 `store:"bytes"`
	VersionBytes int64 `store:"version_bytes"`
	VersionCount int64 `store:"version_count"`
}

// The kinds of objects beside plain ones.
const (
	KindSLO     = "slo"
	KindDLO     = "dlo"
	KindSymlink = "symlink"
)

// Data is what an object and an older version of one have in common.
type Data struct {
	// At is when the data was put (X-Timestamp); Posted when metadata was last
	// posted, or zero.
	At     time.Time `store:"at"`
	Posted time.Time `store:"posted_at,null"`
	// Size is the blob's in bytes; Bytes what listings show, which for a static
	// large object is the sum of its segments.
	Size  int64 `store:"size"`
	Bytes int64 `store:"bytes"`
	// Etag is the MD5 of the blob's bytes in hex. ListEtag is a static large
	// object's own, and behind ";s3_etag=" the one that S3 shows.
	Etag        string `store:"etag"`
	ListEtag    string `store:"list_etag"`
	ContentType string `store:"content_type"`
	// Blob is the key of its bytes; empty when there are none.
	Blob string `store:"blob,index"`
	// Kind is what the object is; empty for a plain one. Target is a symlink's
	// "account/container/object" or a dynamic large object's "container/prefix".
	Kind   string `store:"kind"`
	Target string `store:"target"`
	// Headers is Meta as JSON, so that listings need not read it.
	Headers string `store:"meta"`
	// Expires is when it is no more; zero is never.
	Expires time.Time `store:"expires_at,null,index"`
	// Version is the version's id where the container keeps versions, "" or "null".
	Version string `store:"version"`

	// key is that of an encrypted blob. locked says that the row can't be opened.
	key    []byte
	locked error
}

// Object is a named object in a container: the newest version of it.
type Object struct {
	// ID is the container's id, "/" and the name: rows lie in the order of listings.
	ID string `store:"id,pk"`
	Data
}

// idLen is the length of a container's id.
const idLen = 20

// Name is the object's name.
func (o *Object) Name() string {
	if len(o.ID) <= idLen {
		return ""
	}
	return o.ID[idLen+1:]
}

// Meta are the headers that are kept with the data: X-Object-Meta-…,
// Content-Encoding and others, and X-Object-Sysmeta-….
func (d *Data) Meta() map[string]string {
	m := map[string]string{}
	if d.Headers != "" {
		_ = json.Unmarshal([]byte(d.Headers), &m) // written by setMeta only
	}
	return m
}

func (d *Data) setMeta(m map[string]string) {
	d.Headers = ""
	if len(m) > 0 {
		b, _ := json.Marshal(m) // strings always can be
		d.Headers = string(b)
	}
}

// Modified is when data or metadata last changed.
func (d *Data) Modified() time.Time {
	if d.Posted.After(d.At) {
		return d.Posted
	}
	return d.At
}

// Version is an older version of an object, or the mark of its deletion.
type Version struct {
	ID        string `store:"id,pk"`
	Container string `store:"container,unique=version_key"`
	Name      string `store:"name,unique=version_key"`
	// Order sorts newer versions first.
	Order  string `store:"version_order,unique=version_key"`
	Marker bool   `store:"marker"`
	Data
}

// line is what a listing reads of an object: no more, since each column of ten thousand
// rows counts.
type line struct {
	ID          string    `store:"id,pk"`
	At          time.Time `store:"at"`
	Posted      time.Time `store:"posted_at,null"`
	Bytes       int64     `store:"bytes"`
	Etag        string    `store:"etag"`
	ListEtag    string    `store:"list_etag"`
	ContentType string    `store:"content_type"`
	Kind        string    `store:"kind"`
	Target      string    `store:"target"`
}

// row is what a listing of versions reads.
type row struct {
	line
	Version string `store:"version"`
}

// garbage is a blob that no row names any more.
type garbage struct {
	Blob string    `store:"blob,pk"`
	At   time.Time `store:"at"`
}

// Schema is all that the object store keeps.
func Schema() *store.Schema {
	return &store.Schema{Area: "objectstore", Tables: []*store.TableDef{
		store.Define[Account]("accounts"), store.Define[Container]("containers"), store.Define[Object]("objects"),
		store.Define[Version]("versions"), store.Define[garbage]("garbage"),
	}}
}
