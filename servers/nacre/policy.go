package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/compute"
	"github.com/nacre-cloud/nacre/compute/placement"
	"github.com/nacre-cloud/nacre/identity"
	"github.com/nacre-cloud/nacre/image"
	"github.com/nacre-cloud/nacre/internal/policy"
	"github.com/nacre-cloud/nacre/network"
)

type policyCmd struct {
	List    policyList    `cmd:"" help:"List an area's rules."`
	Explain policyExplain `cmd:"" help:"Say why a caller may do what a rule guards, or may not."`
}

// rules are each area's.
func rules() map[string][]nacre.Rule {
	return map[string][]nacre.Rule{"identity": identity.Rules(), "image": image.Rules(), "compute": compute.Rules(), "placement": placement.Rules(), "network": network.Rules()}
}

type policyList struct {
	Area string `arg:"" enum:"identity,image,compute,placement,network" help:"identity, image, compute, placement or network."`
}

// Run implements the command.
func (p *policyList) Run(c *cli, out io.Writer) error {
	rs := rules()[p.Area]
	if c.Output == "json" {
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		return e.Encode(rs)
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "RULE\tSCOPES\tDEFAULT")
	for _, r := range rs {
		fmt.Fprintf(w, "%s\t%s\t%s\n", r.Name, strings.Join(r.Scopes, ","), r.Check)
	}
	return w.Flush()
}

type policyExplain struct {
	Rule    string            `arg:"" help:"The rule's name."`
	Role    []string          `help:"Roles of the caller." default:"member"`
	User    string            `help:"The caller's user id." default:"user"`
	Project string            `help:"The project that the caller is scoped to."`
	Domain  string            `help:"The domain that the caller is scoped to."`
	System  bool              `help:"The caller is scoped to the system."`
	Target  map[string]string `help:"Attributes of what it is about: project_id=P."`
	File    string            `help:"A policy.yaml that overrides the defaults." type:"existingfile"`
}

// Run implements the command.
func (p *policyExplain) Run(out io.Writer) error {
	for area, rs := range rules() {
		if !slices.ContainsFunc(rs, func(r nacre.Rule) bool { return r.Name == p.Rule }) {
			continue
		}
		pol, err := policy.New(policy.Config{Area: area, Rules: rs, EnforceScope: true, EnforceNewDefaults: area != "placement", File: p.File})
		if err != nil {
			return err
		}
		caller := &nacre.Caller{UserID: p.User, ProjectID: p.Project, DomainID: p.Domain, Roles: p.Role, AdminProject: true}
		if p.System {
			caller.System = "all"
		}
		_, err = io.WriteString(out, pol.Explain(nacre.WithCaller(context.Background(), caller), p.Rule, policy.Map(p.Target)))
		return err
	}
	return errors.New("there is no rule " + p.Rule)
}
