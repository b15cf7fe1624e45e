package image

import (
	"time"
)

// The states of an image.
const (
	Queued = "queued"
	Saving = "saving"
	// Uploading is an image whose bytes are staged, or being staged.
	Uploading = "uploading"
	// Importing is one whose staged bytes go to the stores.
	Importing   = "importing"
	Active      = "active"
	Deactivated = "deactivated"
	Killed      = "killed"
)

// Location is one place where an image's bytes are: a blob of ours in a store, or
// a URL that a read-only store fetches.
type Location struct {
	Store    string         `json:"store"`
	Key      string         `json:"key,omitempty"`
	URL      string         `json:"url,omitempty"`
	Metadata map[string]any `json:"metadata,omitempty"`
}

// Image is an image. Its bytes are at Locations once it is active.
type Image struct {
	ID      string `store:"id,pk"`
	Name    string `store:"name,index=image_name"`
	OwnerID string `store:"owner,index=image_owner"`
	Status  string `store:"status"`
	// Visibility is public, private, shared or community.
	Visibility      string   `store:"visibility,index=image_visibility"`
	Protected       bool     `store:"protected"`
	Hidden          bool     `store:"os_hidden"`
	ContainerFormat string   `store:"container_format"`
	DiskFormat      string   `store:"disk_format"`
	Tags            []string `store:"tags,json"`
	// MinDisk in GiB, MinRAM in MiB.
	MinDisk int `store:"min_disk"`
	MinRAM  int `store:"min_ram"`
	// Size and VirtualSize in bytes; HasSize says that there are bytes.
	Size        int64 `store:"size"`
	HasSize     bool  `store:"has_size"`
	VirtualSize int64 `store:"virtual_size"`
	// Checksum is MD5, HashValue is HashAlgo's, both hex.
	Checksum  string `store:"checksum"`
	HashAlgo  string `store:"os_hash_algo"`
	HashValue string `store:"os_hash_value"`
	// Properties are the custom ones.
	Properties map[string]string `store:"properties,json"`

	// Locations are where the bytes are, the first tried first.
	Locations []Location `store:"locations,json"`
	// BlobKey and BlobStore name bytes that are being written, or are staged
	// (Staged says that they are whole); Heartbeat is when they last moved, and
	// Reserved how many bytes were announced.
	BlobKey   string    `store:"blob_key"`
	BlobStore string    `store:"blob_store"`
	Staged    bool      `store:"staged"`
	Reserved  int64     `store:"reserved"`
	Heartbeat time.Time `store:"heartbeat"`
	// ImportTask is the task that has the image in hand; ImportingTo and
	// FailedImport are the stores that it works on and those that failed.
	// ImportingTo is nil for an image that never was imported.
	ImportTask   string   `store:"import_task"`
	ImportingTo  []string `store:"importing_to,json"`
	FailedImport []string `store:"failed_import,json"`

	Created time.Time `store:"created_at,index=image_created"`
	Updated time.Time `store:"updated_at"`
}

// in is the image's location in a store, or nil.
func (im *Image) in(storeID string) *Location {
	for i := range im.Locations {
		if im.Locations[i].Store == storeID {
			return &im.Locations[i]
		}
	}
	return nil
}

// empty makes an image one that has no bytes.
func (im *Image) empty() {
	im.Size, im.HasSize, im.VirtualSize, im.Checksum, im.HashAlgo, im.HashValue = 0, false, 0, "", "", ""
	im.BlobKey, im.BlobStore, im.Staged, im.Reserved = "", "", false, 0
	im.Status = Queued
}

// Tag mirrors Image.Tags, for filters.
type Tag struct {
	// ID is "<image>/<tag>".
	ID      string `store:"id,pk"`
	ImageID string `store:"image_id,index=image_tag_image"`
	Tag     string `store:"tag,index=image_tag_tag"`
}

// Property mirrors Image.Properties, for filters.
type Property struct {
	// ID is "<image>/<name>".
	ID      string `store:"id,pk"`
	ImageID string `store:"image_id,index=image_property_image"`
	Name    string `store:"name,index=image_property_name"`
	Value   string `store:"value"`
}

// DiskFormats and ContainerFormats are the ones that may be declared.
var (
	DiskFormats      = []string{"ami", "ari", "aki", "vhd", "vhdx", "vmdk", "raw", "qcow2", "vdi", "iso", "ploop"}
	ContainerFormats = []string{"ami", "ari", "aki", "bare", "ovf", "ova", "docker", "compressed"}
)
