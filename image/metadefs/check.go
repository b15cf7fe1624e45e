package metadefs

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/nacre-cloud/nacre"
)

func invalid(schema, format string, args ...any) error {
	e := nacre.Errorf(nacre.Invalid, "", format, args...)
	e.Message = "Provided object does not match schema '" + schema + "': " + e.Message
	return e
}

// types are JSON's, as a property may have them.
var types = []string{"array", "boolean", "integer", "number", "object", "string"}

// propertyFields say what each field of a property's definition is.
var propertyFields = map[string]func(v any) bool{
	"name": isText, "title": isText, "description": isText, "pattern": isText, "readonly": isBool, "uniqueItems": isBool, "additionalItems": isBool,
	"minimum": isNumber, "maximum": isNumber, "minLength": isCount, "maxLength": isCount, "minItems": isCount, "maxItems": isCount,
	"operators": isTexts, "required": isTexts, "enum": isList, "default": func(any) bool { return true }, "items": isObject, "type": isType,
}

func isText(v any) bool { _, ok := v.(string); return ok }
func isBool(v any) bool { _, ok := v.(bool); return ok }

// number reads the forms that decoded JSON has numbers in.
func number(v any) (float64, bool) {
	switch n := v.(type) {
	case json.Number:
		f, err := n.Float64()
		return f, err == nil
	case float64:
		return n, true
	case int64:
		return float64(n), true
	}
	return 0, false
}

func isNumber(v any) bool { _, ok := number(v); return ok }
func isList(v any) bool   { _, ok := v.([]any); return ok }
func isObject(v any) bool { _, ok := v.(map[string]any); return ok }

func isCount(v any) bool {
	n, ok := number(v)
	return ok && n >= 0 && n == float64(int64(n))
}

func isType(v any) bool {
	t, ok := v.(string)
	return ok && slices.Contains(types, t)
}

func isTexts(v any) bool {
	list, ok := v.([]any)
	return ok && !slices.ContainsFunc(list, func(x any) bool { return !isText(x) })
}

// checkProperty checks a property's definition: title and type are required.
func checkProperty(schema string, p map[string]any) error {
	for _, name := range []string{"title", "type"} {
		if _, ok := p[name]; !ok {
			return invalid(schema, "'%s' is a required property", name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(p)) {
		is, known := propertyFields[name]
		switch {
		case !known:
			return invalid(schema, "Additional properties are not allowed ('%s' was unexpected)", name)
		case !is(p[name]):
			return invalid(schema, "%v is not valid for '%s'", p[name], name)
		}
	}
	items, ok := p["items"].(map[string]any)
	if !ok {
		return nil
	}
	if t, ok := items["type"]; ok && t != nil && !isType(t) {
		return invalid(schema, "%v is not one of ['%s']", t, strings.Join(types, "', '"))
	}
	if e, ok := items["enum"]; ok && !isList(e) {
		return invalid(schema, "%v is not of type 'array'", e)
	}
	return nil
}

// checkObject checks an object's body.
func checkObject(b map[string]any) error {
	for _, name := range slices.Sorted(maps.Keys(b)) {
		v := b[name]
		var ok bool
		switch name {
		case "description":
			ok = isText(v)
		case "required":
			ok = isTexts(v)
		case "properties":
			var ps map[string]any
			if ps, ok = v.(map[string]any); ok {
				for _, p := range slices.Sorted(maps.Keys(ps)) {
					def, isDef := ps[p].(map[string]any)
					if !isDef {
						return invalid("object", "%v is not of type 'object'", ps[p])
					}
					if err := checkProperty("object", def); err != nil {
						return err
					}
				}
			}
		default:
			return invalid("object", "Additional properties are not allowed ('%s' was unexpected)", name)
		}
		if !ok {
			return invalid("object", "%v is not valid for '%s'", v, name)
		}
	}
	return nil
}
