package api

import (
	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/image"
	"github.com/nacre-cloud/nacre/internal/rest"
)

type object = map[string]any

func text(description string, more object) object {
	out := object{"type": "string", "description": description}
	for k, v := range more {
		out[k] = v
	}
	return out
}

func nullable(o object, typ string) object {
	o["type"] = []string{"null", typ}
	return o
}

func formats(description string, list []string) object {
	values := []any{nil}
	for _, f := range list {
		values = append(values, f)
	}
	return nullable(text(description, object{"enum": values}), "string")
}

const uuidPattern = "^([0-9a-fA-F]){8}-([0-9a-fA-F]){4}-([0-9a-fA-F]){4}-([0-9a-fA-F]){4}-([0-9a-fA-F]){12}$"

// imageSchema is the JSON schema of an image, for clients that read it.
func imageSchema() object {
	readOnly := object{"readOnly": true}
	number := func(description string, ro bool) object {
		return object{"type": "integer", "description": description, "readOnly": ro}
	}
	short := func(description string) object {
		return nullable(text(description, object{"maxLength": 255}), "string")
	}
	hash := func(description string) object {
		return nullable(text(description, readOnly), "string")
	}
	return object{
		"name": "image",
		"properties": object{
			"id":               text("An identifier for the image", object{"pattern": uuidPattern}),
			"name":             short("Descriptive name for the image"),
			"status":           text("Status of the image", object{"readOnly": true, "enum": []string{image.Queued, image.Saving, image.Active, image.Killed, "deleted", "uploading", "importing", "pending_delete", image.Deactivated}}),
			"visibility":       text("Scope of image accessibility", object{"enum": []string{"community", "public", "private", "shared"}}),
			"protected":        object{"type": "boolean", "description": "If true, image will not be deletable."},
			"os_hidden":        object{"type": "boolean", "description": "If true, image will not appear in default image list response."},
			"tags":             object{"type": "array", "description": "List of strings related to the image", "items": object{"type": "string", "maxLength": 255}},
			"owner":            short("Owner of the image"),
			"container_format": formats("Format of the container", image.ContainerFormats),
			"disk_format":      formats("Format of the disk", image.DiskFormats),
			"min_disk":         number("Amount of disk space (in GB) required to boot image.", false),
			"min_ram":          number("Amount of ram (in MB) required to boot image.", false),
			"size":             nullable(number("Size of image file in bytes", true), "integer"),
			"virtual_size":     nullable(number("Virtual size of image in bytes", true), "integer"),
			"checksum":         hash("md5 hash of image contents."),
			"os_hash_algo":     hash("Algorithm to calculate the os_hash_value"),
			"os_hash_value":    hash("Hexdigest of the image contents using the algorithm specified by the os_hash_algo"),
			"created_at":       text("Date and time of image registration", readOnly),
			"updated_at":       text("Date and time of the last image modification", readOnly),
			"self":             text("An image self url", readOnly),
			"file":             text("An image file url", readOnly),
			"schema":           text("An image schema url", readOnly),
		},
		"additionalProperties": object{"type": "string"},
		"links": []object{
			{"rel": "self", "href": "{self}"}, {"rel": "enclosure", "href": "{file}"}, {"rel": "describedby", "href": "{schema}"},
		},
	}
}

func memberSchema() object {
	return object{
		"name": "member",
		"properties": object{
			"member_id":  text("An identifier for the image member (tenantId)", nil),
			"image_id":   text("An identifier for the image", object{"pattern": uuidPattern}),
			"status":     text("The status of this image member", object{"enum": image.MemberStatuses}),
			"created_at": text("Date and time of image member creation", nil),
			"updated_at": text("Date and time of last modification of image member", nil),
			"schema":     object{"type": "string", "readOnly": true},
		},
	}
}

func schema(r *rest.Request) (any, error) {
	list := func(name string, item object) object {
		return object{"name": name, "properties": object{
			name: object{"type": "array", "items": item}, "schema": object{"type": "string"}, "first": object{"type": "string"}, "next": object{"type": "string"},
		}, "links": []object{{"rel": "first", "href": "{first}"}, {"rel": "next", "href": "{next}"}, {"rel": "describedby", "href": "{schema}"}}}
	}
	switch r.Var("name") {
	case "image":
		return imageSchema(), nil
	case "images":
		return list("images", imageSchema()), nil
	case "member":
		return memberSchema(), nil
	case "members":
		return object{"name": "members", "properties": object{"members": object{"type": "array", "items": memberSchema()}, "schema": object{"type": "string"}},
			"links": []object{{"rel": "describedby", "href": "{schema}"}}}, nil
	}
	return nil, nacre.Errorf(nacre.NotFound, "", "The resource could not be found.")
}
