package metadefs

import "github.com/nacre-cloud/nacre"

// Rules are the rules with Glance's defaults (glance/policies/metadef.py). They
// refer to image's context_is_admin.
func Rules() []nacre.Rule {
	const (
		admin    = "rule:context_is_admin"
		reader   = admin + " or (role:reader and project_id:%(project_id)s)"
		readOpen = admin + " or (role:reader and (project_id:%(project_id)s or 'public':%(visibility)s))"
		write    = "rule:metadef_admin"
		one      = "/v2/metadefs/namespaces/{namespace_name}"
	)
	rules := []nacre.Rule{
		{Name: "metadef_default", Check: "", Description: "What reading definitions asked for before secure RBAC"},
		{Name: "metadef_admin", Check: admin, Description: "Who may change definitions"},
	}
	add := func(name, check, desc string, ops ...string) {
		r := nacre.Rule{Name: name, Check: check, Scopes: []string{"project"}, Description: desc, Operations: ops}
		if check != write {
			r.DeprecatedName, r.DeprecatedCheck = name, "rule:metadef_default"
		}
		rules = append(rules, r)
	}
	add("get_metadef_namespace", readOpen, "Show a namespace", "GET "+one)
	add("get_metadef_namespaces", reader, "List namespaces", "GET /v2/metadefs/namespaces")
	add("modify_metadef_namespace", write, "Change a namespace", "PUT "+one)
	add("add_metadef_namespace", write, "Create a namespace", "POST /v2/metadefs/namespaces")
	add("delete_metadef_namespace", write, "Delete a namespace", "DELETE "+one)
	add("get_metadef_object", readOpen, "Show an object", "GET "+one+"/objects/{object_name}")
	add("get_metadef_objects", readOpen, "List objects", "GET "+one+"/objects")
	add("modify_metadef_object", write, "Change an object", "PUT "+one+"/objects/{object_name}")
	add("add_metadef_object", write, "Create an object", "POST "+one+"/objects")
	add("delete_metadef_object", write, "Delete an object", "DELETE "+one+"/objects/{object_name}")
	add("list_metadef_resource_types", readOpen, "List resource types", "GET /v2/metadefs/resource_types")
	add("get_metadef_resource_type", readOpen, "List associations with resource types", "GET "+one+"/resource_types")
	add("add_metadef_resource_type_association", write, "Associate a resource type", "POST "+one+"/resource_types")
	add("remove_metadef_resource_type_association", write, "Remove an association", "DELETE "+one+"/resource_types/{name}")
	add("get_metadef_property", readOpen, "Show a property", "GET "+one+"/properties/{property_name}")
	add("get_metadef_properties", readOpen, "List properties", "GET "+one+"/properties")
	add("modify_metadef_property", write, "Change a property", "PUT "+one+"/properties/{property_name}")
	add("add_metadef_property", write, "Create a property", "POST "+one+"/properties")
	add("remove_metadef_property", write, "Delete a property", "DELETE "+one+"/properties/{property_name}")
	add("get_metadef_tag", readOpen, "Show a tag", "GET "+one+"/tags/{tag_name}")
	add("get_metadef_tags", readOpen, "List tags", "GET "+one+"/tags")
	add("modify_metadef_tag", write, "Rename a tag", "PUT "+one+"/tags/{tag_name}")
	add("add_metadef_tag", write, "Create a tag", "POST "+one+"/tags/{tag_name}")
	add("add_metadef_tags", write, "Create tags", "POST "+one+"/tags")
	add("delete_metadef_tag", write, "Delete a tag", "DELETE "+one+"/tags/{tag_name}")
	add("delete_metadef_tags", write, "Delete all tags", "DELETE "+one+"/tags")
	return rules
}
