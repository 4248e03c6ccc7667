package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sidevault/sidevault/api/client"
	"github.com/sidevault/sidevault/api/wire"
	"github.com/sidevault/sidevault/envs"
	"github.com/sidevault/sidevault/vault"
)

func newRotateCommand(sh *shell) *cobra.Command {
	return group("rotate", "Rotate root identities and the keys of environments", newRotateRootCommand(sh), newRotateEnvironmentCommand(sh))
}

type rotateEnvironmentOptions struct {
	remote
	all     bool
	offline bool
	form    output
}

func newRotateEnvironmentCommand(sh *shell) *cobra.Command {
	o := rotateEnvironmentOptions{remote: remote{sh: sh}}
	cmd := &cobra.Command{
		Use:   "environment ENVIRONMENT...",
		Short: "Give environments new keys",
		Long: `Give environments new keys, and seal every record of them anew. The sidecar does it,
while it goes on to serve; the old key is destroyed at the end. A sidecar that was
killed goes on with it when it starts. What all environments share is called @shared.

With --offline this command does it itself, on the storage of a sidecar that is
stopped; interrupted, it is repeated.`,
		Example: "  sidevault rotate environment production\n  sidevault rotate environment --all",
		Args: func(cmd *cobra.Command, args []string) error {
			return (&shareOptions{all: o.all}).environments(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error { return o.run(cmd, args) },
	}
	o.addFlags(cmd)
	addSettings(cmd.Flags(), "data-dir", "backend", identityKey, environmentsKey)
	cmd.Flags().BoolVar(&o.all, "all", false, "every environment, and what they share")
	cmd.Flags().BoolVar(&o.offline, "offline", false, "work on the storage itself, with the identity of this host")
	addOutputFlags(cmd, &o.form)
	return cmd
}

func (o *rotateEnvironmentOptions) run(cmd *cobra.Command, args []string) error {
	if o.offline {
		return onStorage(cmd, o.sh, func(ctx context.Context, v *vault.Vault, _ settings) error { return o.runOffline(ctx, v, args) })
	}
	c, err := o.client()
	if err != nil {
		return err
	}
	ctx, stop := interruptible(cmd.Context())
	defer stop()
	if o.all {
		list, err := c.Environments(ctx)
		if err != nil {
			return err
		}
		for _, e := range list.Data {
			args = append(args, e.Name)
		}
		args = append(args, sharedName)
	}
	return o.each(args, func(name string) (wire.Rotation, error) { return o.follow(ctx, c, name) })
}

// each rotates one environment after the other, and tells what became of them.
func (o *rotateEnvironmentOptions) each(names []string, rotate func(name string) (wire.Rotation, error)) error {
	results := []wire.Rotation{}
	for i, name := range names {
		if slices.Contains(names[:i], name) {
			continue
		}
		r, err := rotate(name)
		if err != nil {
			return err
		}
		results = append(results, r)
		if !o.form.forPrograms() {
			fmt.Fprintf(o.sh.out, "Rotated %s: key %d is in force, and the old one is destroyed.\n", name, r.Key)
		}
	}
	if o.form.forPrograms() {
		return o.form.print(o.sh.out, results)
	}
	return nil
}

const rotationPoll = 200 * time.Millisecond

// follow starts a rotation, and shows how far it is until it ends. An interruption
// ends the showing alone.
func (o *rotateEnvironmentOptions) follow(ctx context.Context, c *client.Client, name string) (wire.Rotation, error) {
	var environment *string
	if name != sharedName {
		environment = &name
	}
	got, err := c.StartRotation(ctx, environment)
	bar := newBar(o.sh, "Rotating "+name)
	defer bar.end()
	for err == nil && got.Data.Running && len(got.Data.Damaged) == 0 {
		bar.set(got.Data.Done, got.Data.Total)
		select {
		case <-ctx.Done():
		case <-time.After(rotationPoll):
		}
		got, err = c.Rotation(ctx, environment)
	}
	if ctx.Err() != nil {
		return wire.Rotation{}, failf(exitError, "interrupted; the rotation of %s goes on in the sidecar once it has begun", name)
	}
	if err == nil && got.Data.Running {
		return wire.Rotation{}, stuck(name, strings.Join(got.Data.Damaged, ", "))
	}
	return got.Data, err
}

func stuck(name, records string) error {
	return failf(exitError, "the rotation of %s cannot end, and its old key is kept: no key opens %s", name, records).
		hinted("restore the vault from a backup, or delete and purge those credentials; then repeat the command")
}

func (o *rotateEnvironmentOptions) runOffline(ctx context.Context, v *vault.Vault, args []string) error {
	if o.all {
		holders, err := v.Holders(ctx)
		if err != nil {
			return err
		}
		for _, h := range holders[:len(holders)-1] { // the last is the control key
			args = append(args, h.Name)
		}
	}
	if _, err := scopesNamed(v, args); err != nil {
		return err
	}
	return o.each(args, func(name string) (wire.Rotation, error) { return o.rotate(ctx, v, name) })
}

// rotate does what follow has the sidecar do. The name is that of an environment.
func (o *rotateEnvironmentOptions) rotate(ctx context.Context, v *vault.Vault, name string) (wire.Rotation, error) {
	scope := envs.Scope(name)
	if name == sharedName {
		scope = envs.Shared
	}
	bar := newBar(o.sh, "Rotating "+name)
	defer bar.end()
	r, err := v.Rotate(ctx, scope, func(r vault.Rotation) { bar.set(r.Done, r.Total) })
	return wire.Rotation{Environment: scope.Ptr(), Key: r.Key, Recipient: r.Recipient}, err
}
