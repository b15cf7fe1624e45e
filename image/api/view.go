package api

import (
	"maps"
	"slices"
	"strings"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/image"
	"github.com/nacre-cloud/nacre/internal/rest"
)

// view is an image as the API shows it; custom properties stand beside the others.
type view struct {
	ID              string         `json:"id"`
	Name            *string        `json:"name"`
	Status          string         `json:"status"`
	Visibility      string         `json:"visibility"`
	Protected       bool           `json:"protected"`
	Hidden          bool           `json:"os_hidden"`
	Tags            []string       `json:"tags"`
	Owner           string         `json:"owner"`
	ContainerFormat *string        `json:"container_format"`
	DiskFormat      *string        `json:"disk_format"`
	MinDisk         int            `json:"min_disk"`
	MinRAM          int            `json:"min_ram"`
	Size            *int64         `json:"size"`
	VirtualSize     *int64         `json:"virtual_size"`
	Checksum        *string        `json:"checksum"`
	HashAlgo        *string        `json:"os_hash_algo"`
	HashValue       *string        `json:"os_hash_value"`
	Created         rest.Seconds   `json:"created_at"`
	Updated         rest.Seconds   `json:"updated_at"`
	Self            string         `json:"self"`
	File            string         `json:"file"`
	Schema          string         `json:"schema"`
	DirectURL       *string        `json:"direct_url,omitempty"`
	Locations       *[]image.Where `json:"locations,omitempty"`
	Stores          *string        `json:"stores,omitempty"`
	Properties      map[string]any `json:"-" extra:"true"`
}

// fixed are the names that are no custom properties.
var fixed = []string{"id", "name", "status", "visibility", "protected", "os_hidden", "tags", "owner", "container_format", "disk_format", "min_disk", "min_ram", "size", "virtual_size",
	"checksum", "os_hash_algo", "os_hash_value", "created_at", "updated_at", "self", "file", "schema", "direct_url", "locations", "stores"}

// The names that a user can't set, as glance tells them apart: in a patch, and
// when an image is created; and those that nobody may use for a property.
var (
	readOnly       = []string{"created_at", "updated_at", "status", "checksum", "size", "virtual_size", "direct_url", "self", "file", "schema", "id", "os_hash_algo", "os_hash_value"}
	createReadOnly = []string{"direct_url", "self", "file", "schema", "stores", "created_at", "updated_at", "status", "checksum", "os_hash_algo", "os_hash_value", "size", "virtual_size"}
	reserved       = []string{"location", "locations", "deleted", "deleted_at"}
)

func null[T comparable](v T) *T {
	var zero T
	if v == zero {
		return nil
	}
	return &v
}

func (a *api) view(r *rest.Request, im image.Image) view {
	v := view{ID: im.ID, Name: null(im.Name), Status: im.Status, Visibility: im.Visibility, Protected: im.Protected, Hidden: im.Hidden, Tags: im.Tags, Owner: im.OwnerID,
		ContainerFormat: null(im.ContainerFormat), DiskFormat: null(im.DiskFormat), MinDisk: im.MinDisk, MinRAM: im.MinRAM, VirtualSize: null(im.VirtualSize), Checksum: null(im.Checksum),
		HashAlgo: null(im.HashAlgo), HashValue: null(im.HashValue), Created: rest.Seconds(im.Created), Updated: rest.Seconds(im.Updated),
		Self: "/v2/images/" + im.ID, File: "/v2/images/" + im.ID + "/file", Schema: "/v2/schemas/image", Properties: map[string]any{}}
	if im.HasSize {
		v.Size = &im.Size
	}
	for k, p := range im.Properties {
		v.Properties[k] = p
	}
	if im.ImportTask != "" {
		v.Properties["os_glance_import_task"] = im.ImportTask
	}
	if im.ImportingTo != nil {
		v.Properties["os_glance_importing_to_stores"] = strings.Join(im.ImportingTo, ",")
		v.Properties["os_glance_failed_import"] = strings.Join(im.FailedImport, ",")
	}
	var stores []string
	for _, l := range im.Locations {
		stores = append(stores, l.Store)
	}
	v.Stores = null(strings.Join(stores, ","))
	list, direct, shown := a.s.ShownLocations(r.Context(), &im)
	v.DirectURL = null(direct)
	if shown {
		if list == nil {
			list = []image.Where{}
		}
		v.Locations = &list
	}
	return v
}

type createBody struct {
	ID              string         `json:"id"`
	Name            string         `json:"name" valid:"null,max=255"`
	Visibility      string         `json:"visibility" valid:"enum=community|public|private|shared"`
	Protected       bool           `json:"protected"`
	Hidden          bool           `json:"os_hidden"`
	Tags            []string       `json:"tags"`
	Owner           string         `json:"owner" valid:"null,max=255"`
	ContainerFormat string         `json:"container_format" valid:"null"`
	DiskFormat      string         `json:"disk_format" valid:"null"`
	MinDisk         int            `json:"min_disk" valid:"min=0,max=2147483647"`
	MinRAM          int            `json:"min_ram" valid:"min=0,max=2147483647"`
	Properties      map[string]any `json:"-" extra:"true"`
}

func property(name string, v any) (string, error) {
	s, ok := v.(string)
	if !ok {
		return "", nacre.Errorf(nacre.Invalid, "", "Provided object does not match schema 'image': %s is not of type 'string' (%s)", rest.PyRepr(v), name)
	}
	if len(name) > 255 {
		return "", nacre.Errorf(nacre.Invalid, "", "Custom property should not be greater than 255 characters.")
	}
	if name == "" || len(s) > 65535 {
		return "", nacre.Errorf(nacre.Invalid, "", "Property '%s' is too long, or has no name.", name)
	}
	return s, nil
}

func (a *api) create(r *rest.Request, b *createBody) (any, error) {
	im := image.Image{ID: b.ID, Name: b.Name, OwnerID: b.Owner, Visibility: b.Visibility, Protected: b.Protected, Hidden: b.Hidden, Tags: b.Tags, ContainerFormat: b.ContainerFormat,
		DiskFormat: b.DiskFormat, MinDisk: b.MinDisk, MinRAM: b.MinRAM, Properties: map[string]string{}}
	for _, k := range slices.Sorted(maps.Keys(b.Properties)) {
		if slices.Contains(createReadOnly, k) {
			return nil, nacre.Errorf(nacre.Forbidden, "", "Attribute '%s' is read-only.", k)
		}
		if slices.Contains(reserved, k) || strings.HasPrefix(k, reservedPrefix) {
			return nil, nacre.Errorf(nacre.Forbidden, "", "Attribute '%s' is reserved.", k)
		}
		s, err := property(k, b.Properties[k])
		if err != nil {
			return nil, err
		}
		im.Properties[k] = s
	}
	im, err := a.s.Create(r.Context(), im)
	if err != nil {
		return nil, err
	}
	r.Set("Location", r.Base()+"/v2/images/"+im.ID)
	if methods := a.s.ImportMethods(); len(methods) > 0 {
		r.Set("OpenStack-image-import-methods", strings.Join(methods, ","))
	}
	r.Set("OpenStack-image-store-ids", strings.Join(a.s.StoreIDs(), ","))
	return a.view(r, im), nil
}

// reservedPrefix begins what is glance's own.
const reservedPrefix = "os_glance"
