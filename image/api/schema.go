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
func (a *api) imageSchema() object {
	disk, container := a.s.Formats()
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
			"container_format": formats("Format of the container", container),
			"disk_format":      formats("Format of the disk", disk),
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
			"direct_url":       text("URL to access the image file kept in external store", readOnly),
			"stores":           text("Store in which image data resides. Only present when the operator has enabled multiple stores. May be a comma-separated list of store identifiers.", readOnly),
			"locations":        locationsSchema(),
		},
		"additionalProperties": object{"type": "string"},
		"links": []object{
			{"rel": "self", "href": "{self}"}, {"rel": "enclosure", "href": "{file}"}, {"rel": "describedby", "href": "{schema}"},
		},
	}
}

func locationsSchema() object {
	return object{"type": "array", "description": "A set of URLs to access the image file kept in external store", "items": object{
		"type": "object", "required": []string{"url", "metadata"}, "properties": object{
			"url": object{"type": "string", "maxLength": 255}, "metadata": object{"type": "object"},
			"validation_data": object{"type": "object", "writeOnly": true, "additionalProperties": false, "required": []string{"os_hash_algo", "os_hash_value"},
				"description": "Values to be used to populate the corresponding image properties.", "properties": object{
					"checksum":      object{"type": "string", "minLength": 32, "maxLength": 32},
					"os_hash_algo":  object{"type": "string", "maxLength": 64},
					"os_hash_value": object{"type": "string", "maxLength": 128},
				}},
		},
	}}
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

func taskSchema(whole bool) object {
	ro := object{"readOnly": true}
	ps := object{
		"id":         text("An identifier for the task", object{"pattern": uuidPattern}),
		"type":       text("The type of task represented by this content", object{"enum": []string{image.TaskLegacy, image.TaskImport, image.TaskLocation}}),
		"status":     text("The current status of this task", object{"enum": []string{"pending", "processing", "success", "failure"}}),
		"owner":      text("An identifier for the owner of this task", nil),
		"image_id":   text("Image associated with the task", nil),
		"request_id": text("Human-readable informative request-id", nil),
		"user_id":    text("User associated with the task", nil),
		"expires_at": nullable(text("Datetime when this resource would be subject to removal", nil), "string"),
		"created_at": text("Datetime when this resource was created", nil),
		"updated_at": text("Datetime when this resource was updated", nil),
		"self":       text("Where the task is", ro),
		"schema":     text("Where its schema is", ro),
	}
	if whole {
		ps["input"] = nullable(text("The parameters required by task, JSON blob", nil), "object")
		ps["result"] = nullable(text("The result of current task, JSON blob", nil), "object")
		ps["message"] = text("Human-readable informative message only included when appropriate (usually on failure)", nil)
	}
	return object{"name": "task", "properties": ps}
}

// collection is the schema of a list.
func collection(name string, item object) object {
	return object{"name": name, "properties": object{
		name: object{"type": "array", "items": item}, "schema": object{"type": "string"}, "first": object{"type": "string"}, "next": object{"type": "string"},
	}, "links": []object{{"rel": "first", "href": "{first}"}, {"rel": "next", "href": "{next}"}, {"rel": "describedby", "href": "{schema}"}}}
}

func (a *api) schema(r *rest.Request) (any, error) {
	switch r.Var("name") {
	case "image":
		return a.imageSchema(), nil
	case "images":
		return collection("images", a.imageSchema()), nil
	case "member":
		return memberSchema(), nil
	case "members":
		return object{"name": "members", "properties": object{"members": object{"type": "array", "items": memberSchema()}, "schema": object{"type": "string"}},
			"links": []object{{"rel": "describedby", "href": "{schema}"}}}, nil
	case "task":
		return taskSchema(true), nil
	case "tasks":
		return collection("tasks", taskSchema(false)), nil
	}
	return nil, nacre.Errorf(nacre.NotFound, "", "The resource could not be found.")
}

// ref points to a definition of the same schema.
func ref(name string) object { return object{"$ref": "#/definitions/" + name} }

func metadefDefinitions() object {
	str, list := object{"type": "string"}, object{"type": "array"}
	kinds := object{"type": "string", "enum": []any{"array", "boolean", "integer", "number", "object", "string", nil}}
	return object{
		"positiveInteger":         object{"type": "integer", "minimum": 0},
		"positiveIntegerDefault0": object{"allOf": []object{ref("positiveInteger"), {"default": 0}}},
		"stringArray":             object{"type": "array", "items": str, "uniqueItems": true},
		"property": object{"type": "object", "additionalProperties": object{
			"type": "object", "required": []string{"title", "type"}, "properties": propertyProperties(str, list, kinds),
		}},
	}
}

func propertyProperties(str, list, kinds object) object {
	return object{
		"name": object{"type": "string", "maxLength": 80}, "title": str, "description": str, "operators": object{"type": "array", "items": str},
		"type": kinds, "required": ref("stringArray"), "minimum": object{"type": "number"}, "maximum": object{"type": "number"},
		"maxLength": ref("positiveInteger"), "minLength": ref("positiveIntegerDefault0"), "pattern": object{"type": "string", "format": "regex"},
		"enum": list, "readonly": object{"type": "boolean"}, "default": object{},
		"items":    object{"type": "object", "properties": object{"type": kinds, "enum": list}},
		"maxItems": ref("positiveInteger"), "minItems": ref("positiveIntegerDefault0"), "uniqueItems": object{"type": "boolean", "default": false},
		"additionalItems": object{"type": "boolean"},
	}
}

// metadefShape is one schema of the metadata definitions; plural names its list.
func metadefShape(name string) (shape object, plural string) {
	short := func(description string, n int) object { return text(description, object{"maxLength": n}) }
	stamps := func(ps object) object {
		ps["created_at"] = text("Date and time of creation", object{"readOnly": true, "format": "date-time"})
		ps["updated_at"] = text("Date and time of the last modification", object{"readOnly": true, "format": "date-time"})
		return ps
	}
	linked := func(ps object) object {
		ps["self"], ps["schema"] = object{"readOnly": true, "type": "string"}, object{"readOnly": true, "type": "string"}
		return stamps(ps)
	}
	str := object{"type": "string"}
	list := func(ps object) object {
		return object{"type": "array", "items": object{"type": "object", "properties": ps}}
	}
	switch name {
	case "namespace":
		return object{"name": name, "required": []string{"namespace"}, "definitions": metadefDefinitions(), "properties": linked(object{
			"namespace": short("The unique namespace text.", 80), "display_name": short("The user friendly name for the namespace. Used by UI if available.", 80),
			"description": short("Provides a user friendly description of the namespace.", 500),
			"visibility":  text("Scope of namespace accessibility.", object{"enum": []string{"public", "private"}}),
			"protected":   object{"type": "boolean", "description": "If true, namespace will not be deletable."},
			"owner":       short("Owner of the namespace.", 255), "properties": ref("property"),
			"resource_type_associations": list(object{"name": str, "prefix": str, "properties_target": str}),
			"objects":                    list(object{"name": str, "description": str, "required": ref("stringArray"), "properties": ref("property")}),
			"tags":                       list(object{"name": str}),
		})}, "namespaces"
	case "object":
		return object{"name": name, "required": []string{"name"}, "definitions": metadefDefinitions(), "properties": linked(object{
			"name": object{"type": "string", "maxLength": 80}, "description": str, "required": ref("stringArray"), "properties": ref("property"),
		})}, "objects"
	case "property":
		ps := propertyProperties(str, object{"type": "array"}, object{"type": "string", "enum": []any{"array", "boolean", "integer", "number", "object", "string", nil}})
		return object{"name": name, "required": []string{"name", "title", "type"}, "definitions": metadefDefinitions(), "properties": ps}, "properties"
	case "tag":
		return object{"name": name, "required": []string{"name"}, "properties": stamps(object{"name": object{"type": "string", "maxLength": 80}})}, "tags"
	case "resource_type":
		return object{"name": "resource_type_association", "required": []string{"name"}, "properties": stamps(object{
			"name": short("Resource type names should be aligned with Heat resource types whenever possible", 80), "prefix": short("Prefix of the properties when they are applied to this resource type, with its separator", 80),
			"properties_target": short("Which of several key/value sets of the resource type is meant", 80),
		})}, "resource_type_associations"
	}
	return nil, ""
}

func metadefSchema(r *rest.Request) (any, error) {
	name := r.Var("name")
	if shape, _ := metadefShape(name); shape != nil {
		return shape, nil
	}
	for _, one := range []string{"namespace", "object", "property", "tag", "resource_type"} {
		shape, plural := metadefShape(one)
		if name != plural && name != one+"s" {
			continue
		}
		if one == "property" {
			return object{"name": plural, "definitions": metadefDefinitions(), "properties": object{plural: object{"type": "object", "additionalProperties": shape}}}, nil
		}
		return collection(plural, shape), nil
	}
	return nil, nacre.Errorf(nacre.NotFound, "", "The resource could not be found.")
}
