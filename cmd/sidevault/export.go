package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sidevault/sidevault/vault"
)

type exportOptions struct {
	sh  *shell
	raw bool
	out string
	org string
	slotFlags
}

func newExportCommand(sh *shell) *cobra.Command {
	o := exportOptions{sh: sh}
	cmd := &cobra.Command{
		Use:   "export INTEGRATION --raw",
		Short: "Write a credential as two age files, to be opened without Sidevault",
		Long: `Write the stored record of a credential and the key file of its environment, as
they are, out of the storage itself: a file of a sidecar that is stopped, or one that
hosts share. Both stay encrypted: the age command and the identity file open them.`,
		Example: "  sidevault export salesforce -e production --raw --data-dir /var/lib/sidevault --out salesforce",
		Args:    operands("INTEGRATION"),
		RunE:    func(cmd *cobra.Command, args []string) error { return o.run(cmd, args[0]) },
	}
	flags := cmd.Flags()
	addSettings(flags, storageKeys()...)
	flags.StringVarP(&o.environment, environmentFlag, "e", "", "`environment`; without it, what all environments share")
	flags.StringVar(&o.name, "name", "", "`name` of the credential, default \"default\"")
	flags.BoolVar(&o.raw, "raw", false, "export the files as they are stored; required")
	flags.StringVar(&o.out, "out", "", "`directory` to write to; required")
	flags.StringVar(&o.org, "org", defaultOrg, "`slug` of the org")
	return cmd
}

// Names of the exported files.
const (
	recordFile = "record.age"
	keyFile    = "key.age"
)

func (o *exportOptions) run(cmd *cobra.Command, integration string) error {
	if !o.raw || o.out == "" {
		return usagef("--raw and --out are required").
			hinted("sidevault export %s --raw --out DIR; a value alone is printed by \"sidevault get\"", integration)
	}
	restrictFiles()
	cfg, err := loadSettings(cmd.Flags(), o.sh)
	if err != nil {
		return err
	}
	raw, err := o.export(cmd, cfg, integration)
	if err != nil {
		return err
	}
	if err := o.write(raw); err != nil {
		return err
	}
	return o.tell(cfg, raw)
}

func (o *exportOptions) export(cmd *cobra.Command, cfg settings, integration string) (raw vault.RawExport, err error) {
	ctx := cmd.Context()
	v, err := openOffline(ctx, o.sh, cfg)
	if err != nil {
		return vault.RawExport{}, err
	}
	defer func() { err = firstOf(err, v.close(context.WithoutCancel(ctx))) }()
	slot, err := v.vault.Slot(integration, o.scope(cmd), o.name)
	if err != nil {
		return vault.RawExport{}, err
	}
	return v.vault.ExportRaw(ctx, o.org, slot)
}

// write writes the record and the keys, newest first, or nothing.
func (o *exportOptions) write(raw vault.RawExport) (err error) {
	if err := os.Mkdir(o.out, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return failf(exitError, "make the directory").because(err)
	}
	var u undo
	defer func() {
		if err != nil {
			err = errors.Join(err, u.run())
		}
	}()
	for i, path := range o.paths(raw) {
		data := raw.Record
		if i > 0 {
			data = raw.Keys[i-1]
		}
		if err := writePrivate(path, data); err != nil {
			return failf(exitError, "export").because(err).hinted("name a new directory with --out")
		}
		u.add(func() error { return os.Remove(path) })
	}
	return nil
}

// paths returns where the record goes, then the keys.
func (o *exportOptions) paths(raw vault.RawExport) []string {
	paths := []string{filepath.Join(o.out, recordFile)}
	for i := range raw.Keys {
		name := keyFile
		if i > 0 {
			name = fmt.Sprintf("key-%d.age", i+1)
		}
		paths = append(paths, filepath.Join(o.out, name))
	}
	return paths
}

// tell prints the recipe.
func (o *exportOptions) tell(cfg settings, raw vault.RawExport) error {
	c, paths := raw.Credential, o.paths(raw)
	var b strings.Builder
	fmt.Fprintf(&b, "Wrote %s, version %d, to %s.\n\nTo open it with the age command alone:\n\n",
		describe(c.Slot.Integration, c.Slot.Scope.Ptr(), c.Slot.Name), c.Version, strings.Join(paths, " and "))
	for i, key := range paths[1:] {
		fmt.Fprintf(&b, "  age -d %s %s %s key.txt\n", identityFlags("-i", cfg.Identities), quoted(key), [2]string{">", ">>"}[min(i, 1)])
	}
	fmt.Fprintf(&b, "  age -d -i key.txt %s\n  rm key.txt\n", quoted(paths[0]))
	_, err := fmt.Fprint(o.sh.out, b.String())
	return err
}
