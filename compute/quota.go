package compute

import (
	"context"
	"time"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/internal/policy"
	"github.com/nacre-cloud/nacre/internal/quota"
	"github.com/nacre-cloud/nacre/store"
)

// defaultQuota are nova's defaults.
var defaultQuota = map[string]int64{
	"instances": 10, "cores": 20, "ram": 51200, "metadata_items": 128, "injected_files": 5, "injected_file_content_bytes": 10240,
	"injected_file_path_bytes": 255, "key_pairs": 100, "server_groups": 10, "server_group_members": 10,
	"floating_ips": -1, "fixed_ips": -1, "security_groups": -1, "security_group_rules": -1,
}

// QuotaUse is a limit with what is used of it.
type QuotaUse struct {
	Limit    int64 `json:"limit"`
	InUse    int64 `json:"in_use"`
	Reserved int64 `json:"reserved"`
}

// Quota is a project's limits and, where they are counted, its use.
func (s *Service) Quota(ctx context.Context, project, rule string) (map[string]QuotaUse, error) {
	if err := s.enforce(ctx, rule, policy.Map{"project_id": project}); err != nil {
		return nil, err
	}
	limits, err := s.quota.Limits(ctx, project)
	if err != nil {
		return nil, err
	}
	used, err := s.usage(ctx, project)
	if err != nil {
		return nil, err
	}
	if used["server_groups"], err = s.groups.Count(ctx, store.Eq("project_id", project)); err != nil {
		return nil, err
	}
	out := map[string]QuotaUse{}
	for r, l := range limits {
		out[r] = QuotaUse{Limit: l, InUse: used[r]}
	}
	return out, nil
}

// DefaultQuota is what a project without limits of its own has.
func (s *Service) DefaultQuota(ctx context.Context, rule string) (map[string]int64, error) {
	if err := s.enforce(ctx, rule, nil); err != nil {
		return nil, err
	}
	return s.quota.Defaults(ctx)
}

// SetQuota stores a project's limits. Below the present use is 400 unless force.
func (s *Service) SetQuota(ctx context.Context, project string, limits map[string]int64, force bool) error {
	if err := s.enforce(ctx, "os_compute_api:os-quota-sets:update", policy.Map{"project_id": project}); err != nil {
		return err
	}
	if !force {
		used, err := s.usage(ctx, project)
		if err != nil {
			return err
		}
		for r, l := range limits {
			if l >= 0 && l < used[r] {
				return nacre.Errorf(nacre.Invalid, "", "Quota limit %d for %s must be greater than or equal to already used and reserved %d.", l, r, used[r])
			}
		}
	}
	return s.quota.Set(ctx, project, limits)
}

// SetClassQuota stores the default class's limits.
func (s *Service) SetClassQuota(ctx context.Context, class string, limits map[string]int64) error {
	if err := s.enforce(ctx, "os_compute_api:os-quota-class-sets:update", nil); err != nil {
		return err
	}
	return s.quota.Set(ctx, quota.Class(class), limits)
}

// ClearQuota takes a project back to the defaults.
func (s *Service) ClearQuota(ctx context.Context, project string) error {
	if err := s.enforce(ctx, "os_compute_api:os-quota-sets:delete", policy.Map{"project_id": project}); err != nil {
		return err
	}
	_, err := s.quota.Clear(ctx, project)
	return err
}

// Usage is what a server took in a period, for os-simple-tenant-usage.
type Usage struct {
	Server Server
	// Hours between start and end in which it existed.
	Hours  float64
	Uptime time.Duration
}

// Usages lists what servers took between two times, by project when one is given.
func (s *Service) Usages(ctx context.Context, project string, from, to time.Time, rule string) ([]Usage, error) {
	target := policy.Map{"project_id": project}
	if err := s.enforce(ctx, rule, target); err != nil {
		return nil, err
	}
	w := store.And(store.Not(store.IsNull("launched_at")), store.LessEq("launched_at", to), store.Or(store.IsNull("terminated_at"), store.GreaterEq("terminated_at", from)))
	if project != "" {
		w = store.And(w, store.Eq("project_id", project))
	}
	servers, err := s.servers.Select(ctx, store.Select{Where: w, Order: []store.Order{{Column: "project_id"}}})
	if err != nil {
		return nil, err
	}
	out := make([]Usage, len(servers))
	now := time.Now().UTC()
	for i, sv := range servers {
		begin, end := sv.Launched, to
		if !sv.Terminated.IsZero() && sv.Terminated.Before(end) {
			end = sv.Terminated
		}
		if begin.Before(from) {
			begin = from
		}
		up := now
		if !sv.Terminated.IsZero() {
			up = sv.Terminated
		}
		out[i] = Usage{Server: sv, Hours: max(end.Sub(begin).Hours(), 0), Uptime: up.Sub(sv.Launched)}
	}
	return out, nil
}
