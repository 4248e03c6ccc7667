package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

type statusOptions struct {
	remote
	slotFlags
	form output
}

func newStatusCommand(sh *shell) *cobra.Command {
	o := statusOptions{remote: remote{sh: sh}}
	cmd := &cobra.Command{
		Use:   "status INTEGRATION",
		Short: "Show what is set, without the secret",
		Args:  operands("INTEGRATION"),
		RunE:  func(cmd *cobra.Command, args []string) error { return o.run(cmd, args[0]) },
	}
	o.remote.addFlags(cmd)
	o.slotFlags.addFlags(cmd, &o.remote)
	addOutputFlags(cmd, &o.form)
	completeIntegrations(cmd, &o.remote)
	return cmd
}

func (o *statusOptions) run(cmd *cobra.Command, integration string) error {
	c, err := o.client()
	if err != nil {
		return err
	}
	got, err := c.Status(cmd.Context(), o.slot(cmd, integration))
	if err != nil {
		return err
	}
	if o.form.forPrograms() {
		return o.form.print(o.sh.out, got.Data)
	}
	s := got.Data
	place := describe(s.IntegrationID, s.Environment, s.Name)
	if s.Credential == nil {
		_, err := fmt.Fprintf(o.sh.out, "Nothing is set for %s.\n", place)
		return firstOf(err, printSyncs(o.sh, s.Sync))
	}
	err = printPairs(o.sh.out,
		"credential", place,
		"id", s.Credential.ID,
		"status", s.Credential.Status,
		"version", fmt.Sprint(s.Credential.Version),
		"auth type", s.Credential.AuthType,
		"created", showTime(&s.Credential.CreatedAt)+" by "+showActor(s.Credential.CreatedBy),
		"updated", showTime(&s.Credential.UpdatedAt)+" by "+showActor(s.Credential.UpdatedBy),
		"expires", showTime(s.Credential.ExpiresAt),
	)
	return firstOf(err, printSyncs(o.sh, s.Sync))
}
