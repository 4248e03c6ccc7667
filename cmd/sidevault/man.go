package main

import (
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

func newManCommand(sh *shell) *cobra.Command {
	return &cobra.Command{
		Use:   "man DIR",
		Short: "Write the manual pages",
		Long: `Write a manual page of each command into a directory, which is made when there is
none, as in /usr/local/share/man/man1.`,
		Example: "  sidevault man ~/.local/share/man/man1 && man sidevault-run",
		Args:    operands("DIR"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return writeManual(sh, cmd.Root(), args[0])
		},
	}
}

func writeManual(sh *shell, root *cobra.Command, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return failf(exitError, "make the directory").because(err)
	}
	noTags(root)
	// Without a date of the build the pages of one version are the same everywhere.
	date := time.Unix(0, 0)
	header := doc.GenManHeader{Section: "1", Source: "Sidevault", Manual: "Sidevault", Date: &date}
	if err := doc.GenManTree(root, &header, dir); err != nil {
		return failf(exitError, "write the pages").because(err)
	}
	_, err := fmt.Fprintf(sh.out, "The pages are in %s.\n", oneLine(dir))
	return err
}

func noTags(cmd *cobra.Command) {
	cmd.DisableAutoGenTag = true
	for _, sub := range cmd.Commands() {
		noTags(sub)
	}
}
