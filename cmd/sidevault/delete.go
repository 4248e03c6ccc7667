package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/sidevault/sidevault/api/client"
)

type deleteOptions struct {
	remote
	slotFlags
	opts client.RemoveOptions
	form output
}

func newDeleteCommand(sh *shell) *cobra.Command {
	o := deleteOptions{remote: remote{sh: sh}}
	cmd := &cobra.Command{
		Use:   "delete INTEGRATION",
		Short: "Delete a credential",
		Long: `Delete the credential that is set in exactly that place: with -e the
environment's own, without it the shared one. No other one is touched.`,
		Args: operands("INTEGRATION"),
		RunE: func(cmd *cobra.Command, args []string) error { return o.run(cmd, args[0]) },
	}
	o.remote.addFlags(cmd)
	o.slotFlags.addFlags(cmd, &o.remote)
	cmd.Flags().BoolVar(&o.opts.IfExists, "if-exists", false, "succeed when there is nothing to delete")
	addOutputFlags(cmd, &o.form)
	completeIntegrations(cmd, &o.remote)
	return cmd
}

func (o *deleteOptions) run(cmd *cobra.Command, integration string) error {
	c, err := o.patient()
	if err != nil {
		return err
	}
	end := waiting(o.sh, "The sidecar deletes the credential")
	removed, err := c.Remove(cmd.Context(), o.slot(cmd, integration), o.opts)
	end()
	if err != nil {
		return err
	}
	if o.form.forPrograms() {
		return o.form.print(o.sh.out, removed.Data)
	}
	done := "Deleted"
	if removed.Data.WasNoop {
		done = "Nothing to delete:"
	}
	_, err = fmt.Fprintf(o.sh.out, "%s %s\n", done, describe(removed.Data.IntegrationID, removed.Data.Environment, removed.Data.Name))
	return err
}
