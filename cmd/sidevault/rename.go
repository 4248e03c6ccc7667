package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/sidevault/sidevault/api/client"
	"github.com/sidevault/sidevault/api/wire"
)

type renameOptions struct {
	oneCredential
	consent
	slotFlags
	dryRun bool
}

func newRenameCommand(sh *shell) *cobra.Command {
	o := renameOptions{oneCredential: oneCredential{remote: remote{sh: sh}}}
	cmd := &cobra.Command{
		Use:   "rename INTEGRATION NEW-NAME",
		Short: "Give a credential another name",
		Long: `Give a credential of an integration another name, which must be free in its
environment. Its ID, its versions and its secret stay. Who reads it under the old name
finds it no more: the command says how many did in the last 30 days.`,
		Example: "  sidevault rename servicenow emea -e production --dry-run",
		Args:    operands("INTEGRATION", "NEW-NAME"),
		RunE:    func(cmd *cobra.Command, args []string) error { return o.run(cmd, args[0], args[1]) },
	}
	o.oneCredential.addFlags(cmd)
	o.slotFlags.addFlags(cmd, &o.remote)
	cmd.Flags().BoolVar(&o.dryRun, "dry-run", false, "show whom it concerns, and change nothing")
	o.consent.addFlags(cmd)
	return cmd
}

func (o *renameOptions) run(cmd *cobra.Command, integration, name string) error {
	ctx := cmd.Context()
	c, err := o.patient()
	if err != nil {
		return err
	}
	slot := o.slot(cmd, integration)
	found, err := c.Details(ctx, slot, client.ResolveOptions{NoFallback: true})
	if err != nil {
		return err
	}
	if err := o.check(ctx, c, slot, found, name); err != nil {
		return err
	}
	if o.dryRun {
		return o.tell("Would rename", found.Credential)
	}
	protected, err := protectedAmong(ctx, c, slot.Environment)
	if err != nil {
		return err
	}
	if err := o.ask(o.sh, protected, cmd.CommandPath()); err != nil {
		return err
	}
	renamed, err := c.Update(ctx, integration, found.ID, wire.UpdateRequest{Name: &name}, found.ETag)
	if err != nil && renamed.ID == "" {
		return err
	}
	return firstOf(err, o.tell("Renamed to", renamed.Credential))
}

// check refuses what would be refused, and says whom the change concerns.
func (o *renameOptions) check(ctx context.Context, c *client.Client, slot client.Slot, found client.Described, name string) error {
	if found.Name == name {
		return usagef("the credential is called %q already", name)
	}
	slot.Name = name
	taken, err := c.Status(ctx, slot)
	if err != nil {
		return err
	}
	if taken.Data.Credential != nil && taken.Data.Credential.Status != "deleted" {
		return failf(exitConflict, "%s is set already; nothing was changed", describe(slot.Integration, slot.Environment, name)).
			hinted("choose another name")
	}
	usage, err := c.Usage(ctx, slot.Integration, found.ID)
	if err != nil {
		return err
	}
	if n := uint64(len(usage.Data.Consumers)); n > 0 {
		fmt.Fprintf(o.sh.err, "sidevault: warning: %s under the old name in the last 30 days, and must ask for the new one: \"sidevault credential usage %s\"\n",
			countedAs(n, "caller read it", "callers read it"), found.ID)
	}
	return nil
}
