package image

import (
	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/image/metadefs"
)

// Glance's base checks (glance/policies/base.py).
const (
	adminRule   = "rule:context_is_admin"
	serviceRule = "rule:service_api"
	ownerMember = adminRule + " or (role:member and project_id:%(project_id)s)"
	ownerReader = adminRule + " or (role:reader and project_id:%(project_id)s)"
	newImage    = adminRule + " or (role:member and project_id:%(project_id)s and project_id:%(owner)s)"
	anyImage    = "(project_id:%(project_id)s or project_id:%(member_id)s or 'community':%(visibility)s or 'public':%(visibility)s or 'shared':%(visibility)s)"
	readImage   = adminRule + " or (role:reader and " + anyImage + ")"
	download    = adminRule + " or (role:member and " + anyImage + ")"
	// As in glance without parentheses: "and" binds tighter than "or".
	sharedReader = adminRule + " or role:reader and (project_id:%(project_id)s or project_id:%(member_id)s)"
	sharedMember = adminRule + " or (role:member and project_id:%(member_id)s)"
	addLocation  = serviceRule + " or (role:member and project_id:%(project_id)s and project_id:%(owner)s)"
)

// Rules are glance's policy rules with their defaults.
func Rules() []nacre.Rule {
	r := func(name, check, desc string, ops ...string) nacre.Rule {
		return nacre.Rule{Name: name, Check: check, Scopes: []string{"project"}, Description: desc, Operations: ops}
	}
	// Rules that were open to everybody before secure RBAC.
	open := func(x nacre.Rule) nacre.Rule {
		x.DeprecatedName, x.DeprecatedCheck = x.Name, "rule:default"
		return x
	}
	cache := func(x nacre.Rule) nacre.Rule {
		x.DeprecatedName, x.DeprecatedCheck = x.Name, "rule:manage_image_cache"
		return x
	}
	const one = "/v2/images/{image_id}"
	rules := []nacre.Rule{
		{Name: "default", Check: "", Description: "What holds for a rule that is not defined"},
		{Name: "context_is_admin", Check: "role:admin", Description: "Who is an administrator"},
		{Name: "service_api", Check: "role:service or role:admin", Description: "Calls between services"},
		open(r("add_image", newImage, "Create an image", "POST /v2/images")),
		open(r("delete_image", ownerMember, "Delete an image", "DELETE "+one)),
		open(r("get_image", readImage, "Show an image", "GET "+one)),
		open(r("get_images", ownerReader, "List images", "GET /v2/images")),
		open(r("modify_image", ownerMember, "Change an image, stage and import its data", "PATCH "+one, "PUT "+one+"/stage", "POST "+one+"/import")),
		r("publicize_image", adminRule, "Make an image public", "PATCH "+one),
		open(r("communitize_image", ownerMember, "Make an image a community image", "PATCH "+one)),
		open(r("download_image", download, "Download an image", "GET "+one+"/file")),
		r("download_from_store", download, "Choose the store that an image is downloaded from", "GET "+one+"/file"),
		open(r("upload_image", ownerMember, "Upload an image's data", "PUT "+one+"/file")),
		open(r("delete_image_location", adminRule, "Remove a location of an image", "PATCH "+one, "DELETE /v2/stores/{store_id}/{image_id}")),
		open(r("get_image_location", ownerReader, "See an image's locations in the image", "GET "+one)),
		open(r("set_image_location", ownerMember, "Set locations of an image", "PATCH "+one)),
		r("add_image_location", addLocation, "Add a location to an image", "POST "+one+"/locations"),
		r("fetch_image_location", serviceRule, "List an image's locations", "GET "+one+"/locations"),
		open(r("add_member", ownerMember, "Share an image", "POST "+one+"/members")),
		open(r("delete_member", ownerMember, "Stop sharing an image", "DELETE "+one+"/members/{member_id}")),
		open(r("get_member", sharedReader, "Show a membership", "GET "+one+"/members/{member_id}")),
		open(r("get_members", sharedReader, "List memberships", "GET "+one+"/members")),
		open(r("modify_member", sharedMember, "Accept or reject an image", "PUT "+one+"/members/{member_id}")),
		r("manage_image_cache", adminRule, "Manage the image cache"),
		open(r("deactivate", ownerMember, "Deactivate an image", "POST "+one+"/actions/deactivate")),
		open(r("reactivate", ownerMember, "Make a deactivated image active", "POST "+one+"/actions/reactivate")),
		r("copy_image", adminRule, "Copy an image to further stores", "POST "+one+"/import"),
		open(r("get_task", "rule:default", "Show a task", "GET /v2/tasks/{task_id}")),
		open(r("get_tasks", "rule:default", "List tasks", "GET /v2/tasks")),
		open(r("add_task", "rule:default", "Create a task", "POST /v2/tasks")),
		r("modify_task", "rule:default", "Not used", "DELETE /v2/tasks/{task_id}"),
		r("tasks_api_access", adminRule, "Use the tasks API at all", "GET /v2/tasks", "GET /v2/tasks/{task_id}", "POST /v2/tasks", "DELETE /v2/tasks/{task_id}"),
		{Name: "stores_info_detail", Check: adminRule + " or " + serviceRule, Scopes: []string{"project"}, Description: "See the details of stores",
			Operations: []string{"GET /v2/info/stores/detail"}, DeprecatedName: "stores_info_detail", DeprecatedCheck: adminRule},
		cache(r("cache_image", adminRule, "Queue an image for the cache", "PUT /v2/cache/{image_id}")),
		cache(r("cache_list", adminRule, "See the cache", "GET /v2/cache")),
		cache(r("cache_delete", adminRule, "Remove images from the cache", "DELETE /v2/cache", "DELETE /v2/cache/{image_id}")),
		r("cache_clean", adminRule, "Remove what is of no use from the cache", "POST /v2/cache/clean"),
		r("cache_prune", adminRule, "Bring the cache down to its size", "POST /v2/cache/prune"),
	}
	return append(rules, metadefs.Rules()...)
}
