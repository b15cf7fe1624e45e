package api

import (
	"net/http"
	"strings"

	"github.com/nacre-cloud/nacre/compute"
	"github.com/nacre-cloud/nacre/internal/rest"
)

type keypairView struct {
	Name        string      `json:"name"`
	Type        string      `json:"type" since:"2.2"`
	PublicKey   string      `json:"public_key"`
	Fingerprint string      `json:"fingerprint"`
	PrivateKey  string      `json:"private_key,omitempty" until:"2.91"`
	UserID      string      `json:"user_id,omitempty"`
	ID          *int64      `json:"id,omitempty"`
	Created     *rest.Naive `json:"created_at,omitempty"`
	Deleted     *bool       `json:"deleted,omitempty"`
	DeletedAt   *rest.Naive `json:"deleted_at,omitempty"`
	UpdatedAt   *rest.Naive `json:"updated_at,omitempty"`
}

func keypairOf(k compute.Keypair) keypairView {
	return keypairView{Name: k.Name, Type: k.Type, PublicKey: k.PublicKey, Fingerprint: k.Fingerprint}
}

func (a *api) keypairRoutes() []rest.Route {
	const base, rule = "/v2.1/os-keypairs", "os_compute_api:os-keypairs:"
	type create struct {
		Keypair struct {
			Name      string  `json:"name" valid:"required,min=1,max=255"`
			Type      string  `json:"type" since:"2.2" valid:"enum=ssh|x509"`
			PublicKey *string `json:"public_key"`
			UserID    string  `json:"user_id" since:"2.10"`
		} `json:"keypair" valid:"required"`
	}
	type wrap struct {
		Keypair keypairView `json:"keypair"`
	}
	// user is ?user_id=, from 2.10 on.
	user := func(r *rest.Request) string {
		if r.Version < rest.V("2.10") {
			return ""
		}
		return r.URL.Query().Get("user_id")
	}
	return []rest.Route{
		{Method: "GET", Path: base, Policy: []string{rule + "index"}, View: keypairView{}, Op: rest.Do(func(r *rest.Request) (any, error) {
			most := 0
			if r.Version >= rest.V("2.35") {
				most = 1000
			}
			q, err := r.Query(strictQuery(r, most, "2.75", "user_id"))
			if err != nil {
				return nil, err
			}
			if r.Version < rest.V("2.35") {
				q.Limit, q.Marker = 0, ""
			}
			ks, err := a.s.Keypairs(r.Context(), user(r), q)
			if err != nil {
				return nil, err
			}
			out := make([]wrap, len(ks))
			for i, k := range ks {
				out[i] = wrap{keypairOf(k)}
			}
			return struct {
				Keypairs []wrap `json:"keypairs"`
				Links    []link `json:"keypairs_links,omitempty"`
			}{out, next(r, len(ks), q.Limit, func() string { return ks[len(ks)-1].Name })}, nil
		})},
		{Method: "POST", Path: base, Policy: []string{rule + "create"}, View: keypairView{}, Op: rest.In(func(r *rest.Request, b *create) (any, error) {
			k := compute.Keypair{Name: b.Keypair.Name, Type: b.Keypair.Type, UserID: b.Keypair.UserID}
			if r.Version < rest.V("2.92") && strings.ContainsAny(k.Name, "@.") {
				return nil, bad("Invalid input for field/attribute name. Value: %s. %s does not match '^[a-zA-Z0-9 _-]*$'", k.Name, rest.PyRepr(k.Name))
			}
			switch {
			case b.Keypair.PublicKey != nil:
				k.PublicKey = *b.Keypair.PublicKey
				if k.PublicKey == "" {
					return nil, bad("Keypair data is invalid: failed to generate fingerprint")
				}
			case r.Version >= rest.V("2.92"):
				return nil, bad("Invalid input for field/attribute keypair. Value: %s. 'public_key' is a required property", k.Name)
			}
			k, private, err := a.s.CreateKeypair(r.Context(), k)
			if err != nil {
				return nil, err
			}
			if r.Version >= rest.V("2.2") {
				r.SetStatus(http.StatusCreated)
			}
			v := keypairOf(k)
			v.PrivateKey, v.UserID = private, k.UserID
			return wrap{v}, nil
		})},
		{Method: "GET", Path: base + "/{name}", Policy: []string{rule + "show"}, View: keypairView{}, Op: rest.Do(func(r *rest.Request) (any, error) {
			k, err := a.s.Keypair(r.Context(), user(r), r.Var("name"))
			if err != nil {
				return nil, err
			}
			v := keypairOf(k)
			created, none, no := rest.Naive(k.Created), rest.Naive{}, false
			v.UserID, v.ID, v.Created, v.Deleted, v.DeletedAt, v.UpdatedAt = k.UserID, &k.Number, &created, &no, &none, &none
			return wrap{v}, nil
		})},
		{Method: "DELETE", Path: base + "/{name}", Policy: []string{rule + "delete"}, Op: rest.Do(func(r *rest.Request) (any, error) {
			status := http.StatusAccepted
			if r.Version >= rest.V("2.2") {
				status = http.StatusNoContent
			}
			r.SetStatus(status)
			return nil, a.s.DeleteKeypair(r.Context(), user(r), r.Var("name"))
		})},
	}
}
