package image

import (
	"time"
)

// The states of an image.
const (
	Queued      = "queued"
	Saving      = "saving"
	Active      = "active"
	Deactivated = "deactivated"
	Killed      = "killed"
)

// Image is an image. Its bytes are in the backend under BlobKey.
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

	// BlobKey names the bytes; Heartbeat is when the upload last moved.
	BlobKey   string    `store:"blob_key"`
	Heartbeat time.Time `store:"heartbeat"`
	Created   time.Time `store:"created_at,index=image_created"`
	Updated   time.Time `store:"updated_at"`
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
