package placement

import (
	"log/slog"

	"github.com/google/uuid"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/internal/policy"
)

type randomIDs struct{}

func (randomIDs) NewID() string { return uuid.NewString() }

func defaultPolicy(o nacre.PolicyOptions, log *slog.Logger) (nacre.Enforcer, error) {
	return policy.New(policy.Config{Area: "placement", Rules: Rules(), EnforceScope: true,
		Denied: func(rule string) string { return "Policy does not allow " + rule + " to be performed." }, Log: log}.With(o))
}

// adminOrService is placement's default for nearly everything.
const adminOrService = "role:admin or role:service"

// Rules are placement's policy rules with their defaults (placement 2025.1).
func Rules() []nacre.Rule {
	r := func(name, check, desc string, ops ...string) nacre.Rule {
		return nacre.Rule{Name: "placement:" + name, Check: check, Scopes: []string{"project"}, Description: desc, Operations: ops}
	}
	return []nacre.Rule{
		r("resource_providers:list", adminOrService, "List resource providers.", "GET /resource_providers"),
		r("resource_providers:create", adminOrService, "Create a resource provider.", "POST /resource_providers"),
		r("resource_providers:show", adminOrService, "Show a resource provider.", "GET /resource_providers/{uuid}"),
		r("resource_providers:update", adminOrService, "Update a resource provider.", "PUT /resource_providers/{uuid}"),
		r("resource_providers:delete", adminOrService, "Delete a resource provider.", "DELETE /resource_providers/{uuid}"),
		r("resource_classes:list", adminOrService, "List resource classes.", "GET /resource_classes"),
		r("resource_classes:create", adminOrService, "Create a resource class.", "POST /resource_classes"),
		r("resource_classes:show", adminOrService, "Show a resource class.", "GET /resource_classes/{name}"),
		r("resource_classes:update", adminOrService, "Update a resource class.", "PUT /resource_classes/{name}"),
		r("resource_classes:delete", adminOrService, "Delete a resource class.", "DELETE /resource_classes/{name}"),
		r("resource_providers:inventories:list", adminOrService, "List a provider's inventories.", "GET /resource_providers/{uuid}/inventories"),
		r("resource_providers:inventories:create", adminOrService, "Create an inventory.", "POST /resource_providers/{uuid}/inventories"),
		r("resource_providers:inventories:show", adminOrService, "Show an inventory.", "GET /resource_providers/{uuid}/inventories/{resource_class}"),
		r("resource_providers:inventories:update", adminOrService, "Update inventories.", "PUT /resource_providers/{uuid}/inventories", "PUT /resource_providers/{uuid}/inventories/{resource_class}"),
		r("resource_providers:inventories:delete", adminOrService, "Delete inventories.", "DELETE /resource_providers/{uuid}/inventories", "DELETE /resource_providers/{uuid}/inventories/{resource_class}"),
		r("resource_providers:aggregates:list", adminOrService, "List a provider's aggregates.", "GET /resource_providers/{uuid}/aggregates"),
		r("resource_providers:aggregates:update", adminOrService, "Set a provider's aggregates.", "PUT /resource_providers/{uuid}/aggregates"),
		r("resource_providers:usages", adminOrService, "Show a provider's usage.", "GET /resource_providers/{uuid}/usages"),
		r("usages", "(role:reader and project_id:%(project_id)s) or "+adminOrService, "Show a project's usage.", "GET /usages"),
		r("traits:list", adminOrService, "List traits.", "GET /traits"),
		r("traits:show", adminOrService, "Show a trait.", "GET /traits/{name}"),
		r("traits:update", adminOrService, "Make a trait.", "PUT /traits/{name}"),
		r("traits:delete", adminOrService, "Delete a trait.", "DELETE /traits/{name}"),
		r("resource_providers:traits:list", adminOrService, "List a provider's traits.", "GET /resource_providers/{uuid}/traits"),
		r("resource_providers:traits:update", adminOrService, "Set a provider's traits.", "PUT /resource_providers/{uuid}/traits"),
		r("resource_providers:traits:delete", adminOrService, "Delete a provider's traits.", "DELETE /resource_providers/{uuid}/traits"),
		r("allocations:manage", adminOrService, "Manage allocations of several consumers.", "POST /allocations"),
		r("allocations:list", adminOrService, "List a consumer's allocations.", "GET /allocations/{consumer_uuid}"),
		r("allocations:update", adminOrService, "Set a consumer's allocations.", "PUT /allocations/{consumer_uuid}"),
		r("allocations:delete", adminOrService, "Delete a consumer's allocations.", "DELETE /allocations/{consumer_uuid}"),
		r("resource_providers:allocations:list", adminOrService, "List a provider's allocations.", "GET /resource_providers/{uuid}/allocations"),
		r("allocation_candidates:list", adminOrService, "List allocation candidates.", "GET /allocation_candidates"),
		r("reshaper:reshape", "role:service", "Reshape inventories and allocations.", "POST /reshaper"),
	}
}
