package password

import (
	"time"

	"github.com/nacre-cloud/nacre/store"
)

// Row is a user's password; it is kept apart from users, so that none carries it.
type Row struct {
	UserID    string     `store:"user_id,pk"`
	Hash      string     `store:"hash"`
	SetAt     time.Time  `store:"set_at"`
	ExpiresAt *time.Time `store:"expires_at"`
	// SelfService says that the user has set it, not an administrator.
	SelfService bool `store:"self_service"`
}

// oldPassword is one that a user had before, for the history.
type oldPassword struct {
	ID     string    `store:"id,pk"`
	UserID string    `store:"user_id,index=old_password_user"`
	Hash   string    `store:"hash"`
	SetAt  time.Time `store:"set_at"`
}

// failure counts the log-ins that failed since one did not.
type failure struct {
	UserID string    `store:"user_id,pk"`
	Count  int       `store:"failed_auth_count"`
	At     time.Time `store:"failed_auth_at"`
}

type tables struct {
	passwords    *store.Table[Row]
	oldPasswords *store.Table[oldPassword]
	failures     *store.Table[failure]
}

func newTables(e store.Engine) tables {
	return tables{
		passwords:    store.NewTable[Row](e, "password"),
		oldPasswords: store.NewTable[oldPassword](e, "old_password"),
		failures:     store.NewTable[failure](e, "failed_auth"),
	}
}

// Tables are what passwords keep in their parent's database.
func Tables() []*store.TableDef {
	t := newTables(nil)
	return []*store.TableDef{t.passwords.Def(), t.oldPasswords.Def(), t.failures.Def()}
}
