package main

import "github.com/spf13/cobra"

func newCredentialCreateCommand(sh *shell) *cobra.Command {
	o := setOptions{remote: remote{sh: sh}, input: secretInput{sh: sh}}
	cmd := &cobra.Command{
		Use:   "create INTEGRATION",
		Short: "Create a credential where none is set",
		Long: `Create a credential in a place that must be free. The value is read as "sidevault
set" reads it, which rotates the credential that it finds there.`,
		Example: `  pass servicenow | sidevault credential create servicenow -e production --name "ServiceNow Production"`,
		Args:    operands("INTEGRATION"),
		RunE:    func(cmd *cobra.Command, args []string) error { return o.create(cmd, args[0]) },
	}
	o.addFlags(cmd)
	return cmd
}

func (o *setOptions) create(cmd *cobra.Command, integration string) error {
	c, err := o.patient()
	if err != nil {
		return err
	}
	in, err := o.read()
	if err != nil {
		return err
	}
	end := waiting(o.sh, "The sidecar checks and stores the credential")
	made, err := c.Create(cmd.Context(), o.slot(cmd, integration), in)
	end()
	if err != nil && made.ID == "" {
		return err
	}
	one := oneCredential{remote: o.remote, form: o.form}
	return firstOf(err, one.tell("Created", made.Credential))
}
