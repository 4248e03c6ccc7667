package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/sidevault/sidevault/api/client"
	"github.com/sidevault/sidevault/api/wire"
)

type credentialDeleteOptions struct {
	oneCredential
	opts client.RemoveOptions
}

func newCredentialDeleteCommand(sh *shell) *cobra.Command {
	o := credentialDeleteOptions{oneCredential: oneCredential{remote: remote{sh: sh}}}
	cmd := &cobra.Command{
		Use:   "delete ID",
		Short: "Delete a credential, and say whom that concerns",
		Long: `Delete a credential. "sidevault credential usage" says before who reads it, and
"sidevault credential update --status inactive" shows what happens without it.`,
		Args: operands("ID"),
		RunE: func(cmd *cobra.Command, args []string) error { return o.run(cmd, args[0]) },
	}
	o.addFlags(cmd)
	cmd.Flags().BoolVar(&o.opts.IfExists, "if-exists", false, "succeed when there is nothing to delete")
	return cmd
}

func (o *credentialDeleteOptions) run(cmd *cobra.Command, id string) error {
	c, found, err := o.find(cmd.Context(), id)
	if e, refused := errors.AsType[*client.Error](err); refused && e.Code == "CREDENTIAL_NOT_FOUND" {
		return o.deleteNothing(cmd.Context(), c, id)
	}
	if err != nil {
		return err
	}
	removed, err := c.RemoveByID(cmd.Context(), found.IntegrationID, id, o.opts)
	if err != nil {
		return err
	}
	if o.form.forPrograms() {
		return o.form.print(o.sh.out, removed.Data)
	}
	return o.say(removed.Data)
}

// deleteNothing has the sidecar say whether there ever was a credential.
func (o *credentialDeleteOptions) deleteNothing(ctx context.Context, c *client.Client, id string) error {
	if err := c.RemoveSilently(ctx, id, o.opts); err != nil {
		return err
	}
	if o.form.forPrograms() {
		return o.form.print(o.sh.out, wire.Removal{WasNoop: true})
	}
	_, err := fmt.Fprintf(o.sh.out, "Nothing to delete: %s\n", oneLine(id))
	return err
}

func (o *credentialDeleteOptions) say(r wire.Removal) error {
	place := describe(r.IntegrationID, r.Environment, r.Name)
	if r.WasNoop {
		_, err := fmt.Fprintf(o.sh.out, "Nothing to delete: %s\n", place)
		return err
	}
	_, err := fmt.Fprintf(o.sh.out, "Deleted %s: used by %s, read by %s in the last 30 days\n", place,
		count(r.IntegrationsAffected, "integration"), count(r.ConsumersAffected, "caller"))
	return err
}

// count prints a number with what it counts.
func count(n *int, what string) string {
	switch {
	case n == nil:
		return "no " + what
	case *n == 1:
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", *n, what)
}
