package identity_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/identity"
	"github.com/nacre-cloud/nacre/store"
	"github.com/nacre-cloud/nacre/store/memstore"
)

// noReference are columns with an id that may refer to what is not there, by table.
var noReference = map[string][]string{
	// Keystone keeps credentials of anybody and for anything, and so any default project.
	"credential": {"user_id", "project_id"},
	"user":       {"default_project_id"},
	// A protocol whose mapping was deleted stays; nobody logs in by it.
	"federation_protocol": {"mapping_id"},
	// Limits stay when their service or region goes, as Keystone's do.
	"registered_limit": {"service_id", "region_id"},
	"limit":            {"service_id", "region_id"},
	// What was revoked outlives whom it was revoked of.
	"revocation": {"audit_id", "audit_chain_id", "user_id", "project_id", "domain_id"},
	// The ids of others.
	"federated_user": {"unique_id"},
	"id_mapping":     {"public_id", "local_id"},
	"idp_remote_ids": {"remote_id"},
}

// TestAuditFindsOrphans puts a row into each table, for each of its columns that
// names something else, that refers to what is not there.
func TestAuditFindsOrphans(t *testing.T) {
	tried := 0
	for _, def := range identity.Schema().Tables {
		for _, col := range def.Columns {
			if !strings.HasSuffix(col.Name, "_id") || col.Type != store.Text || slices.Contains(noReference[def.Name], col.Name) {
				continue
			}
			tried++
			kind := def.Name
			if kind == "assignment" {
				kind = "role_assignment"
			}
			t.Run(def.Name+"."+col.Name, func(t *testing.T) {
				e := memstore.New(memstore.Options{})
				defer func() { require.NoError(t, e.Close()) }()
				c := newCloud(t, e)
				c.clean()
				row := store.Row{Values: make([]any, len(def.Columns)), Rev: 1}
				for i, x := range def.Columns {
					switch {
					case x.Name == col.Name:
						row.Values[i] = "nowhere"
					case x.Name == def.Key:
						row.Values[i] = "orphan"
					case x.Null:
					case x.Type == store.Text:
						row.Values[i] = ""
					case x.Type == store.Bool:
						row.Values[i] = false
					case x.Type == store.Int, x.Type == store.Time:
						row.Values[i] = int64(0)
					case x.Type == store.JSON:
						row.Values[i] = []byte("null")
					default:
						require.Fail(t, "no value for a column", x.Name)
					}
				}
				require.NoError(t, e.Insert(t.Context(), def, []store.Row{row}))
				found, err := c.Audit(t.Context())
				require.NoError(t, err)
				require.True(t, slices.ContainsFunc(found, func(f nacre.Finding) bool {
					return f.Kind == kind && f.ID != "" && strings.HasSuffix(f.Problem, "nowhere is not there")
				}), "%v", found)
			})
		}
	}
	require.Greater(t, tried, 40)
}
