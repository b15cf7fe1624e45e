// Package limit is Keystone's unified limits: how much of a service's resource each
// project may have (registered limits), and which projects and domains may have more
// or less (limits). It counts nothing: the services do.
//
//	svc, err := limit.New(limit.Config{Area: area, Parent: parent, Model: limit.Strict})
//
// It is a part of package identity that shares its Engine; identity.Service has it
// as Limits.
//
// # What it promises
//
// Limits are compared under one lock, so that no two writers break the model between
// them. A limit has a registered one as long as it is there, and goes with its
// project. Who is neither an administrator nor asks for the system sees those of its
// own project or domain.
package limit
