package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sidevault/sidevault/api/wire"
)

func newPluginCommand(sh *shell) *cobra.Command {
	return group("plugin", "Write, check and list plugins",
		newPluginNewCommand(sh), newPluginCheckCommand(sh), newPluginListCommand(sh))
}

func newPluginListCommand(sh *shell) *cobra.Command {
	r := remote{sh: sh}
	var form output
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the configured plugins with their state",
		Long: `List the programs that the sidecar's configuration names, as it sees them: their
state, what they say of themselves, and how their calls went since it started. A
plugin that is quarantined or unusable says why.`,
		Args: operands(),
		RunE: func(cmd *cobra.Command, _ []string) error { return listPlugins(cmd, &r, form) },
	}
	r.addFlags(cmd)
	addOutputFlags(cmd, &form)
	return cmd
}

func listPlugins(cmd *cobra.Command, r *remote, form output) error {
	c, err := r.client()
	if err != nil {
		return err
	}
	list, err := c.Plugins(cmd.Context())
	if err != nil {
		return err
	}
	if form.forPrograms() {
		return form.print(r.sh.out, list.Data)
	}
	if len(list.Data) == 0 {
		_, err := fmt.Fprintln(r.sh.out, "No plugins are configured.")
		return err
	}
	var rows [][]string
	for _, p := range list.Data {
		rows = append(rows, pluginRow(p))
	}
	return printTable(r.sh.out, []string{
		"PLUGIN", "STATUS", "SERVICES", "VERSION", "CHECKSUM", "PROCESSES", "CALLS", "FAILURES", "RESTARTS", "REASON",
	}, rows)
}

// shownSum is how much of a checksum people are shown.
const shownSum = 12

func pluginRow(p wire.Plugin) []string {
	reason := p.Reason
	if p.NextStart != nil {
		reason = strings.TrimSpace(reason + " (next start " + showTime(p.NextStart) + ")")
	}
	return []string{
		p.Name, p.Status, orDash(strings.Join(p.Services, ", ")), orDash(p.Version), orDash(p.SHA256[:min(shownSum, len(p.SHA256))]),
		fmt.Sprint(p.Processes), fmt.Sprint(p.Calls), fmt.Sprint(p.Failures), fmt.Sprint(p.Restarts), reason,
	}
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
