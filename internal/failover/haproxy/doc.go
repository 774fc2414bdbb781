// Package haproxy moves the answer of a name in HAProxy: of a backend's servers, those that the decision names are put into rotation and the
// others out of it, over the runtime API, in every HAProxy that is listed.
//
// It never changes a configuration file, never reloads, never touches another backend, and never takes a server out before one that the
// decision names was seen to be up. Its invariant: an older decision never undoes a newer one, and the backend has at every instant a server
// in rotation.
//
// The decision's serial is kept in HAProxy itself, in a variable of the process, beside the state that it belongs to: a HAProxy that was
// started again has neither, and is brought up to date by the next publication. Writers on one host wait for each other at a lock file.
//
// Start reading at Publisher, then Publish (publish.go), then the runtime API (runtime.go).
package haproxy
