package main

import "github.com/spf13/cobra"

func newEnvCommand(sh *shell) *cobra.Command {
	return group("env", "Show the environments", newEnvListCommand(sh))
}

func newEnvListCommand(sh *shell) *cobra.Command {
	r := remote{sh: sh}
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the environments",
		Args:  operands(),
		RunE:  func(cmd *cobra.Command, _ []string) error { return listEnvironments(cmd, &r, asJSON) },
	}
	r.addFlags(cmd)
	addJSONFlag(cmd, &asJSON)
	return cmd
}

func listEnvironments(cmd *cobra.Command, r *remote, asJSON bool) error {
	c, err := r.client()
	if err != nil {
		return err
	}
	list, err := c.Environments(cmd.Context())
	if err != nil {
		return err
	}
	if asJSON {
		return printJSON(r.sh.out, list.Data)
	}
	var rows [][]string
	for _, e := range list.Data {
		parent := ""
		if e.Parent != nil {
			parent = *e.Parent
		}
		rows = append(rows, []string{e.Name, parent, yesNo(e.Protected), yesNo(e.KeyHeld)})
	}
	return printTable(r.sh.out, []string{"ENVIRONMENT", "PARENT", "PROTECTED", "KEY HELD"}, rows)
}
