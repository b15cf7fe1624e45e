package api

import "github.com/nacre-cloud/nacre/identity"

// Bounds are how many statements each route may cost, by method and path.
func Bounds() map[string]int {
	out := map[string]int{}
	for _, r := range routes(&identity.Service{}, Config{}) {
		n := r.Statements
		if n == 0 {
			n = 3
		}
		out[r.Method+" "+r.Path] = n
	}
	return out
}
