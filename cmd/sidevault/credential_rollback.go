package main

import (
	"strconv"

	"github.com/spf13/cobra"
)

func newCredentialRollbackCommand(sh *shell) *cobra.Command {
	o := oneCredential{remote: remote{sh: sh}}
	cmd := &cobra.Command{
		Use:   "rollback ID VERSION",
		Short: "Make the value of an older version the next version",
		Long: `Make the value of an older version that is still kept the next version. When the
credential changes meanwhile, nothing is done.`,
		Args: operands("ID", "VERSION"),
		RunE: func(cmd *cobra.Command, args []string) error { return o.rollback(cmd, args[0], args[1]) },
	}
	o.addFlags(cmd)
	return cmd
}

func (o *oneCredential) rollback(cmd *cobra.Command, id, version string) error {
	n, err := strconv.ParseUint(version, 10, 53)
	if err != nil || n == 0 {
		return usagef("VERSION is a whole number from 1").hinted(`"sidevault credential versions" shows those that are kept`)
	}
	c, found, err := o.find(cmd.Context(), id)
	if err != nil {
		return err
	}
	rolled, err := c.Rollback(cmd.Context(), found.IntegrationID, id, n, found.ETag)
	if err != nil {
		return err
	}
	return o.tell("Rolled back", rolled.Credential)
}
