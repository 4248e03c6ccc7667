package main

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
)

type recoverOptions struct {
	sh     *shell
	backup string
	slotFlags
}

func newRecoverCommand(sh *shell) *cobra.Command {
	o := recoverOptions{sh: sh}
	cmd := &cobra.Command{
		Use:   "recover [INTEGRATION]",
		Short: "Print how to get credentials back with the stock age command",
		Long: `Print a shell recipe that gets a credential back with age, bbolt and the usual tools,
and without Sidevault: from the vault's file, or with --backup from a backup. Without
INTEGRATION it gets everything back that is in the backup. Nothing is opened, read or
changed: keep what is printed with the backups.`,
		Example: "  sidevault recover salesforce -e production --backup vault-backup.age --identity recovery.txt",
		Args:    cobra.MaximumNArgs(1),
		RunE:    func(cmd *cobra.Command, args []string) error { return o.run(cmd, args) },
	}
	addSettings(cmd.Flags(), "data-dir", "identity")
	cmd.Flags().StringVarP(&o.environment, environmentFlag, "e", "", "`environment`; without it, what all environments share")
	cmd.Flags().StringVar(&o.backup, "backup", "", "`file` of a backup, in the place of the vault's file")
	return cmd
}

func (o *recoverOptions) run(cmd *cobra.Command, args []string) error {
	cfg, err := loadSettings(cmd.Flags(), o.sh)
	if err != nil {
		return err
	}
	if len(args) == 0 && o.backup == "" {
		return usagef("INTEGRATION or --backup is missing").hinted("%s", cmd.UseLine())
	}
	if err := o.hasFile(cfg); o.backup == "" && err != nil {
		return err
	}
	environment := o.environment
	if !cmd.Flags().Changed(environmentFlag) {
		environment = "@shared"
	}
	var b strings.Builder
	b.WriteString("# Paste this into a shell; it needs age, and the identity that the vault was made for.\numask 077\n")
	set := func(name, value string) { fmt.Fprintf(&b, "%s=%s\n", name, quoted(value)) }
	set("identity", identityFiles(cfg)[0])
	if len(args) > 0 {
		set("integration", args[0])
		set("environment", environment)
	}
	if o.backup == "" {
		set("data", filepath.Dir(cfg.Storage.path))
		b.WriteString(recipeFile)
	} else {
		path, err := filepath.Abs(o.backup)
		if err != nil {
			return err
		}
		set("backup", path)
		b.WriteString(map[bool]string{true: recipeBackup, false: recipeAll}[len(args) > 0])
	}
	_, err = fmt.Fprint(o.sh.out, b.String())
	return err
}

// hasFile refuses to print the recipe for the vault's file where there is none of that
// name.
func (o *recoverOptions) hasFile(cfg settings) error {
	if cfg.Storage.path != "" && filepath.Base(cfg.Storage.path) == vaultFile {
		return nil
	}
	return usagef("the storage %s is no file %s, which the recipe reads", cfg.Storage, vaultFile).
		hinted("take a backup while there is a sidecar, and name it with --backup FILE")
}
