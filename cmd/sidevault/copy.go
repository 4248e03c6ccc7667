package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/sidevault/sidevault/api/client"
)

type copyOptions struct {
	remote
	consent
	from, to         string
	fromName, toName string
	replace          bool
	dryRun           bool
	form             output
}

func newCopyCommand(sh *shell) *cobra.Command {
	o := copyOptions{remote: remote{sh: sh}}
	cmd := &cobra.Command{
		Use:   "copy INTEGRATION... --from ENVIRONMENT --to ENVIRONMENT",
		Short: "Set the credentials of one environment in another",
		Long: `Set credentials, with their auth type, labels and expiry, in another environment, or
under another name. The value is read and set by this command, and shown nowhere; the
read and the set are in the audit log, and validators are asked. Only what the
environment has itself is copied, not what it falls back to. What all environments share
is called @shared.

Where a credential is set already, --replace gives it a new version.`,
		Example: `  sidevault copy salesforce sftp --from staging --to production --dry-run
  sidevault copy servicenow --from production --to production --name default --to-name emea --yes`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 || o.from == "" || o.to == "" {
				return usagef("INTEGRATION, --from and --to are required").hinted("%s", cmd.UseLine())
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return o.run(cmd, args) },
	}
	flags := cmd.Flags()
	o.remote.addFlags(cmd)
	flags.StringVar(&o.from, "from", "", "`environment` to copy from; required")
	flags.StringVar(&o.to, "to", "", "`environment` to copy to; required")
	flags.StringVar(&o.fromName, "name", "", "`name` of the credential, default \"default\"")
	flags.StringVar(&o.toName, "to-name", "", "`name` that the copy gets; default: the same")
	flags.BoolVar(&o.replace, "replace", false, "rotate a credential that is there already")
	flags.BoolVar(&o.dryRun, "dry-run", false, "show what would change, and change nothing")
	o.consent.addFlags(cmd)
	addOutputFlags(cmd, &o.form)
	return cmd
}

// namedScope returns the scope that a command names: nil for @shared.
func namedScope(name string) *string {
	if name == sharedName {
		return nil
	}
	return &name
}

func (o *copyOptions) run(cmd *cobra.Command, integrations []string) error {
	// Secrets pass through here.
	if err := undumpable(); err != nil {
		return err
	}
	ctx := cmd.Context()
	if o.toName == "" {
		o.toName = o.fromName
	}
	if o.from == o.to && o.fromName == o.toName {
		return usagef("--from and --to are the same place").hinted("name another environment with --to, or another name with --to-name")
	}
	c, err := o.patient()
	if err != nil {
		return err
	}
	cs := &changes{sh: o.sh, c: c, what: "Copying", again: "sidevault copy"}
	for _, integration := range integrations {
		change, err := o.read(ctx, c, integration)
		if err != nil {
			return err
		}
		cs.list = append(cs.list, change)
	}
	if err := cs.prepare(ctx); err != nil {
		return err
	}
	for _, c := range cs.list {
		if o.dryRun && o.refuses(c) {
			c.Why += "; it takes --replace"
		}
	}
	if !o.dryRun {
		if err := o.agreed(ctx, cs); err != nil {
			return err
		}
		err = cs.make(ctx)
	}
	return firstOf(err, cs.tell(o.form, o.dryRun))
}

// read reads what is to be copied.
func (o *copyOptions) read(ctx context.Context, c *client.Client, integration string) (*change, error) {
	slot, alone := client.Slot{Integration: integration, Environment: namedScope(o.from), Name: o.fromName}, client.ResolveOptions{NoFallback: true}
	there, err := c.Details(ctx, slot, alone)
	if err != nil {
		return nil, err
	}
	got, err := c.Resolve(ctx, slot, alone)
	if err != nil {
		return nil, err
	}
	in := client.SetInput{Value: got.Data.Value, Fields: got.Data.Fields, AuthType: there.AuthType, Labels: there.Labels}
	if there.ExpiresAt != nil {
		in.ExpiresAt = time.Time(*there.ExpiresAt)
	}
	return &change{
		Source: describe(integration, slot.Environment, o.fromName), IntegrationID: integration,
		Environment: namedScope(o.to), Name: o.toName, in: in,
	}, nil
}

// refuses reports whether a change is one that nobody said to make.
func (o *copyOptions) refuses(c *change) bool { return c.Change == changeRotate && !o.replace }

// agreed refuses to replace what nobody said to, and asks about protected environments.
func (o *copyOptions) agreed(ctx context.Context, cs *changes) error {
	for _, c := range cs.list {
		if o.refuses(c) {
			return failf(exitConflict, "%s is set already, and %s; nothing was changed", describe(c.IntegrationID, c.Environment, c.Name), c.Why).
				hinted("--replace gives it a new version")
		}
	}
	// What is protected is also not to be read into what is not.
	return cs.confirm(ctx, &o.consent, namedScope(o.from))
}
