// Package web is the dashboard of a fleet, for people with a browser: what runs, what ran, which hosts are there, and the buttons that halt
// and start.
//
//	browser ──cookie──▶ account ──role, bounds──▶ control.Call ──▶ the same decisions as for firedrill fleet
//	        ◀─HTML, and the moving part of the same page as events
//
// What the package never does: decide what may be attacked (control does), or need a script to be read: pages are whole without JavaScript,
// which only brings the moving part up to date.
//
// Its invariants. Nothing is shown or done without a session but the log-in. Nothing is done by a form that was not given to that session.
// What is refused stands in the audit log. Nothing in a page comes from elsewhere, and no script or style stands inside of one.
//
// Start reading at Handler (web.go), then show (render.go) and act (act.go).
package web
