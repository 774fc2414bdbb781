// Package pgsql speaks SQL to one PostgreSQL server for the drivers of databases that are made of it: what the server says of itself, and
// whether it acknowledges a write.
//
// It never chooses a server and never follows one that has moved: each Server is one address. Its invariant: Write returns nil only when the
// commit was acknowledged as durable as the server is configured to make it.
//
// Start reading at Server.
package pgsql
