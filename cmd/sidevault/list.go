package main

import (
	"github.com/spf13/cobra"

	"github.com/sidevault/sidevault/api/client"
)

type listOptions struct {
	remote
	slotFlags
	category   string
	configured bool
	form       output
}

func newListCommand(sh *shell) *cobra.Command {
	o := listOptions{remote: remote{sh: sh}}
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the integrations, and where a credential is set",
		Args:  operands(),
		RunE:  func(cmd *cobra.Command, _ []string) error { return o.run(cmd) },
	}
	o.remote.addFlags(cmd)
	cmd.Flags().StringVarP(&o.environment, environmentFlag, "e", "", "status in this `environment`")
	cmd.Flags().StringVar(&o.category, "category", "", "only those of this `category`")
	cmd.Flags().BoolVar(&o.configured, "configured", false, "only those with a credential; =false: only those without")
	addOutputFlags(cmd, &o.form)
	completeEnvironments(cmd, &o.remote)
	return cmd
}

func (o *listOptions) run(cmd *cobra.Command) error {
	c, err := o.client()
	if err != nil {
		return err
	}
	f := client.IntegrationFilter{Category: o.category, Environment: o.scope(cmd)}
	if cmd.Flags().Changed("configured") {
		f.Configured = &o.configured
	}
	list, err := c.Integrations(cmd.Context(), f)
	if err != nil {
		return err
	}
	if o.form.forPrograms() {
		return o.form.print(o.sh.out, list.Data)
	}
	var rows [][]string
	for _, i := range list.Data {
		rows = append(rows, []string{i.ID, i.Name, i.Category, yesNo(i.IsConfigured), showScopes(i.ConfiguredIn)})
	}
	return printTable(o.sh.out, []string{"INTEGRATION", "NAME", "CATEGORY", "SET", "WHERE"}, rows)
}
