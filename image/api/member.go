package api

import (
	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/image"
	"github.com/nacre-cloud/nacre/internal/rest"
)

type memberView struct {
	Member  string       `json:"member_id"`
	Image   string       `json:"image_id"`
	Status  string       `json:"status"`
	Created rest.Seconds `json:"created_at"`
	Updated rest.Seconds `json:"updated_at"`
	Schema  string       `json:"schema"`
}

type memberList struct {
	Members []memberView `json:"members"`
	Schema  string       `json:"schema"`
}

func memberOf(m image.Member) memberView {
	return memberView{m.Project, m.ImageID, m.Status, rest.Seconds(m.Created), rest.Seconds(m.Updated), "/v2/schemas/member"}
}

func (a *api) listMembers(r *rest.Request) (any, error) {
	ms, err := a.s.Members(r.Context(), r.Var("id"))
	if err != nil {
		return nil, err
	}
	out := memberList{make([]memberView, len(ms)), "/v2/schemas/members"}
	for i, m := range ms {
		out.Members[i] = memberOf(m)
	}
	return out, nil
}

type addMember struct {
	Member rest.Opt[string] `json:"member"`
}

func (a *api) addMember(r *rest.Request, b *addMember) (any, error) {
	if !b.Member.Set {
		return nil, nacre.Errorf(nacre.Invalid, "", "Member to be added not specified")
	}
	m, err := a.s.AddMember(r.Context(), r.Var("id"), b.Member.Value)
	if err != nil {
		return nil, err
	}
	return memberOf(m), nil
}

func (a *api) getMember(r *rest.Request) (any, error) {
	m, err := a.s.Member(r.Context(), r.Var("id"), r.Var("member"))
	if err != nil {
		return nil, err
	}
	return memberOf(m), nil
}

type setMember struct {
	Status rest.Opt[string] `json:"status"`
}

func (a *api) setMember(r *rest.Request, b *setMember) (any, error) {
	if !b.Status.Set {
		return nil, nacre.Errorf(nacre.Invalid, "", "Status not specified")
	}
	m, err := a.s.SetMember(r.Context(), r.Var("id"), r.Var("member"), b.Status.Value)
	if err != nil {
		return nil, err
	}
	return memberOf(m), nil
}
