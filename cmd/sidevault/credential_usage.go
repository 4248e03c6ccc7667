package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/sidevault/sidevault/api/wire"
)

func newCredentialUsageCommand(sh *shell) *cobra.Command {
	o := oneCredential{remote: remote{sh: sh}}
	cmd := &cobra.Command{
		Use:   "usage ID",
		Short: "Show who read a credential in the last 30 days",
		Args:  operands("ID"),
		RunE:  func(cmd *cobra.Command, args []string) error { return o.usage(cmd, args[0]) },
	}
	o.addFlags(cmd)
	return cmd
}

func (o *oneCredential) usage(cmd *cobra.Command, id string) error {
	c, found, err := o.find(cmd.Context(), id)
	if err != nil {
		return err
	}
	usage, err := c.Usage(cmd.Context(), found.IntegrationID, id)
	if err != nil {
		return err
	}
	if o.form.forPrograms() {
		return o.form.print(o.sh.out, usage.Data)
	}
	if len(usage.Data.Consumers) == 0 {
		_, err := fmt.Fprintf(o.sh.out, "Nobody has read it since %s.\n", showTime(&usage.Data.Since))
		return err
	}
	var rows [][]string
	for _, r := range usage.Data.Consumers {
		by := showActor(wire.Actor{ID: r.ID, Name: r.Name, Email: r.Email})
		rows = append(rows, []string{by, r.Kind, fmt.Sprint(r.Reads), showTime(&r.FirstReadAt), showTime(&r.LastReadAt), r.ID})
	}
	return printTable(o.sh.out, []string{"CALLER", "KIND", "READS", "FIRST", "LAST", "ID"}, rows)
}
