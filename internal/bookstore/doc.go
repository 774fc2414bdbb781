// Package bookstore is the sample service that the demo deploys and then attacks: an HTTP service, a database to stand in for
// PostgreSQL where none is installed, and the origin of the CDN.
//
// The service is an ordinary victim. It knows nothing of drills, has no test mode and never pretends: every answer that needs the
// database or the CDN really goes there, and says 503 or 504 when it cannot. What it serves comes from the published release, so an
// answer proves what was deployed.
//
// Its invariant: a write is answered with 201 only after the database acknowledged it, and the database acknowledges only what it
// would still have after losing power (and what its standby has, while one is attached). The drills measure lost writes against that.
//
// It imports no other package of this program. Start reading at Service (service.go), then statements.go, the one list of SQL that
// service and stand-in share, then Database (database.go).
package bookstore
