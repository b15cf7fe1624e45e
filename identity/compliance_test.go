package identity_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base32"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/identity"
	"github.com/nacre-cloud/nacre/identity/assignment"
	"github.com/nacre-cloud/nacre/identity/credential"
	"github.com/nacre-cloud/nacre/identity/password"
)

// root is the administrator with a fresh token.
func (c *cloud) root() context.Context {
	return c.login(identity.AuthRequest{Methods: []string{"password"}, User: named("admin"), Password: "secret", Project: ref(named("admin"))})
}

// try logs in and says what went wrong.
func (c *cloud) try(req identity.AuthRequest) error {
	_, _, err := c.Authenticate(c.t.Context(), req)
	return err
}

func with(req identity.AuthRequest, pw string) identity.AuthRequest {
	req.Password = pw
	return req
}

func words(t *testing.T, err error, kind nacre.Kind, text string) {
	t.Helper()
	require.ErrorIs(t, err, kind)
	var e *nacre.Error
	require.ErrorAs(t, err, &e)
	require.Contains(t, e.Message, text)
}

const needsAuth = "The request you have made requires authentication."

func TestLockout(t *testing.T) {
	eachEngine(t, func(t *testing.T, c *cloud) {
		c.Service = c.anotherWith(func(cfg *identity.Config) { cfg.Compliance = password.Compliance{LockoutAttempts: 3} })
		u := c.user("default")
		good, bad := byPassword(u), with(byPassword(u), "guess")
		require.Error(t, c.try(bad))
		require.Error(t, c.try(bad))
		require.NoError(t, c.try(good))
		for range 3 {
			words(t, c.try(bad), nacre.Unauthenticated, needsAuth)
		}
		words(t, c.try(good), nacre.Unauthenticated, needsAuth)
		words(t, c.another().ChangePassword(t.Context(), u.ID, "guess", "new"), nacre.Unauthenticated, needsAuth)
		words(t, c.ChangePassword(t.Context(), u.ID, "pw", "new"), nacre.Unauthenticated, needsAuth)
		time.Sleep(31 * time.Minute)
		require.NoError(t, c.try(good), "the lock has lapsed")
		for range 3 {
			require.Error(t, c.try(bad))
		}
		time.Sleep(31 * time.Minute)
		require.Error(t, c.try(bad), "a lapsed lock counts anew")
		require.NoError(t, c.try(good))
		for range 3 {
			require.Error(t, c.try(bad))
		}
		_, err := c.UpdateUser(c.root(), u.ID, identity.UserChange{Enabled: ref(true)})
		require.NoError(t, err)
		require.NoError(t, c.try(good), "an administrator unlocks")
		_, err = c.UpdateUser(c.root(), u.ID, identity.UserChange{Options: identity.Options{"ignore_lockout_failure_attempts": true}})
		require.NoError(t, err)
		for range 5 {
			require.Error(t, c.try(bad))
		}
		require.NoError(t, c.try(good))
		c.Service = c.anotherWith(func(cfg *identity.Config) {
			cfg.Compliance = password.Compliance{LockoutAttempts: 1, LockoutFor: -1}
		})
		v := c.user("default")
		require.Error(t, c.try(with(byPassword(v), "guess")))
		time.Sleep(1000 * time.Hour)
		require.Error(t, c.try(byPassword(v)), "for good")
	})
}

func TestPasswordRules(t *testing.T) {
	eachEngine(t, func(t *testing.T, c *cloud) {
		c.Service = c.anotherWith(func(cfg *identity.Config) {
			cfg.Compliance = password.Compliance{PasswordRegex: `^(?=.*\d)(?=.*[a-zA-Z])(?!.*nacre).{4,}$`, PasswordRules: "a digit and a letter"}
		})
		weak := func(pw string) error {
			_, err := c.CreateUser(c.admin, identity.UserChange{Name: ref("weak" + pw), DomainID: ref("default"), Password: &pw})
			return err
		}
		for _, pw := range []string{"abcd", "1234", "a1", "nacre1"} {
			words(t, weak(pw), nacre.Invalid, "The password does not match the requirements: a digit and a letter.")
		}
		u, err := c.CreateUser(c.admin, identity.UserChange{Name: ref("u"), DomainID: ref("default"), Password: ref("first1")})
		require.NoError(t, err)
		require.ErrorIs(t, c.ChangePassword(t.Context(), u.ID, "first1", "weak"), nacre.Invalid)
		_, err = c.UpdateUser(c.admin, u.ID, identity.UserChange{Password: ref("weak")})
		require.ErrorIs(t, err, nacre.Invalid)

		c.Service = c.anotherWith(func(cfg *identity.Config) {
			cfg.Compliance = password.Compliance{UniquePasswords: 3, MinPasswordDays: 1, PasswordDays: 30}
		})
		change := func(old, new string) error { return c.ChangePassword(t.Context(), u.ID, old, new) }
		time.Sleep(time.Second)
		words(t, change("first1", "first1"), nacre.Invalid, "must be unique is 3")
		require.NoError(t, change("first1", "second"), "an administrator has set the old one")
		words(t, change("second", "third"), nacre.Invalid, "minimum password age")
		time.Sleep(25 * time.Hour)
		require.NoError(t, change("second", "third"))
		time.Sleep(25 * time.Hour)
		words(t, change("third", "first1"), nacre.Invalid, "must be unique is 3")
		require.NoError(t, change("third", "fourth"))
		time.Sleep(25 * time.Hour)
		require.NoError(t, change("fourth", "first1"), "three others came between")

		login := identity.AuthRequest{Methods: []string{"password"}, User: identity.NameRef{ID: u.ID}, Password: "first1"}
		_, info, err := c.Authenticate(t.Context(), login)
		require.NoError(t, err)
		require.WithinDuration(t, time.Now().Add(30*24*time.Hour), *info.User.PasswordExpires, 2*time.Second)
		root := c.root()
		soon := time.Now().Add(31 * 24 * time.Hour).UTC().Format("2006-01-02T15:04:05Z")
		users := func(filter string) []identity.User {
			us, err := c.ListUsers(root, nacre.Query{Filters: []nacre.Filter{{Name: "password_expires_at", Value: filter}}})
			require.NoError(t, err)
			return us
		}
		require.Len(t, users("lt:"+soon), 1)
		require.Empty(t, users("gt:"+soon))
		_, err = c.ListUsers(root, nacre.Query{Filters: []nacre.Filter{{Name: "password_expires_at", Value: "near:" + soon}}})
		words(t, err, nacre.Invalid, "The given operator near is not valid")
		_, err = c.ListUsers(root, nacre.Query{Filters: []nacre.Filter{{Name: "password_expires_at", Value: "lt:tomorrow"}}})
		words(t, err, nacre.Invalid, "Timestamp not in expected format")

		time.Sleep(30*24*time.Hour + time.Minute)
		words(t, c.try(login), nacre.Unauthenticated, "The password is expired and needs to be changed for user: "+u.ID)
		words(t, c.try(with(login, "guess")), nacre.Unauthenticated, needsAuth)
		_, err = c.UpdateUser(c.root(), u.ID, identity.UserChange{Options: identity.Options{"ignore_password_expiry": true}})
		require.NoError(t, err)
		require.NoError(t, c.try(login))
		_, err = c.UpdateUser(c.root(), u.ID, identity.UserChange{Options: identity.Options{"ignore_password_expiry": nil}})
		require.NoError(t, err)
		require.NoError(t, change("first1", "fifth"), "an expired password can be changed")
		require.NoError(t, c.try(with(login, "fifth")))
		_, err = c.UpdateUser(c.root(), u.ID, identity.UserChange{Options: identity.Options{"lock_password": true}})
		require.NoError(t, err)
		words(t, change("fifth", "sixth"), nacre.Invalid, "password policy disallowing password changes")
	})
}

func TestFirstUseAndInactivity(t *testing.T) {
	eachEngine(t, func(t *testing.T, c *cloud) {
		c.Service = c.anotherWith(func(cfg *identity.Config) { cfg.Compliance = password.Compliance{ChangeUponFirstUse: true} })
		u := c.user("default")
		words(t, c.try(byPassword(u)), nacre.Unauthenticated, "needs to be changed")
		require.NoError(t, c.ChangePassword(t.Context(), u.ID, "pw", "mine"))
		require.NoError(t, c.try(with(byPassword(u), "mine")))
		robot, err := c.CreateUser(c.admin, identity.UserChange{Name: ref("robot"), DomainID: ref("default"), Password: ref("pw"), Options: identity.Options{"ignore_change_password_upon_first_use": true}})
		require.NoError(t, err)
		require.NoError(t, c.try(byPassword(robot)))

		c.Service = c.anotherWith(func(cfg *identity.Config) { cfg.Compliance = password.Compliance{InactiveDays: 10} })
		require.NoError(t, c.try(byPassword(robot)))
		time.Sleep(9 * 24 * time.Hour)
		require.NoError(t, c.try(byPassword(robot)))
		time.Sleep(9 * 24 * time.Hour)
		require.NoError(t, c.try(byPassword(robot)), "it counts from the last log-in")
		words(t, c.try(with(byPassword(u), "mine")), nacre.Unauthenticated, needsAuth)
		words(t, c.try(identity.AuthRequest{Methods: []string{"password"}, User: named("admin"), Password: "secret"}), nacre.Unauthenticated, needsAuth)
		root := nacre.AsService(t.Context(), "test")
		got, err := c.GetUser(root, u.ID)
		require.NoError(t, err)
		require.False(t, got.Enabled, "it is shown as disabled")
		_, err = c.UpdateUser(root, u.ID, identity.UserChange{Enabled: ref(true)})
		require.NoError(t, err)
		require.NoError(t, c.try(with(byPassword(u), "mine")))
	})
}

func TestOptions(t *testing.T) {
	eachEngine(t, func(t *testing.T, c *cloud) {
		u := c.user("default")
		for _, o := range []identity.Options{
			{"lock_password": "yes"}, {"lock_password": 1.0}, {"unheard": true}, {"immutable": true},
			{"multi_factor_auth_rules": "password"}, {"multi_factor_auth_rules": []any{"password"}}, {"multi_factor_auth_rules": []any{[]any{}}},
			{"multi_factor_auth_rules": []any{[]any{"a", "a"}}}, {"multi_factor_auth_rules": []any{[]any{"a"}, []any{"a"}}}, {"multi_factor_auth_rules": []any{[]any{1.0}}},
		} {
			_, err := c.UpdateUser(c.admin, u.ID, identity.UserChange{Options: o})
			require.ErrorIs(t, err, nacre.Invalid, "%v", o)
			_, err = c.CreateUser(c.admin, identity.UserChange{Name: ref("x"), DomainID: ref("default"), Options: o})
			require.ErrorIs(t, err, nacre.Invalid, "%v", o)
		}
		u, err := c.UpdateUser(c.admin, u.ID, identity.UserChange{Options: identity.Options{"lock_password": true, "ignore_user_inactivity": false}})
		require.NoError(t, err)
		require.Equal(t, identity.Options{"lock_password": true, "ignore_user_inactivity": false}, u.Options)
		u, err = c.UpdateUser(c.admin, u.ID, identity.UserChange{Options: identity.Options{"lock_password": nil}})
		require.NoError(t, err)
		require.Equal(t, identity.Options{"ignore_user_inactivity": false}, u.Options)
	})
}

func TestHashForms(t *testing.T) {
	eachEngine(t, func(t *testing.T, c *cloud) {
		for i, name := range []string{"bcrypt", "bcrypt_sha256", "scrypt", "pbkdf2_sha512"} {
			svc := c.anotherWith(func(cfg *identity.Config) { cfg.PasswordHash, cfg.PasswordRounds = name, 5 })
			u, err := svc.CreateUser(c.admin, identity.UserChange{Name: ref(name), DomainID: ref("default"), Password: ref("pw")})
			require.NoError(t, err)
			require.NoError(t, c.try(byPassword(u)), "another service logs it in, %d", i)
			require.Error(t, c.try(with(byPassword(u), "px")))
		}
		_, err := identity.New(identity.Config{Engine: c.engine, PasswordHash: "md5"})
		require.ErrorContains(t, err, "PasswordHash")
		_, err = identity.New(identity.Config{Engine: c.engine, Compliance: password.Compliance{PasswordRegex: "("}})
		require.ErrorContains(t, err, "PasswordRegex")
		long := fmt.Sprintf("%0100d", 7)
		u, err := c.CreateUser(c.admin, identity.UserChange{Name: ref("long"), DomainID: ref("default"), Password: &long})
		require.NoError(t, err)
		require.NoError(t, c.try(with(byPassword(u), long[:72])), "what bcrypt does not look at does not count, as in Keystone")
		strict := c.anotherWith(func(cfg *identity.Config) { cfg.StrictPasswords = true })
		_, err = strict.CreateUser(c.admin, identity.UserChange{Name: ref("longer"), DomainID: ref("default"), Password: &long})
		words(t, err, nacre.Forbidden, "The password length must be less than or equal to 72.")
	})
}

// passcode is RFC 6238 anew.
func passcode(secret string, at time.Time) string {
	m := hmac.New(sha1.New, []byte(secret))
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], uint64(at.Unix()/30))
	m.Write(b[:])
	sum := m.Sum(nil)
	o := sum[19] & 15
	return fmt.Sprintf("%06d", (uint32(sum[o]&0x7f)<<24|uint32(sum[o+1])<<16|uint32(sum[o+2])<<8|uint32(sum[o+3]))%1_000_000)
}

func totp(u identity.User, code string) identity.AuthRequest {
	raw, _ := json.Marshal(map[string]any{"user": map[string]any{"id": u.ID, "passcode": code}})
	return identity.AuthRequest{Methods: []string{"totp"}, Extra: map[string]json.RawMessage{"totp": raw}}
}

func TestPasscodes(t *testing.T) {
	require.Equal(t, "287082", passcode("12345678901234567890", time.Unix(59, 0)), "RFC 6238, appendix B")
	eachEngine(t, func(t *testing.T, c *cloud) {
		const secret = "12345678901234567890"
		u, p := c.user("default"), c.project("default")
		c.grant(assignment.Grant{UserID: u.ID, ProjectID: p.ID}, "member")
		mine := c.login(on(byPassword(u), p))
		_, err := c.Credentials.Create(mine, credential.Change{Type: ref("totp"), Blob: ref("not base 32!")})
		require.ErrorIs(t, err, nacre.Invalid)
		cred, err := c.Credentials.Create(mine, credential.Change{Type: ref("totp"), Blob: ref(base32.StdEncoding.EncodeToString([]byte(secret)))})
		require.NoError(t, err)
		now := time.Now()
		require.NoError(t, c.try(totp(u, passcode(secret, now))))
		words(t, c.try(totp(u, passcode(secret, now))), nacre.Unauthenticated, needsAuth)
		words(t, c.try(totp(u, passcode(secret, now.Add(-30*time.Second)))), nacre.Unauthenticated, needsAuth)
		time.Sleep(time.Minute)
		require.NoError(t, c.try(totp(u, passcode(secret, time.Now().Add(-30*time.Second)))), "one period back is good")
		require.NoError(t, c.try(totp(u, passcode(secret, time.Now()))))
		time.Sleep(2 * time.Minute)
		for _, code := range []string{passcode(secret, time.Now().Add(-time.Minute)), passcode(secret, time.Now().Add(time.Minute)), "", "000000"} {
			require.Error(t, c.try(totp(u, code)), code)
		}

		_, err = c.UpdateUser(c.admin, u.ID, identity.UserChange{Options: identity.Options{"multi_factor_auth_rules": []any{[]any{"password", "totp"}, []any{"unheard"}, []any{"token", "application_credential"}}}})
		require.NoError(t, err)
		var more *identity.ReceiptError
		require.ErrorAs(t, c.try(byPassword(u)), &more)
		require.ErrorIs(t, more, nacre.Unauthenticated)
		require.Equal(t, []string{"password"}, more.Methods)
		require.Equal(t, [][]string{{"password", "totp"}}, more.Required)
		other := c.user("default")
		stolen := byPassword(other)
		stolen.Receipt = more.Text
		words(t, c.try(stolen), nacre.Unauthenticated, "Could not find auth receipt")
		rest := totp(u, passcode(secret, time.Now()))
		rest.Receipt = more.Text
		token, info, err := c.Authenticate(t.Context(), on(rest, p))
		require.NoError(t, err)
		require.ElementsMatch(t, []string{"password", "totp"}, info.Methods)
		require.NoError(t, c.try(identity.AuthRequest{Methods: []string{"token"}, Token: token}), "a token has its methods with it")
		time.Sleep(time.Minute)
		both := totp(u, passcode(secret, time.Now()))
		both.Methods, both.User, both.Password = []string{"password", "totp"}, identity.NameRef{ID: u.ID}, "pw"
		require.NoError(t, c.try(both))

		require.ErrorAs(t, c.try(byPassword(u)), &more)
		time.Sleep(6 * time.Minute)
		late := totp(u, passcode(secret, time.Now()))
		late.Receipt = more.Text
		words(t, c.try(late), nacre.Unauthenticated, "Could not find auth receipt")
		require.ErrorAs(t, c.try(byPassword(u)), &more)
		_, err = c.UpdateUser(c.admin, u.ID, identity.UserChange{Password: ref("other")})
		require.NoError(t, err)
		late.Receipt = more.Text
		require.ErrorIs(t, c.try(late), nacre.Unauthenticated, "what the old password has proved is nothing now")

		_, err = c.UpdateUser(c.admin, u.ID, identity.UserChange{Options: identity.Options{"multi_factor_auth_enabled": false}})
		require.NoError(t, err)
		require.NoError(t, c.try(with(byPassword(u), "other")))
		spare, err := c.Credentials.Create(c.admin, credential.Change{Type: ref("totp"), UserID: ref(other.ID), Blob: ref(base32.StdEncoding.EncodeToString([]byte(secret)))})
		require.NoError(t, err)
		require.NoError(t, c.try(totp(other, passcode(secret, time.Now()))), spare.ID)
		require.NoError(t, c.DeleteUser(c.admin, other.ID))
		require.NoError(t, c.Credentials.Delete(c.admin, cred.ID))
		time.Sleep(time.Minute)
		require.Error(t, c.try(totp(u, passcode(secret, time.Now()))))
	})
}

func TestMFADoesNotLockOut(t *testing.T) {
	eachEngine(t, func(t *testing.T, c *cloud) {
		u := c.user("default")
		_, err := c.UpdateUser(c.admin, u.ID, identity.UserChange{Options: identity.Options{"multi_factor_auth_rules": []any{[]any{"kerberos"}}}})
		require.NoError(t, err)
		require.NoError(t, c.try(byPassword(u)), "no rule has a method that there is")
	})
}
