package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/sidevault/sidevault/vault"
)

type restoreOptions struct {
	sh   *shell
	org  string
	form output
}

func newCredentialRestoreCommand(sh *shell) *cobra.Command {
	o := restoreOptions{sh: sh}
	cmd := &cobra.Command{
		Use:   "restore ID",
		Short: "Make a deleted credential live again, in the storage itself",
		Long: `Make a deleted credential live again in its place, which must be free. No sidecar
does that for a caller: it takes the storage itself, a file of one that is stopped or
one that hosts share, and a root identity. The audit log says that it was done.`,
		Example: "  sidevault credential restore cred-019dd9a1-7c00-7b4e-9d0f-446655440001 --data-dir /var/lib/sidevault",
		Args:    operands("ID"),
		RunE:    func(cmd *cobra.Command, args []string) error { return o.run(cmd, args[0]) },
	}
	flags := cmd.Flags()
	addSettings(flags, storageKeys()...)
	addOutputFlags(cmd, &o.form)
	flags.StringVar(&o.org, "org", defaultOrg, "`slug` of the org")
	return cmd
}

func (o *restoreOptions) run(cmd *cobra.Command, id string) error {
	parsed, err := vault.ParseID(id)
	if err != nil {
		return err
	}
	var restored vault.Credential
	err = onStorage(cmd, o.sh, func(ctx context.Context, v *vault.Vault, _ settings) (err error) {
		restored, err = v.Restore(ctx, o.org, parsed)
		return err
	})
	if err != nil {
		return err
	}
	if o.form.forPrograms() {
		return o.form.print(o.sh.out, restoredCredential{
			ID: string(restored.ID), IntegrationID: restored.Slot.Integration, Environment: restored.Slot.Scope.Ptr(), Name: restored.Slot.Name, Version: uint64(restored.Version),
		})
	}
	_, err = fmt.Fprintf(o.sh.out, "Restored %s: version %d, %s\n",
		describe(restored.Slot.Integration, restored.Slot.Scope.Ptr(), restored.Slot.Name), restored.Version, restored.ID)
	return err
}

// restoredCredential is what --json prints.
type restoredCredential struct {
	ID            string  `json:"id"`
	IntegrationID string  `json:"integrationId"`
	Environment   *string `json:"environment"`
	Name          string  `json:"name"`
	Version       uint64  `json:"version"`
}
