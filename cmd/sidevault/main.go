// Command sidevault is a credential vault that runs as a sidecar, and the command
// line that talks to one. This package parses what it is told, constructs the
// parts, and turns their outcome into text and an exit code; it decides nothing
// about credentials itself.
package main

import (
	"context"
	"os"
)

func main() {
	os.Exit(run(context.Background(), processShell(), os.Args[1:]))
}
