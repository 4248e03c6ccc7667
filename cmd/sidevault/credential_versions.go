package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func newCredentialVersionsCommand(sh *shell) *cobra.Command {
	o := oneCredential{remote: remote{sh: sh}}
	cmd := &cobra.Command{
		Use:   "versions ID",
		Short: "List the versions of a credential that are kept, newest first",
		Args:  operands("ID"),
		RunE:  func(cmd *cobra.Command, args []string) error { return o.versions(cmd, args[0]) },
	}
	o.addFlags(cmd)
	return cmd
}

func (o *oneCredential) versions(cmd *cobra.Command, id string) error {
	c, found, err := o.find(cmd.Context(), id)
	if err != nil {
		return err
	}
	list, err := c.Versions(cmd.Context(), found.IntegrationID, id)
	if err != nil {
		return err
	}
	if o.form.forPrograms() {
		return o.form.print(o.sh.out, list.Data)
	}
	var rows [][]string
	for _, v := range list.Data {
		rows = append(rows, []string{fmt.Sprint(v.Version), yesNo(v.Current), showTime(&v.CreatedAt), showActor(v.CreatedBy)})
	}
	return printTable(o.sh.out, []string{"VERSION", "CURRENT", "CREATED", "BY"}, rows)
}
