// Package account knows the people of the dashboard: their passwords, second factors, roles and bounds, who is logged in, and who tries too
// often.
//
//	name, password, code ──Book.Check──▶ User ──Sessions.Begin──▶ a cookie's secret ──Sessions.Find──▶ Session
//
// What the package never does: speak HTTP, or keep a password, or a secret of a session, that could be used by who reads the file.
//
// Its invariants. An unknown name costs as much time as a wrong password and is answered alike. A code of a second factor is good once. A
// session ends when it is idle, when it is old, and when its user's password, role or bounds change.
//
// Start reading at Book (book.go), then Sessions (session.go) and Limiter (limiter.go).
package account
