package api

import (
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/compute/placement"
	"github.com/nacre-cloud/nacre/internal/rest"
)

func (a *api) candidateRoutes() []rest.Route {
	rule := []string{"placement:allocation_candidates:list"}
	return []rest.Route{
		{Method: "GET", Path: "/allocation_candidates", Min: "1.10", Max: "1.11", Policy: rule, Statements: 5, Op: rest.Do(a.candidatesOld)},
		{Method: "GET", Path: "/allocation_candidates", Min: "1.12", Policy: rule, Statements: 5, View: candidatesView{}, Op: rest.Do(a.candidates)},
	}
}

// resources reads "VCPU:2,MEMORY_MB:512".
func resources(s string) (placement.Resources, error) {
	const form = "Badly formed resources parameter. Expected resources query string parameter in form: ?resources=VCPU:2,MEMORY_MB:1024. Got: %s."
	if strings.TrimSpace(s) == "" {
		return nil, invalid(form, "empty string")
	}
	out := placement.Resources{}
	for part := range strings.SplitSeq(s, ",") {
		class, amount, ok := strings.Cut(part, ":")
		if !ok || strings.Contains(amount, ":") {
			return nil, invalid(form, part)
		}
		n, err := strconv.ParseInt(amount, 10, 64)
		if err != nil {
			return nil, invalid("Requested resource %s expected positive integer amount. Got: %s.", class, amount)
		}
		if n < 1 {
			return nil, invalid("Requested resource %s requires amount >= 1. Got: %d.", class, n)
		}
		out[class] = n
	}
	return out, nil
}

// demand reads the required and member_of parameters of a group.
func demand(r *rest.Request, vals url.Values, suffix string) (d placement.Demand, err error) {
	values := vals["required"+suffix]
	if r.Version < rest.V("1.39") && len(values) > 1 {
		values = values[len(values)-1:]
	}
	for _, v := range values {
		if err := traits(r, v, &d); err != nil {
			return d, err
		}
	}
	for _, f := range d.Forbidden {
		if slices.ContainsFunc(d.Required, func(any []string) bool { return len(any) == 1 && any[0] == f }) {
			return d, invalid("Conflicting required and forbidden traits found in the following traits keys: required%s: (%s)", suffix, f)
		}
	}
	values = vals["member_of"+suffix]
	if r.Version < rest.V("1.24") && len(values) > 1 {
		return d, invalid("Multiple member_of%s parameters are not supported", suffix)
	}
	for _, v := range values {
		if err := memberOf(r, v, suffix, &d); err != nil {
			return d, err
		}
	}
	return d, nil
}

// traits reads one required parameter: "A,!B" or "in:A,B".
func traits(r *rest.Request, v string, d *placement.Demand) error {
	const bad = "Invalid query string parameters: "
	if rest, any := strings.CutPrefix(v, "in:"); any {
		names := trimmed(rest)
		switch {
		case r.Version < anyTraits:
			return invalid(bad+"The format 'in:HW_CPU_X86_VMX,CUSTOM_MAGIC' only supported since microversion 1.39. Got: %s", v)
		case slices.Contains(names, ""):
			return invalid(bad+"Expected 'required' parameter value of the form: in:HW_CPU_X86_VMX,CUSTOM_MAGIC. Got an empty trait in: %s", v)
		case slices.ContainsFunc(names, func(n string) bool { return strings.HasPrefix(n, "!") }):
			return invalid(bad+"The format 'in:HW_CPU_X86_VMX,CUSTOM_MAGIC' does not support forbidden traits. Got: %s", v)
		}
		d.Required = append(d.Required, names)
		return nil
	}
	for _, n := range trimmed(v) {
		name := strings.TrimLeft(n, "!")
		switch {
		case name == "":
			form := "HW_CPU_X86_VMX,CUSTOM_MAGIC"
			if r.Version >= forbiddenTraits {
				form = "HW_CPU_X86_VMX,!CUSTOM_MAGIC"
			}
			return invalid(bad+"Expected 'required' parameter value of the form: %s. Got an empty trait in: %s", form, v)
		case name != n && r.Version < forbiddenTraits:
			return invalid(bad+"Expected 'required' parameter value of the form: HW_CPU_X86_VMX,CUSTOM_MAGIC. Got: %s", v)
		case name != n:
			d.Forbidden = append(d.Forbidden, name)
		default:
			d.Required = append(d.Required, []string{name})
		}
	}
	return nil
}

var (
	anyTraits       = rest.V("1.39")
	forbiddenTraits = rest.V("1.22")
)

// memberOf reads one member_of parameter: an aggregate, "in:A,B", "!A" or "!in:A,B".
func memberOf(r *rest.Request, v, suffix string, d *placement.Demand) error {
	list, forbidden := strings.CutPrefix(v, "!")
	list, many := strings.CutPrefix(list, "in:")
	if strings.Contains(v, ",") && !many {
		return invalid("Multiple values for 'member_of' must be prefixed with the 'in:' or '!in:' keyword using the valid microversion. Got: %s", v)
	}
	ids := strings.Split(list, ",")
	for i, id := range ids {
		if ids[i] = dashed(id); ids[i] == "" {
			return invalid("Invalid query string parameters: Expected 'member_of' parameter to contain valid UUID(s). Got: %s", id)
		}
	}
	switch {
	case !forbidden:
		d.MemberOf = append(d.MemberOf, ids)
	case r.Version < rest.V("1.32"):
		return invalid("Forbidden member_of%s parameters are not supported in the specified microversion", suffix)
	default:
		d.NotMemberOf = append(d.NotMemberOf, ids...)
	}
	return nil
}

var (
	numbered = regexp.MustCompile(`^(resources|required|member_of|in_tree)([1-9][0-9]*)?$`)
	named    = regexp.MustCompile(`^(resources|required|member_of|in_tree)([a-zA-Z0-9_-]{1,64})?$`)
	groupMin = map[string]string{"resources": "1.10", "required": "1.17", "member_of": "1.21", "in_tree": "1.31"}
)

// groupKey splits a parameter's name into what it says and the group's suffix.
func groupKey(r *rest.Request, name string) (what, suffix string, ok bool) {
	re := numbered
	if r.Version >= rest.V("1.33") {
		re = named
	}
	m := re.FindStringSubmatch(name)
	if m == nil || r.Version < rest.V(groupMin[m[1]]) || m[2] != "" && r.Version < rest.V("1.25") {
		return "", "", false
	}
	return m[1], m[2], true
}

func (a *api) request(r *rest.Request) (placement.Request, error) {
	req := placement.Request{Groups: map[string]placement.Group{}, Flat: r.Version < rest.V("1.29")}
	vals, err := parametersLike(r, map[string]string{"limit": "1.16", "group_policy": "1.25", "root_required": "1.35", "same_subtree": "1.36"},
		func(name string) bool { _, _, ok := groupKey(r, name); return ok })
	if err != nil {
		return req, err
	}
	if err := wide(vals, &req); err != nil {
		return req, err
	}
	for name := range vals {
		what, suffix, ok := groupKey(r, name)
		if !ok {
			continue
		}
		g := req.Groups[suffix]
		switch what {
		case "resources":
			g.Resources, err = resources(last(vals, name))
		case "in_tree":
			if g.InTree = dashed(strings.TrimSpace(last(vals, name))); g.InTree == "" {
				err = invalid("Invalid query string parameters: Expected 'in_tree' parameter to be a format of uuid. Got: %s", last(vals, name))
			}
		default:
			g.Demand, err = demand(r, vals, suffix)
		}
		if err != nil {
			return req, err
		}
		req.Groups[suffix] = g
	}
	return req, checkGroups(vals, req)
}

// wide reads what concerns the request as a whole.
func wide(vals url.Values, req *placement.Request) error {
	if vals.Has("limit") {
		n, err := strconv.Atoi(last(vals, "limit"))
		if err != nil || n < 1 || strings.HasPrefix(last(vals, "limit"), "0") {
			return invalid("Invalid query string parameters: %s does not match '^[1-9][0-9]*$'", rest.PyRepr(last(vals, "limit")))
		}
		req.Limit = n
	}
	switch p := last(vals, "group_policy"); {
	case p == "isolate":
		req.Isolate = true
	case p != "none" && vals.Has("group_policy"):
		return invalid("Invalid query string parameters: %s is not one of ['none', 'isolate']", rest.PyRepr(p))
	}
	if vals.Has("root_required") {
		if len(vals["root_required"]) > 1 {
			return nacre.Errorf(nacre.Invalid, "placement.query.duplicate_key", "Query parameter \"root_required\" may be specified only once.")
		}
		for _, n := range trimmed(last(vals, "root_required")) {
			name := strings.TrimLeft(n, "!")
			switch {
			case name == "":
				return invalid("Invalid query string parameters: Expected 'required' parameter value of the form: HW_CPU_X86_VMX,!CUSTOM_MAGIC. Got an empty trait in: %s", last(vals, "root_required"))
			case name != n:
				req.RootForbidden = append(req.RootForbidden, name)
			default:
				req.RootRequired = append(req.RootRequired, name)
			}
		}
		for _, n := range req.RootForbidden {
			if slices.Contains(req.RootRequired, n) {
				return badValue("Conflicting required and forbidden traits found in root_required: %s", n)
			}
		}
	}
	for _, v := range vals["same_subtree"] {
		suffixes := trimmed(v)
		if slices.Contains(suffixes, "") {
			return badValue("Empty string (unsuffixed group) can not be specified in `same_subtree` ")
		}
		req.SameSubtree = append(req.SameSubtree, suffixes)
	}
	return nil
}

func checkGroups(vals url.Values, req placement.Request) error {
	suffixed, withResources := 0, 0
	inSubtree := slices.Concat(req.SameSubtree...)
	for _, suffix := range slices.Sorted(maps.Keys(req.Groups)) {
		g := req.Groups[suffix]
		if suffix != "" {
			suffixed++
		}
		switch {
		case len(g.Resources) > 0:
			withResources++
		case suffix != "" && slices.Contains(inSubtree, suffix):
		case len(g.Required) > 0:
			return invalid("All traits parameters must be associated with resources.  Found the following orphaned traits keys: required%s", suffix)
		case len(g.MemberOf) > 0:
			return invalid("All member_of parameters must be associated with resources. Found the following orphaned member_of keys: member_of%s", suffix)
		default:
			return invalid("All request groups must specify resources.")
		}
	}
	if withResources == 0 {
		return nacre.Errorf(nacre.Invalid, placement.CodeMissingValue, "There must be at least one resources or resources[$S] parameter.")
	}
	for _, s := range inSubtree {
		if _, ok := req.Groups[s]; !ok {
			return badValue("Real suffixes should be specified in `same_subtree`: %s not found in %s.", rest.PyRepr(s), rest.PyRepr(slices.Sorted(maps.Keys(req.Groups))))
		}
	}
	if suffixed > 1 && !vals.Has("group_policy") {
		return invalid("The \"group_policy\" parameter is required when specifying more than one \"resources{N}\" parameter.")
	}
	return nil
}

type capacityView struct {
	Capacity int64 `json:"capacity"`
	Used     int64 `json:"used"`
}

type summaryView struct {
	Resources map[string]capacityView `json:"resources"`
	Traits    []string                `json:"traits" since:"1.17"`
	Parent    *string                 `json:"parent_provider_uuid" since:"1.29"`
	Root      string                  `json:"root_provider_uuid" since:"1.29"`
}

type resourcesView struct {
	Resources map[string]int64 `json:"resources"`
}

type candidateView struct {
	Allocations map[string]resourcesView `json:"allocations"`
	Mappings    map[string][]string      `json:"mappings" since:"1.34"`
}

type candidatesView struct {
	Requests  []candidateView        `json:"allocation_requests"`
	Summaries map[string]summaryView `json:"provider_summaries"`
}

func (a *api) find(r *rest.Request) ([]placement.Candidate, map[string]summaryView, error) {
	req, err := a.request(r)
	if err != nil {
		return nil, nil, err
	}
	cs, free, err := a.s.Candidates(r.Context(), req)
	if err != nil {
		return nil, nil, err
	}
	asked := map[string]bool{}
	for _, g := range req.Groups {
		for class := range g.Resources {
			asked[class] = true
		}
	}
	out := make(map[string]summaryView, len(free))
	for _, f := range free {
		v := summaryView{map[string]capacityView{}, f.Provider.Traits, orNull(f.Provider.ParentID), f.Provider.RootID}
		for class, inv := range f.Inventory {
			if asked[class] || r.Version >= rest.V("1.27") {
				v.Resources[class] = capacityView{inv.Capacity(), f.Used[class]}
			}
		}
		out[f.Provider.ID] = v
	}
	fresh(r, time.Time{})
	return cs, out, nil
}

func (a *api) candidates(r *rest.Request) (any, error) {
	cs, sums, err := a.find(r)
	if err != nil {
		return nil, err
	}
	out := candidatesView{make([]candidateView, len(cs)), sums}
	for i, c := range cs {
		out.Requests[i] = candidateView{map[string]resourcesView{}, c.Mappings}
		for id, res := range c.Allocations {
			out.Requests[i].Allocations[id] = resourcesView{res}
		}
	}
	return out, nil
}

// candidatesOld answers with lists, as before 1.12.
func (a *api) candidatesOld(r *rest.Request) (any, error) {
	cs, sums, err := a.find(r)
	if err != nil {
		return nil, err
	}
	type provider struct {
		UUID string `json:"uuid"`
	}
	type part struct {
		Provider  provider         `json:"resource_provider"`
		Resources map[string]int64 `json:"resources"`
	}
	type candidate struct {
		Allocations []part `json:"allocations"`
	}
	reqs := make([]candidate, len(cs))
	for i, c := range cs {
		for _, id := range slices.Sorted(maps.Keys(c.Allocations)) {
			reqs[i].Allocations = append(reqs[i].Allocations, part{provider{id}, c.Allocations[id]})
		}
	}
	return struct {
		Requests  []candidate            `json:"allocation_requests"`
		Summaries map[string]summaryView `json:"provider_summaries"`
	}{reqs, sums}, nil
}
