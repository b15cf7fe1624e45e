package image

import "github.com/nacre-cloud/nacre"

// Glance's base checks (glance/policies/base.py, 2025.1).
const (
	admin       = "role:admin"
	ownerMember = "role:admin or (role:member and project_id:%(project_id)s)"
	newImage    = "role:admin or (role:member and project_id:%(project_id)s and project_id:%(owner)s)"
	reader      = "role:admin or (role:reader and (project_id:%(project_id)s or project_id:%(member_id)s or 'community':%(visibility)s or 'public':%(visibility)s or 'shared':%(visibility)s))"
	// As in glance without parentheses: "and" binds tighter than "or".
	sharedReader = "role:admin or role:reader and (project_id:%(project_id)s or project_id:%(member_id)s)"
	download     = "role:admin or (role:member and (project_id:%(project_id)s or project_id:%(member_id)s or 'community':%(visibility)s or 'public':%(visibility)s or 'shared':%(visibility)s))"
)

// Rules are glance's policy rules with their defaults, for the operations that
// are built.
func Rules() []nacre.Rule {
	r := func(name, check, desc string, ops ...string) nacre.Rule {
		return nacre.Rule{Name: name, Check: check, Scopes: []string{"project"}, Description: desc, Operations: ops}
	}
	return []nacre.Rule{
		r("add_image", newImage, "Create new image", "POST /v2/images"),
		r("delete_image", ownerMember, "Deletes the image", "DELETE /v2/images/{image_id}"),
		r("get_image", reader, "Get specified image", "GET /v2/images/{image_id}"),
		r("get_images", "role:admin or (role:reader and project_id:%(project_id)s)", "Get all available images", "GET /v2/images"),
		r("modify_image", ownerMember, "Updates given image", "PATCH /v2/images/{image_id}"),
		r("publicize_image", admin, "Publicize given image", "PATCH /v2/images/{image_id}"),
		r("communitize_image", ownerMember, "Communitize given image", "PATCH /v2/images/{image_id}"),
		r("download_image", download, "Downloads given image", "GET /v2/images/{image_id}/file"),
		r("upload_image", ownerMember, "Uploads data to specified image", "PUT /v2/images/{image_id}/file"),
		r("deactivate", "role:admin or (role:manager and project_id:%(project_id)s)", "Deactivate image", "POST /v2/images/{image_id}/actions/deactivate"),
		r("add_member", ownerMember, "Create image member", "POST /v2/images/{image_id}/members"),
		r("delete_member", ownerMember, "Delete image member", "DELETE /v2/images/{image_id}/members/{member_id}"),
		r("get_member", sharedReader, "Show image member details", "GET /v2/images/{image_id}/members/{member_id}"),
		r("get_members", sharedReader, "List image members", "GET /v2/images/{image_id}/members"),
		r("modify_member", "role:admin or (role:member and project_id:%(member_id)s)", "Update image member", "PUT /v2/images/{image_id}/members/{member_id}"),
		r("reactivate", "role:admin or (role:manager and project_id:%(project_id)s)", "Reactivate image", "POST /v2/images/{image_id}/actions/reactivate"),
	}
}
