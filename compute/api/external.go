package api

import (
	"net/http"
	"slices"
	"strings"

	"github.com/nacre-cloud/nacre/compute"
	"github.com/nacre-cloud/nacre/internal/rest"
)

// externalEvents are the names that there are, and since when.
var externalEvents = []struct {
	name, since string
	tagged      bool
}{
	{"network-changed", MinVersion, false}, {"network-vif-plugged", MinVersion, false}, {"network-vif-unplugged", MinVersion, false}, {"network-vif-deleted", MinVersion, false},
	{"volume-extended", "2.51", true}, {"power-update", "2.76", true}, {"accelerator-request-bound", "2.82", true}, {"volume-reimaged", "2.93", false},
}

type externalEventsBody struct {
	Events []struct {
		Name   string  `json:"name" valid:"required"`
		Server string  `json:"server_uuid" valid:"required,format=uuid"`
		Status string  `json:"status" valid:"enum=failed|completed|in-progress"`
		Tag    *string `json:"tag" valid:"max=255"`
	} `json:"events" valid:"required,min=1"`
}

type externalEventView struct {
	Name   string  `json:"name"`
	Server string  `json:"server_uuid"`
	Status string  `json:"status"`
	Tag    *string `json:"tag,omitempty"`
	Code   int     `json:"code"`
}

type externalEventsView struct {
	Events []externalEventView `json:"events"`
}

// externalEvents takes what other services say of servers, network above all.
func (a *api) externalEvents(r *rest.Request, b *externalEventsBody) (any, error) {
	views, taken := make([]externalEventView, len(b.Events)), make([]compute.ExternalEvent, 0, len(b.Events))
	var at []int
	for i, e := range b.Events {
		views[i] = externalEventView{Name: e.Name, Server: e.Server, Status: "failed", Tag: e.Tag, Code: http.StatusBadRequest}
		tagged, err := eventName(r, e.Name)
		if err != nil {
			return nil, err
		}
		if tagged && e.Tag == nil {
			continue
		}
		taken, at = append(taken, compute.ExternalEvent{Name: e.Name, ServerID: e.Server}), append(at, i)
	}
	codes, err := a.s.ExternalEvents(r.Context(), taken)
	if err != nil {
		return nil, err
	}
	for n, i := range at {
		if views[i].Code = codes[n]; codes[n] == compute.EventTaken {
			views[i].Status = "completed"
		}
	}
	if slices.ContainsFunc(views, func(v externalEventView) bool { return v.Code != compute.EventTaken }) {
		r.SetStatus(http.StatusMultiStatus)
	}
	return externalEventsView{views}, nil
}

// eventName says whether an event of this name must have a tag.
func eventName(r *rest.Request, name string) (tagged bool, err error) {
	var names []string
	for _, e := range externalEvents {
		if r.Version < rest.V(e.since) {
			continue
		}
		if e.name == name {
			return e.tagged, nil
		}
		names = append(names, rest.PyRepr(e.name))
	}
	return false, bad("Invalid input for field/attribute name. Value: %s. %s is not one of [%s]", name, rest.PyRepr(name), strings.Join(names, ", "))
}

func (a *api) externalEventRoutes() []rest.Route {
	return []rest.Route{{Method: "POST", Path: "/v2.1/os-server-external-events", Status: http.StatusOK, Policy: []string{"os_compute_api:os-server-external-events:create"}, View: externalEventsView{}, Op: rest.In(a.externalEvents)}}
}
