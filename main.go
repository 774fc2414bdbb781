// Command firedrill rehearses disasters in production and proves that the service survives them.
package main

import (
	"os"

	"firedrill/internal/cli"
)

func main() {
	os.Exit(cli.Main(os.Args, os.Stdin, os.Stdout, os.Stderr))
}
