// Command area runs one area alone, the image service, with a store of its own
// and without an identity service: the program says itself who a caller is.
//
//	go run ./examples/area
//	curl -H 'X-Auth-Token: alice' http://127.0.0.1:9292/v2/images
package main

import (
	"context"
	"log"
	"net/http"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/image"
	"github.com/nacre-cloud/nacre/image/api"
	"github.com/nacre-cloud/nacre/image/backend/mem"
	"github.com/nacre-cloud/nacre/store/memstore"
)

// people are this program's users: a token is a name, and each has a project of
// the same name. A product puts its own login, or a Keystone, in its place.
type people map[string]bool

// ValidateToken implements nacre.TokenValidator.
func (p people) ValidateToken(_ context.Context, token string) (*nacre.Caller, error) {
	if !p[token] {
		return nil, nacre.Errorf(nacre.Unauthenticated, "", "nobody is called that here")
	}
	return &nacre.Caller{UserID: token, UserName: token, ProjectID: token, Roles: []string{"member", "reader"}, Token: token}, nil
}

// start runs the service until ctx ends and returns its API.
func start(ctx context.Context, who nacre.TokenValidator) (http.Handler, error) {
	engine := memstore.New(memstore.Options{})
	if err := engine.Migrate(ctx, image.Schema(), true); err != nil {
		return nil, err
	}
	svc, err := image.New(image.Config{Engine: engine, Backend: &mem.Driver{}})
	if err != nil {
		return nil, err
	}
	go func() {
		if err := svc.Run(ctx); err != nil {
			log.Print(err)
		}
	}()
	return api.New(api.Config{Image: svc, Tokens: who}), nil
}

func main() {
	h, err := start(context.Background(), people{"alice": true, "bob": true})
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal(http.ListenAndServe("127.0.0.1:9292", h)) //nolint:gosec // an example
}
