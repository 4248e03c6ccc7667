// Command sidevault is a credential vault that runs as a sidecar, and the command
// line that talks to one. This package parses what it is told, constructs the
// parts, and turns their outcome into text and an exit code; it decides nothing
// about credentials itself.
package main

import (
	"context"
	"os"

	"github.com/sidevault/sidevault/plugins/host"
)

func main() {
	// First of all: a supervisor is neither a command nor of this configuration.
	if len(os.Args) > 1 && os.Args[1] == supervisorWord {
		os.Exit(host.Supervise(os.Args[2:]))
	}
	os.Exit(run(context.Background(), processShell(), os.Args[1:]))
}
