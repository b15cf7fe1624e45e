// Package api is Keystone's HTTP API, version 3.14, over an identity.Service.
//
//	http.ListenAndServe(addr, api.New(svc, api.Config{}))
//
// It serves version documents without a token (300 on /, 200 on /v3), tokens,
// the catalog and the resources below /v3, with Keystone's bodies, statuses and
// error format. A bad X-Auth-Token is 401, a bad X-Subject-Token 404. HEAD
// answers wherever GET does. Whatever is not built answers 404.
package api
