package drills

import (
	"embed"
	"io/fs"
)

//go:embed all:bookstore all:cdn ready
var files embed.FS

// Files returns the examples, one directory each, and the ready-made drills in ready. Embedding forgets modes: a file that begins with "#!" is a script, to be made
// executable where it is written.
func Files() fs.FS { return files }
