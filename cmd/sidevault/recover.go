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
	form   output
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
	addOutputFlags(cmd, &o.form)
	return cmd
}

func (o *recoverOptions) run(cmd *cobra.Command, args []string) error {
	cfg, err := loadSettings(cmd.Flags(), o.sh)
	if err != nil {
		return err
	}
	if len(args) == 0 && o.backup == "" || len(args) > 0 && args[0] == "" {
		return usagef("INTEGRATION or --backup is missing").hinted("%s", cmd.UseLine())
	}
	if err := o.hasFile(cfg); o.backup == "" && err != nil {
		return err
	}
	r := recoveryRecipe{Identity: identityFiles(cfg)[0]}
	if len(args) > 0 {
		r.Integration, r.Environment = args[0], sharedName
		if cmd.Flags().Changed(environmentFlag) {
			r.Environment = o.environment
		}
	}
	if o.backup == "" {
		r.Data = filepath.Dir(cfg.Storage.path)
	} else if r.Backup, err = filepath.Abs(o.backup); err != nil {
		return err
	}
	r.Recipe = r.text()
	if o.form.forPrograms() {
		return o.form.print(o.sh.out, r)
	}
	_, err = fmt.Fprint(o.sh.out, r.Recipe)
	return err
}

// recoveryRecipe is what --json prints.
type recoveryRecipe struct {
	Identity    string `json:"identity"`              // file
	Integration string `json:"integration,omitempty"` // without one, all
	Environment string `json:"environment,omitempty"`
	Data        string `json:"data,omitempty"`   // directory of the vault's file
	Backup      string `json:"backup,omitempty"` // in its place
	Recipe      string `json:"recipe"`           // what a shell is to run
}

func (r recoveryRecipe) text() string {
	var b strings.Builder
	b.WriteString("# Paste this into a shell; it needs age, and the identity that the vault was made for.\numask 077\n")
	set := func(name, value string) { fmt.Fprintf(&b, "%s=%s\n", name, quoted(value)) }
	set("identity", r.Identity)
	if r.Integration != "" {
		set("integration", r.Integration)
		set("environment", r.Environment)
	}
	switch {
	case r.Backup == "":
		set("data", r.Data)
		b.WriteString(recipeFile)
	case r.Integration == "":
		set("backup", r.Backup)
		b.WriteString(recipeAll)
	default:
		set("backup", r.Backup)
		b.WriteString(recipeBackup)
	}
	return b.String()
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
