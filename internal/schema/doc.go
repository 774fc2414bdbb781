// Package schema makes JSON Schemas (draft 2020-12) of what people write and programs read: the service file, plans, events, verdicts, the
// record for auditors, and whatever a command prints with --json. Editors complete and check a service file with it.
//
// They are made from the Go types by their tags, so they cannot drift from what is read and written. It never validates: the service file
// is checked by drill.ParseService, which names the cure. Its invariant: what our own commands write, and every example file, validates.
//
// Start reading at Names.
package schema
