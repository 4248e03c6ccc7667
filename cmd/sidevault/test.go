package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/sidevault/sidevault/api/client"
)

type testOptions struct {
	setOptions
	stored bool
}

func newTestCommand(sh *shell) *cobra.Command {
	o := testOptions{setOptions: setOptions{remote: remote{sh: sh}, input: secretInput{sh: sh}}}
	cmd := &cobra.Command{
		Use:   "test INTEGRATION",
		Short: "Check a credential without storing it",
		Long: `Run the checks of a set, the integration's validators among them, and store nothing:
on a value that is read as "sidevault set" reads it or, with --stored, on the
credential that is set in exactly that place.`,
		Example: `  pass salesforce/prod | sidevault test salesforce -e production
  sidevault test salesforce -e production --stored`,
		Args: operands("INTEGRATION"),
		RunE: func(cmd *cobra.Command, args []string) error { return o.run(cmd, args[0]) },
	}
	o.remote.addFlags(cmd)
	o.slotFlags.addFlags(cmd, &o.remote)
	o.addInputFlags(cmd)
	cmd.Flags().BoolVar(&o.stored, "stored", false, "check what is set")
	addOutputFlags(cmd, &o.form)
	completeIntegrations(cmd, &o.remote)
	return cmd
}

func (o *testOptions) run(cmd *cobra.Command, integration string) error {
	in, err := o.subject()
	if err != nil {
		return err
	}
	c, err := o.patient()
	if err != nil {
		return err
	}
	slot := o.slot(cmd, integration)
	end := waiting(o.sh, "The sidecar checks the credential")
	err = c.Test(cmd.Context(), slot, in)
	end()
	if err != nil {
		return err
	}
	if o.form.forPrograms() {
		return o.form.print(o.sh.out, map[string]bool{"valid": true})
	}
	_, err = fmt.Fprintf(o.sh.out, "Passed: %s\n", describe(slot.Integration, slot.Environment, slot.Name))
	return err
}

// subject reads what is to be checked; nothing stands for what is stored.
func (o *testOptions) subject() (client.SetInput, error) {
	if !o.stored {
		return o.read()
	}
	if len(o.fields) > 0 || o.fromFile != "" || o.authType != "" {
		return client.SetInput{}, usagef("--stored and a value are both given").hinted("give one of them")
	}
	return client.SetInput{}, nil
}
