package domainconfig

import (
	"github.com/nacre-cloud/nacre/store"
)

// optionRow is one option of a domain's configuration.
type optionRow struct {
	Key      string `store:"key,pk"`
	DomainID string `store:"domain_id,index=domain_config_domain"`
	Group    string `store:"group"`
	Option   string `store:"option"`
	Value    any    `store:"value,json"`
}

// Tables are what domains' configurations keep in their parent's database.
func Tables() []*store.TableDef { return []*store.TableDef{newTable(nil).Def()} }

func newTable(e store.Engine) *store.Table[optionRow] {
	return store.NewTable[optionRow](e, "domain_config")
}
