package identity

import (
	"maps"
	"slices"
	"time"

	"github.com/nacre-cloud/nacre/identity/kit"
	"github.com/nacre-cloud/nacre/identity/password"
)

// Options that have a meaning; password has those that except a user from its rules.
const (
	multiFactorRules      = "multi_factor_auth_rules"
	multiFactorEnabled    = "multi_factor_auth_enabled"
	optionImmutable       = "immutable"
	day                   = 24 * time.Hour
	maxMultiFactorMethods = 100
)

var (
	userOptions = []string{password.IgnoreChangePassword, password.IgnorePasswordExpiry, password.IgnoreLockout, password.LockPassword, password.IgnoreInactivity, multiFactorRules, multiFactorEnabled}
)

// checkUserOptions refuses options that a user does not have, or of a wrong type.
func checkUserOptions(o Options) error {
	plain := maps.Clone(o)
	if v := o[multiFactorRules]; v != nil {
		if _, ok := mfaRules(v); !ok {
			return kit.Invalid("Invalid input for field 'options/%s': Invalid data type, must be a list of lists comprised of strings. Sub-lists may not be duplicated. Strings in sub-lists may not be duplicated.", multiFactorRules)
		}
		delete(plain, multiFactorRules)
	}
	return kit.CheckOptions(plain, userOptions...)
}

// mfaRules reads multi_factor_auth_rules: sets of methods, each of which will do.
func mfaRules(v any) ([][]string, bool) {
	list, ok := v.([]any)
	if !ok {
		return nil, false
	}
	rules := [][]string{}
	for _, x := range list {
		sub, ok := x.([]any)
		if !ok || len(sub) == 0 || len(sub) > maxMultiFactorMethods {
			return nil, false
		}
		var rule []string
		for _, y := range sub {
			m, ok := y.(string)
			if !ok || slices.Contains(rule, m) {
				return nil, false
			}
			rule = append(rule, m)
		}
		if slices.ContainsFunc(rules, func(r []string) bool { return slices.Equal(r, rule) }) {
			return nil, false
		}
		rules = append(rules, rule)
	}
	return rules, true
}
