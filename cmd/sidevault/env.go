package main

import (
	"github.com/spf13/cobra"

	"github.com/sidevault/sidevault/api/wire"
)

func newEnvCommand(sh *shell) *cobra.Command {
	return group("env", "Show the environments, and share their keys", newEnvListCommand(sh),
		newEnvKeysCommand(sh), newEnvShareCommand(sh), newEnvUnshareCommand(sh), newEnvLockCommand(sh))
}

func newEnvListCommand(sh *shell) *cobra.Command {
	r := remote{sh: sh}
	var form output
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the environments, and who holds their keys",
		Args:  operands(),
		RunE:  func(cmd *cobra.Command, _ []string) error { return listEnvironments(cmd, &r, form) },
	}
	r.addFlags(cmd)
	addOutputFlags(cmd, &form)
	return cmd
}

func listEnvironments(cmd *cobra.Command, r *remote, form output) error {
	c, err := r.client()
	if err != nil {
		return err
	}
	list, err := c.Environments(cmd.Context())
	if err != nil {
		return err
	}
	if form.forPrograms() {
		return form.print(r.sh.out, list.Data)
	}
	headings := []string{"ENVIRONMENT", "PARENT", "PROTECTED", "KEY HELD"}
	admin := false
	for _, e := range list.Data {
		admin = admin || len(e.Recipients) > 0
	}
	if admin {
		headings = append(headings, "RECIPIENTS")
	}
	var rows [][]string
	for _, e := range list.Data {
		rows = append(rows, environmentRows(e, admin)...)
	}
	return printTable(r.sh.out, headings, rows)
}

// environmentRows returns a row of an environment, and one more for each further
// recipient.
func environmentRows(e wire.Environment, admin bool) [][]string {
	parent := ""
	if e.Parent != nil {
		parent = *e.Parent
	}
	rows := [][]string{{e.Name, parent, yesNo(e.Protected), yesNo(e.KeyHeld)}}
	if !admin {
		return rows
	}
	return withRecipients(rows[0], e.Recipients)
}

// withRecipients adds the first recipient to a row, and a row for each further one.
func withRecipients(row, recipients []string) [][]string {
	rows := [][]string{row}
	for i, r := range recipients {
		if i > 0 {
			rows = append(rows, make([]string, len(row)))
		}
		rows[i] = append(rows[i], shortRecipient(r))
	}
	if len(recipients) == 0 {
		rows[0] = append(rows[0], "")
	}
	return rows
}

// shortRecipient shortens what is longer than a line; --json has it whole.
func shortRecipient(r string) string {
	const most = 70
	if len(r) <= most {
		return r
	}
	return r[:most-20] + "..." + r[len(r)-12:]
}
