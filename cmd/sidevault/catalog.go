package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sidevault/sidevault/api/client"
	"github.com/sidevault/sidevault/api/wire"
)

func newCatalogCommand(sh *shell) *cobra.Command {
	return group("catalog", "Show the integrations that there are", newCatalogListCommand(sh), newCatalogShowCommand(sh))
}

func newCatalogListCommand(sh *shell) *cobra.Command {
	r := remote{sh: sh}
	var category string
	var form output
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the catalog",
		Args:  operands(),
		RunE:  func(cmd *cobra.Command, _ []string) error { return listCatalog(cmd, &r, category, form) },
	}
	r.addFlags(cmd)
	cmd.Flags().StringVar(&category, "category", "", "only those of this `category`")
	addOutputFlags(cmd, &form)
	return cmd
}

func listCatalog(cmd *cobra.Command, r *remote, category string, form output) error {
	c, err := r.client()
	if err != nil {
		return err
	}
	list, err := c.Integrations(cmd.Context(), client.IntegrationFilter{Category: category})
	if err != nil {
		return err
	}
	if form.forPrograms() {
		return form.print(r.sh.out, list.Data)
	}
	var rows [][]string
	for _, i := range list.Data {
		rows = append(rows, []string{i.ID, i.Name, i.Category, yesNo(i.Enabled), strings.Join(i.AuthTypes, ", ")})
	}
	return printTable(r.sh.out, []string{"INTEGRATION", "NAME", "CATEGORY", "ENABLED", "AUTH TYPES"}, rows)
}

func newCatalogShowCommand(sh *shell) *cobra.Command {
	r := remote{sh: sh}
	var form output
	cmd := &cobra.Command{
		Use:   "show INTEGRATION",
		Short: "Show an integration with its fields",
		Args:  operands("INTEGRATION"),
		RunE:  func(cmd *cobra.Command, args []string) error { return showCatalog(cmd, &r, args[0], form) },
	}
	r.addFlags(cmd)
	addOutputFlags(cmd, &form)
	completeIntegrations(cmd, &r)
	return cmd
}

func showCatalog(cmd *cobra.Command, r *remote, key string, form output) error {
	c, err := r.client()
	if err != nil {
		return err
	}
	got, err := c.Integration(cmd.Context(), key)
	if err != nil {
		return err
	}
	if form.forPrograms() {
		return form.print(r.sh.out, got.Data)
	}
	return printIntegration(r.sh, got.Data)
}

func printIntegration(sh *shell, i wire.Integration) error {
	err := printPairs(sh.out,
		"integration", i.ID,
		"name", i.Name,
		"category", i.Category,
		"description", i.Description,
		"docs", i.Docs,
		"rotation", i.Rotation,
		"enabled", yesNo(i.Enabled),
		"auth types", strings.Join(i.AuthTypes, ", "),
		"environments", strings.Join(i.Environments, ", "),
		"credential of", i.CredentialOf,
		"set in", showScopes(i.ConfiguredIn),
	)
	if err != nil || len(i.Fields) == 0 {
		return err
	}
	var rows [][]string
	for _, f := range i.Fields {
		rows = append(rows, []string{f.Name, yesNo(f.Required), yesNo(f.Secret), f.Description})
	}
	fmt.Fprintln(sh.out)
	return printTable(sh.out, []string{"FIELD", "REQUIRED", "SECRET", "DESCRIPTION"}, rows)
}
