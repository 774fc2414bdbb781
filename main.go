// Reading the processor limit of our control group takes a twentieth of the time from start to the first packet hit, and we never use many
// processors: attacks that do start workers of their own.
//
//go:debug containermaxprocs=0

// Command firedrill rehearses disasters in production and proves that the service survives them.
package main

import (
	"os"

	"firedrill/internal/cli"
)

func main() {
	os.Exit(cli.Main(os.Args, os.Stdin, os.Stdout, os.Stderr))
}
