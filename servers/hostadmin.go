package servers

import (
	"net/http"
	"regexp"
	"strings"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/compute/hostapi"
	"github.com/nacre-cloud/nacre/internal/rest"
)

var hostName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?$`)

// hostHandler is what hosts in processes of their own ask ("/host/images",
// "/host/metadata", by a host's credential), and where an administrator makes one
// known ("/host/v1/hosts", by a token).
func (cl *Cloud) hostHandler() http.Handler {
	hosts := hostapi.New(cl.Compute, cl.log)
	admin := (&rest.Service{Name: "host", Dialect: rest.Nova(), Tokens: cl.tokens, AuthURI: authURI, Observe: cl.metrics.Observer("host"), Log: cl.log, Routes: []rest.Route{
		{Method: "POST", Path: "/v1/hosts", Status: http.StatusCreated, Policy: []string{"os_compute_api:os-services:update"}, Op: rest.In(cl.addHost)},
	}}).Handler()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/v1/") {
			admin.ServeHTTP(w, r)
			return
		}
		hosts.ServeHTTP(w, r)
	})
}

type addHost struct {
	Host struct {
		Name string `json:"name" valid:"required,min=1,max=253"`
	} `json:"host" valid:"required"`
}

// addHost makes a host known to compute and network and gives it a new secret; one
// that it had ends.
func (cl *Cloud) addHost(r *rest.Request, b *addHost) (any, error) {
	name := b.Host.Name
	if !hostName.MatchString(name) {
		return nil, nacre.Errorf(nacre.Invalid, "", "Invalid input for field/attribute name. Value: %s. It is no host name.", name)
	}
	ctx := r.Context()
	if err := cl.Compute.MayChangeHosts(ctx); err != nil {
		return nil, err
	}
	for _, h := range cl.c.Hosts {
		if h.Name == name {
			return nil, nacre.Errorf(nacre.Conflict, "", "Host %s is in this process.", name)
		}
	}
	service := nacre.AsService(ctx, "servers")
	if _, err := cl.Compute.AddHost(service, name); err != nil {
		return nil, err
	}
	if cl.Network != nil { // in another process it asks which hosts there are
		if _, err := cl.Network.AddHost(service, name); err != nil {
			return nil, err
		}
	}
	secret, err := cl.Compute.IssueCredential(ctx, name)
	if err != nil {
		return nil, err
	}
	return map[string]any{"host": map[string]string{"name": name, "secret": secret}}, nil
}
