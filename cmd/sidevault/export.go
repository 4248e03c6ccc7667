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
	remote
	raw bool
	out string
	org string
	slotFlags
	online onlineExport
}

func newExportCommand(sh *shell) *cobra.Command {
	o := exportOptions{remote: remote{sh: sh}}
	cmd := &cobra.Command{
		Use:   "export [INTEGRATION]",
		Short: "Write credentials to a file, without their values unless --reveal is given",
		Long: `Write what is known of credentials, of one integration or of all, in a format that
import reads. With --reveal, and an API key of admin scope, their values are in it, in
clear: every one is read, and audited, first, and then all are written or none. A file
that --out names is made, for its owner alone. Standard output must not be a terminal
then, nor a file that others can read, unless --insecure-output is given. A protected
environment is confirmed. --output table or yaml is for looking at it.

With --raw, the stored record of one credential and the key file of its environment are
written as they are, out of the storage itself: a file of a sidecar that is stopped, or
one that hosts share. Both stay encrypted: the age command and the identity file open
them.`,
		Example: `  sidevault export -e staging --format csv
  sidevault export -e staging --format env --reveal --out staging.env
  sidevault export salesforce -e production --raw --data-dir /var/lib/sidevault --out salesforce`,
		Args: cobra.MatchAll(o.operands, func(cmd *cobra.Command, args []string) error { return o.online.check(cmd, o.raw) }),
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.raw {
				return o.run(cmd, args[0])
			}
			return o.runOnline(cmd, args)
		},
	}
	flags := cmd.Flags()
	o.remote.addFlags(cmd)
	addSettings(flags, storageKeys()...)
	flags.StringVarP(&o.environment, environmentFlag, "e", "", "`environment`; without it, what all environments share")
	flags.StringVar(&o.name, "name", "", "`name` of the credential; default with --raw \"default\", else all")
	flags.BoolVar(&o.raw, "raw", false, "export the files of a credential as they are stored")
	flags.StringVar(&o.out, "out", "", "`file` to write, with --raw a directory, which is required then")
	flags.StringVar(&o.org, "org", defaultOrg, "with --raw: `slug` of the org")
	o.online.addFlags(cmd)
	completeEnvironments(cmd, &o.remote)
	completeIntegrations(cmd, &o.remote)
	return cmd
}

func (o *exportOptions) operands(cmd *cobra.Command, args []string) error {
	if o.raw || len(args) > 1 {
		return operands("INTEGRATION")(cmd, args)
	}
	return nil
}

// Names of the exported files.
const (
	recordFile = "record.age"
	keyFile    = "key.age"
)

func (o *exportOptions) run(cmd *cobra.Command, integration string) error {
	if o.out == "" {
		return usagef("--out is required with --raw").hinted("sidevault export %s --raw --out DIR", integration)
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
	if o.online.form.forPrograms() {
		return o.online.form.print(o.sh.out, rawReport{
			IntegrationID: c.Slot.Integration, Environment: c.Slot.Scope.Ptr(), Name: c.Slot.Name, Version: uint64(c.Version), Record: paths[0], Keys: paths[1:],
		})
	}
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

// rawReport is what --json prints with --raw.
type rawReport struct {
	IntegrationID string   `json:"integrationId"`
	Environment   *string  `json:"environment"`
	Name          string   `json:"name"`
	Version       uint64   `json:"version"`
	Record        string   `json:"record"`
	Keys          []string `json:"keys"`
}
