// Package httpapi serves a control plane's calls as JSON over HTTPS, and what changes as server-sent events, to programs that hold a token.
//
//	GET /v1/hosts   Authorization: Bearer fda...   ──scope──▶ control.Call ──▶ JSON
//
// What the package never does: decide anything that Call does not decide, or know of browsers' cookies.
//
// Its invariant: without a token that has the scope of a route nothing is told and nothing is done.
//
// Start reading at routes and Handler (httpapi.go); openapi.json describes every route, which a test holds.
package httpapi
