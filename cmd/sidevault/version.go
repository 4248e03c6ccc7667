package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

func newVersionCommand(sh *shell) *cobra.Command {
	var form output
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  operands(),
		RunE: func(*cobra.Command, []string) error {
			if form.forPrograms() {
				return form.print(sh.out, map[string]string{"version": version(), "go": runtime.Version(), "platform": platform()})
			}
			_, err := fmt.Fprintf(sh.out, "sidevault %s (%s, %s)\n", version(), runtime.Version(), platform())
			return err
		},
	}
	addOutputFlags(cmd, &form)
	return cmd
}

func platform() string { return runtime.GOOS + "/" + runtime.GOARCH }

// version returns the module's version, which the go command puts into the
// binary: a tag, or a pseudo-version with the commit.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" || info.Main.Version == "(devel)" {
		return "devel"
	}
	return info.Main.Version
}
