// Package patroni moves the primary of a PostgreSQL that Patroni manages: over Patroni's REST API, so that Patroni's own rules hold.
//
// Patroni promotes by itself when its primary is lost, and fences with its leader lock: a server that cannot renew the lock stops being a
// primary before the lock runs out. The package asks for switchovers and failovers, waits for the lock, and reads Patroni's history. It never
// touches PostgreSQL but for the writes of the proof and a look at servers whose Patroni is silent; it never changes Patroni's configuration,
// and it never goes on while Patroni is paused.
//
// Its invariant: Promote returns nil only when the server that was asked for says itself that it is the primary and the old one does not.
//
// Start reading at Driver (driver.go).
package patroni
