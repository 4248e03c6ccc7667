package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sidevault/sidevault/vault/suggest"
)

// run runs one command line and returns the exit code.
func run(ctx context.Context, sh *shell, args []string) int {
	root := newRoot(sh)
	root.SetArgs(args)
	return int(report(sh.err, root.ExecuteContext(ctx)))
}

func newRoot(sh *shell) *cobra.Command {
	root := group("sidevault", "A credential vault that runs as a sidecar")
	root.Long = rootHelp()
	root.SilenceErrors, root.SilenceUsage = true, true
	root.SetIn(sh.in)
	root.SetOut(sh.out)
	root.SetErr(sh.err)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usagef("%s", err).hinted("%s --help", cmd.CommandPath())
	})
	root.AddCommand(
		newInitCommand(sh), newServeCommand(sh), newReadyCommand(sh),
		newSetCommand(sh), newGetCommand(sh), newStatusCommand(sh), newListCommand(sh), newDeleteCommand(sh),
		newTestCommand(sh), newCredentialCommand(sh), newRunCommand(sh), newTemplateCommand(sh), newWatchCommand(sh), newPurgeCommand(sh), newMigrateCommand(sh),
		newEnvCommand(sh), newRotateCommand(sh), newCatalogCommand(sh), newPluginCommand(sh), newSyncCommand(sh), newKeyCommand(sh), newAuditCommand(sh),
		newBackupCommand(sh), newRestoreCommand(sh), newRecoverCommand(sh),
		newImportCommand(sh), newCopyCommand(sh), newRenameCommand(sh), newDiffCommand(sh), newDoctorCommand(sh),
		newMCPCommand(sh), newExportCommand(sh), newManCommand(sh), newVersionCommand(sh),
	)
	completeAll(root, sh)
	return root
}

func rootHelp() string {
	var b strings.Builder
	b.WriteString(`A credential vault that runs as a sidecar.

  sidevault init --data-dir DIR      make a vault
  sidevault serve --data-dir DIR     serve it
  sidevault serve --dev              try it out: a vault in memory

The other commands talk to a running sidecar: SIDEVAULT_ADDR says where it is,
SIDEVAULT_TOKEN holds an API key or SIDEVAULT_TOKEN_FILE the path of a file with
one. A secret is read from standard input, a file or a prompt, never from an
argument.

Exit codes:
`)
	for _, x := range exits() {
		fmt.Fprintf(&b, "  %d  %s\n", x.code, x.meaning)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// group returns a command that only has others below it.
func group(use, short string, subs ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short}
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		var known []string
		for _, c := range cmd.Commands() {
			known = append(known, c.Name())
		}
		return usagef("unknown command %q%s", args[0], suggest.Hint(args[0], known)).hinted("%s --help", cmd.CommandPath())
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	cmd.AddCommand(subs...)
	return cmd
}

// operands demands as many arguments as names are given.
func operands(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < len(names) {
			return usagef("%s is missing", names[len(args)]).hinted("%s", cmd.UseLine())
		}
		if len(args) > len(names) {
			// Not quoted: it may be a secret in the wrong place.
			return usagef("%d arguments are given, %d expected", len(args), len(names)).hinted("%s", cmd.UseLine())
		}
		return nil
	}
}
