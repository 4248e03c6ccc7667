package main

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/sidevault/sidevault/api/wire"
)

type credentialUpdateOptions struct {
	oneCredential
	name     string
	status   string
	expires  string
	labels   map[string]string
	noLabels bool
}

// never is the expiry of a credential that has none.
const never = "never"

func newCredentialUpdateCommand(sh *shell) *cobra.Command {
	o := credentialUpdateOptions{oneCredential: oneCredential{remote: remote{sh: sh}}}
	cmd := &cobra.Command{
		Use:   "update ID",
		Short: "Change a credential's name, status, expiry or labels",
		Long: `Change what is known of a credential besides its secret. With --status inactive it
is refused to everyone who asks for it until it is active again: a way to see what
deleting it would do. When it changes meanwhile, nothing is done.`,
		Example: `  sidevault credential update cred-019dd9a1-7c00-7b4e-9d0f-446655440001 --status inactive`,
		Args:    operands("ID"),
		RunE:    func(cmd *cobra.Command, args []string) error { return o.run(cmd, args[0]) },
	}
	flags := cmd.Flags()
	o.addFlags(cmd)
	flags.StringVar(&o.name, "name", "", "another `name`, which must be free in its environment")
	flags.StringVar(&o.status, "status", "", "`status`: active or inactive")
	flags.StringVar(&o.expires, "expires", "", "`when` it expires: a duration from now, as in 720h, an RFC 3339 time, or never")
	flags.StringToStringVar(&o.labels, "label", nil, "a label, as `KEY=VALUE`, repeat it for more; those not given go")
	flags.BoolVar(&o.noLabels, "no-labels", false, "remove all labels")
	return cmd
}

func (o *credentialUpdateOptions) run(cmd *cobra.Command, id string) error {
	change, err := o.change(cmd)
	if err != nil {
		return err
	}
	c, found, err := o.find(cmd.Context(), id)
	if err != nil {
		return err
	}
	updated, err := c.Update(cmd.Context(), found.IntegrationID, id, change, found.ETag)
	if err != nil {
		return err
	}
	return o.tell("Updated", updated.Credential)
}

func (o *credentialUpdateOptions) change(cmd *cobra.Command) (r wire.UpdateRequest, err error) {
	flags := cmd.Flags()
	if flags.Changed("name") {
		r.Name = &o.name
	}
	if flags.Changed("status") {
		r.Status = &o.status
	}
	if r.Labels = o.labels; o.noLabels {
		if len(o.labels) > 0 {
			return r, usagef("--label and --no-labels are both given")
		}
		r.Labels = map[string]string{}
	}
	if o.expires != "" {
		var at time.Time
		if o.expires != never {
			at, err = parseExpiry(o.expires)
		}
		r.ExpiresAt = wire.OptionalTime{Given: true, At: wire.Optional(at)}
	}
	return r, err
}
