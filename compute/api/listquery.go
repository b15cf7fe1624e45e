package api

import (
	"regexp"
	"slices"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/internal/rest"
)

// The query parameters of the list of servers (nova's schemas/servers.py), by the
// microversion that brought them.
var (
	serverFilters = []string{"user_id", "project_id", "tenant_id", "launch_index", "image_ref", "image", "kernel_id", "ramdisk_id", "hostname", "key_name", "power_state", "vm_state",
		"task_state", "host", "node", "flavor", "reservation_id", "launched_at", "terminated_at", "availability_zone", "name", "display_name", "description", "display_description",
		"locked_by", "uuid", "root_device_name", "config_drive", "access_ip_v4", "access_ip_v6", "auto_disk_config", "progress", "all_tenants", "soft_deleted", "deleted", "status",
		"changes-since", "ip", "ip6", "created_at"}
	tagFilters = []string{"tags", "tags-any", "not-tags", "not-tags-any"}
	// regexFilters must be regular expressions even where they are compared as
	// they are.
	regexFilters = []string{"kernel_id", "ramdisk_id", "hostname", "key_name", "power_state", "node", "flavor", "reservation_id", "launched_at", "terminated_at", "availability_zone", "name",
		"display_name", "description", "display_description", "locked_by", "root_device_name", "config_drive", "access_ip_v4", "access_ip_v6", "auto_disk_config", "progress", "ip", "ip6", "created_at",
		"tags", "tags-any", "not-tags", "not-tags-any"}
	// joinedFilters name what nova keeps in other tables: refused by name.
	joinedFilters = []string{"block_device_mapping", "services", "metadata", "system_metadata", "info_cache", "security_groups", "pci_devices"}

	serverSortKeys = []string{"access_ip_v4", "access_ip_v6", "auto_disk_config", "availability_zone", "config_drive", "created_at", "display_description", "display_name", "host", "hostname",
		"image_ref", "instance_type_id", "kernel_id", "key_name", "launch_index", "launched_at", "locked_by", "node", "power_state", "progress", "project_id", "ramdisk_id", "root_device_name",
		"task_state", "terminated_at", "updated_at", "user_id", "uuid", "vm_state"}
	// ignoredSortKeys were taken and without effect until 2.75 refused them.
	ignoredSortKeys = []string{"architecture", "cell_name", "cleaned", "default_ephemeral_device", "default_swap_device", "deleted", "deleted_at", "disable_terminate", "ephemeral_gb",
		"ephemeral_key_uuid", "id", "key_data", "launched_on", "locked", "memory_mb", "os_type", "reservation_id", "root_gb", "shutdown_terminate", "user_data", "vcpus", "vm_mode"}
)

// usersFilters are the filters that have an effect for those who may not use all.
func usersFilters(v rest.Version) []string {
	names := []string{"reservation_id", "name", "status", "image", "flavor", "ip", "changes-since", "all_tenants"}
	for _, more := range []struct {
		since string
		names []string
	}{
		{"2.5", []string{"ip6"}},
		{"2.26", tagFilters},
		{"2.66", []string{"changes-before"}},
		{"2.73", []string{"locked"}},
		{"2.83", []string{"availability_zone", "config_drive", "key_name", "created_at", "launched_at", "terminated_at", "power_state", "task_state", "vm_state", "progress", "user_id"}},
		{"2.90", []string{"hostname"}},
	} {
		if v >= rest.V(more.since) {
			names = append(names, more.names...)
		}
	}
	return names
}

// badQuery words a wrong query parameter as nova's schema validation does: the
// values of a parameter are a list, and the path ends in the place in it.
func badQuery(_, value, why string) *nacre.Error {
	if value == "" && why != "" {
		return nacre.Errorf(nacre.Invalid, "", "%s", why)
	}
	return nacre.Errorf(nacre.Invalid, "", "Invalid input for query parameters 0. Value: %s. %s", value, why)
}

// strictQuery are rules under which unknown parameters are refused from the
// microversion on that brought that (2.75 for nearly all lists).
func strictQuery(r *rest.Request, maxLimit int, since string, names ...string) rest.QueryRules {
	rules := rest.QueryRules{MaxLimit: maxLimit, Invalid: func(name, value, why string) *nacre.Error {
		switch {
		case name == "limit" || name == "offset":
			return badQuery(name, value, rest.PyRepr(value)+" does not match '^[0-9]*$'")
		case !slices.Contains(names, name) && name != "sort_dir" && name != "query":
			return badQuery(name, "", why)
		}
		return badQuery(name, value, why)
	}}
	if r.Version >= rest.V(since) {
		rules.Names, rules.Strict = names, true
	}
	return rules
}

// serverListQuery reads the query of the lists of servers as the request's
// microversion has it.
func (a *api) serverListQuery(r *rest.Request) (nacre.Query, error) {
	names := slices.Clone(serverFilters)
	if r.Version >= rest.V("2.26") {
		names = append(names, tagFilters...)
	}
	if r.Version >= rest.V("2.66") {
		names = append(names, "changes-before")
	}
	if r.Version >= rest.V("2.73") {
		names = append(names, "locked")
	}
	q, err := r.Query(strictQuery(r, 1000, "2.75", append(names, joinedFilters...)...))
	if err != nil {
		return q, err
	}
	if q.Sort, err = a.serverSort(r, q.Sort); err != nil {
		return q, err
	}
	all := a.s.SeesAllFilters(r.Context())
	mine := usersFilters(r.Version)
	var kept []nacre.Filter
	for i, f := range q.Filters {
		switch {
		case slices.Contains(regexFilters, f.Name):
			if _, err := regexp.Compile(f.Value); err != nil {
				return q, badQuery(f.Name, f.Value, rest.PyRepr(f.Value)+" is not a 'regex'")
			}
		case f.Name == "changes-since", f.Name == "changes-before" && r.Version >= rest.V("2.66"):
			if _, err := rest.ParseTime(f.Value); err != nil {
				return q, badQuery(f.Name, f.Value, rest.PyRepr(f.Value)+" is not a 'date-time'")
			}
		}
		switch {
		case !all && !slices.Contains(mine, f.Name):
			continue
		case slices.Contains(joinedFilters, f.Name) || f.Name[0] == '_':
			return q, bad("Invalid filter field: %s.", f.Name)
		case !slices.Contains(names, f.Name):
			continue
		case f.Name != "status" && slices.ContainsFunc(q.Filters[i+1:], func(g nacre.Filter) bool { return g.Name == f.Name }):
			continue // the last of several holds
		}
		kept = append(kept, f)
	}
	q.Filters = kept
	return q, nil
}

func (a *api) serverSort(r *rest.Request, keys []nacre.SortKey) ([]nacre.SortKey, error) {
	var out []nacre.SortKey
	for _, k := range keys {
		locked := k.Field == "locked" && r.Version >= rest.V("2.73")
		switch {
		case !locked && slices.Contains(ignoredSortKeys, k.Field) && r.Version < rest.V("2.75"):
			continue
		case !locked && !slices.Contains(serverSortKeys, k.Field):
			valid := make([]any, len(serverSortKeys))
			for i, v := range serverSortKeys {
				valid[i] = v
			}
			return nil, badQuery("sort_key", k.Field, rest.PyRepr(k.Field)+" is not one of "+rest.PyRepr(valid))
		case (k.Field == "host" || k.Field == "node") && !a.s.SeesHosts(r.Context()):
			return nil, nacre.Errorf(nacre.Forbidden, "", "Only administrators can sort servers by %s", k.Field)
		}
		out = append(out, k)
	}
	return out, nil
}

// knownStatuses are what nova knows as a server's status, whether or not servers
// here get there.
var knownStatuses = []string{"ACTIVE", "BUILD", "DELETED", "ERROR", "HARD_REBOOT", "MIGRATING", "PASSWORD", "PAUSED", "REBOOT", "REBUILD", "RESCUE", "RESIZE", "REVERT_RESIZE", "SHELVED",
	"SHELVED_OFFLOADED", "SHUTOFF", "SOFT_DELETED", "SUSPENDED", "UNKNOWN", "VERIFY_RESIZE"}
