// Package guest is what the runner of tools/vm and the init that it boots say to each other: an Errand on the way in, lines on a serial
// port on the way out.
//
//	runner ── initramfs: Errand ──▶ init ── starts ──▶ test binaries
//	   ▲                             │                      │
//	   └──── Results ◀── second serial port ◀── marks ◀─────┘ lines of go test
//
// It never touches a file or a process itself. Its invariant: a Result passes only when the machine said so; silence is a failure.
//
// Start reading at Errand, then Read.
package guest
