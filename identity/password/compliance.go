package password

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/nacre-cloud/nacre/identity/kit"
)

// Compliance are rules for passwords and accounts, those of Keystone's section
// [security_compliance]. The zero value asks for nothing.
type Compliance struct {
	// LockoutAttempts is how many log-ins may fail in a row before the user is
	// locked; 0 is any number.
	LockoutAttempts int
	// LockoutFor is how long; 0 is half an hour, negative until an administrator
	// enables the user again.
	LockoutFor time.Duration
	// InactiveDays is after how many days without a log-in a user counts as disabled.
	InactiveDays int
	// PasswordDays is for how many days a new password is good.
	PasswordDays int
	// UniquePasswords is how many passwords in a row must differ, the new one included.
	UniquePasswords int
	// MinPasswordDays is how old a password that a user has set must be before the
	// user may set another.
	MinPasswordDays int
	// PasswordRegex is what a password must match at its beginning. Look-aheads are
	// understood where the classic patterns have them, at the beginning:
	// ^(?=.*\d)(?=.*[a-zA-Z]).{7,}$
	PasswordRegex string
	// PasswordRules says in human words what PasswordRegex asks for.
	PasswordRules string
	// ChangeUponFirstUse makes a password that an administrator has set good for
	// nothing but changing it.
	ChangeUponFirstUse bool
	// ReportKey, if set, has each failed log-in reported by an event with a part of
	// a hash of the password that was tried, by this secret: equal ones tell a stale
	// program from somebody who guesses.
	ReportKey string
	// ReportChars is how much of that hash is told; 0 is 5.
	ReportChars int
}

func (c *Compliance) check() error {
	for name, n := range map[string]int{
		"LockoutAttempts": c.LockoutAttempts, "InactiveDays": c.InactiveDays, "PasswordDays": c.PasswordDays,
		"UniquePasswords": c.UniquePasswords, "MinPasswordDays": c.MinPasswordDays, "ReportChars": c.ReportChars,
	} {
		if n < 0 {
			return fmt.Errorf("password: Config.Rules.%s is negative", name)
		}
	}
	if c.PasswordDays > 0 && c.MinPasswordDays >= c.PasswordDays {
		return errors.New("password: Config.Rules.MinPasswordDays leaves no day to change a password on")
	}
	if _, err := passwordPattern(c.PasswordRegex); err != nil {
		return fmt.Errorf("password: Config.Rules.PasswordRegex: %w", err)
	}
	return nil
}

// lookahead is a part of a password's pattern: each must match, or must not.
type lookahead struct {
	*regexp.Regexp
	not bool
}

// passwordPattern splits a pattern with look-aheads at its beginning, which Go's
// expressions don't have, into expressions without.
func passwordPattern(text string) ([]lookahead, error) {
	var parts []lookahead
	rest := strings.TrimPrefix(text, "^")
	for strings.HasPrefix(rest, "(?=") || strings.HasPrefix(rest, "(?!") {
		end := closing(rest)
		if end < 0 {
			return nil, errors.New("a parenthesis is not closed")
		}
		re, err := regexp.Compile("^(?:" + rest[3:end] + ")")
		if err != nil {
			return nil, err
		}
		parts = append(parts, lookahead{re, rest[2] == '!'})
		rest = rest[end+1:]
	}
	re, err := regexp.Compile("^(?:" + rest + ")")
	if err != nil {
		return nil, err
	}
	return append(parts, lookahead{re, false}), nil
}

// closing is where the parenthesis that a pattern begins with is closed.
func closing(s string) int {
	depth, class := 0, false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\':
			i++
		case class:
			class = c != ']'
		case c == '[':
			class = true
			if strings.HasPrefix(s[i+1:], "]") || strings.HasPrefix(s[i+1:], "^]") {
				i = strings.IndexByte(s[i:], ']') + i
			}
		case c == '(':
			depth++
		case c == ')':
			if depth--; depth == 0 {
				return i
			}
		}
	}
	return -1
}

// CheckStrength refuses a new password that is too weak.
func (s *Service) CheckStrength(pw string) error {
	for _, part := range s.strength {
		if part.MatchString(pw) == part.not {
			return kit.Invalid("The password does not match the requirements: %s.", s.rules.PasswordRules)
		}
	}
	return nil
}
