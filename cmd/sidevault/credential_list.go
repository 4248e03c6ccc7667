package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/sidevault/sidevault/api/client"
	"github.com/sidevault/sidevault/api/wire"
)

type credentialListOptions struct {
	remote
	slotFlags
	filter client.CredentialFilter
	form   output
}

func newCredentialListCommand(sh *shell) *cobra.Command {
	o := credentialListOptions{remote: remote{sh: sh}}
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List credentials with their IDs, without deleted ones",
		Args:  operands(),
		RunE:  func(cmd *cobra.Command, _ []string) error { return o.run(cmd) },
	}
	flags := cmd.Flags()
	o.remote.addFlags(cmd)
	flags.StringVarP(&o.environment, environmentFlag, "e", "", "only those of this `environment` itself")
	flags.StringVar(&o.filter.Integration, "integration", "", "only those of this `integration`")
	flags.StringVar(&o.filter.Name, "name", "", "only those with this `name`")
	flags.StringVar(&o.filter.Status, "status", "", "only those with this `status`: active, inactive or expired")
	addOutputFlags(cmd, &o.form)
	completeEnvironments(cmd, &o.remote)
	return cmd
}

// maxPage is what a sidecar returns at most.
const maxPage = 500

func (o *credentialListOptions) run(cmd *cobra.Command) error {
	c, err := o.client()
	if err != nil {
		return err
	}
	o.filter.Environment, o.filter.PageSize = o.scope(cmd), maxPage
	list := []wire.Credential{}
	for cred, err := range c.List(cmd.Context(), o.filter) {
		if err != nil {
			return err
		}
		list = append(list, cred)
	}
	if o.form.forPrograms() {
		return o.form.print(o.sh.out, list)
	}
	var rows [][]string
	for _, cred := range list {
		rows = append(rows, []string{
			cred.ID, cred.IntegrationID, showScope(cred.Environment), cred.Name, cred.Status,
			fmt.Sprint(cred.Version), showTime(&cred.UpdatedAt), showTime(cred.ExpiresAt),
		})
	}
	return printTable(o.sh.out, []string{"ID", "INTEGRATION", "ENVIRONMENT", "NAME", "STATUS", "VERSION", "UPDATED", "EXPIRES"}, rows)
}
