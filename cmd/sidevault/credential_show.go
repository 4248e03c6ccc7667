package main

import "github.com/spf13/cobra"

func newCredentialShowCommand(sh *shell) *cobra.Command {
	o := oneCredential{remote: remote{sh: sh}}
	cmd := &cobra.Command{
		Use:   "show ID",
		Short: "Show a credential, without the secret",
		Args:  operands("ID"),
		RunE:  func(cmd *cobra.Command, args []string) error { return o.show(cmd, args[0]) },
	}
	o.addFlags(cmd)
	return cmd
}

func (o *oneCredential) show(cmd *cobra.Command, id string) error {
	_, found, err := o.find(cmd.Context(), id)
	if err != nil {
		return err
	}
	if o.form.forPrograms() {
		return o.form.print(o.sh.out, found.Credential)
	}
	return printCredential(o.sh, found.Credential)
}
