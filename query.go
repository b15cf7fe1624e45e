package nacre

// Query is what a user asked of a list, before an area decides what of it may
// reach the store: names here are the API's, and only names that the area
// allow-lists have an effect.
type Query struct {
	// Filters in the order given; a name may repeat (neutron: any of them).
	Filters []Filter
	// Sort keys in order of weight. Empty means the area's default.
	Sort []SortKey
	// Marker is the id of the last item of the page before.
	Marker string
	// Limit is how many items at most; 0 means the area's default, and areas
	// cap it at their own maximum.
	Limit int
	// Reverse asks for the page that ends before Marker (neutron's page_reverse).
	Reverse bool
	// Fields restricts what is returned (neutron's fields); empty means all.
	Fields []string
}

// Filter is one name and value of a query string. Op is empty for equality, or
// the service's own operator ("in", "neq", "gte", "contains").
type Filter struct {
	Name, Op, Value string
}

// SortKey is a field and its direction.
type SortKey struct {
	Field string
	Desc  bool
}

// Get is the last value of a filter with that name and no operator.
func (q Query) Get(name string) (string, bool) {
	for i := len(q.Filters) - 1; i >= 0; i-- {
		if f := q.Filters[i]; f.Name == name && f.Op == "" {
			return f.Value, true
		}
	}
	return "", false
}

// All lists every value of a filter with that name and no operator.
func (q Query) All(name string) []string {
	var vs []string
	for _, f := range q.Filters {
		if f.Name == name && f.Op == "" {
			vs = append(vs, f.Value)
		}
	}
	return vs
}
