package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"filippo.io/age"
	"github.com/spf13/cobra"

	"github.com/sidevault/sidevault/api/client"
	"github.com/sidevault/sidevault/api/wire"
	"github.com/sidevault/sidevault/envs"
	"github.com/sidevault/sidevault/vault"
	"github.com/sidevault/sidevault/vault/seal"
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
		return o.runOffline(cmd, args)
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
	results := []wire.Rotation{}
	for _, name := range args {
		r, err := o.follow(ctx, c, name)
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

func (o *rotateEnvironmentOptions) runOffline(cmd *cobra.Command, args []string) (err error) {
	restrictFiles()
	cfg, err := loadSettings(cmd.Flags(), o.sh)
	if err != nil {
		return err
	}
	ctx := cmd.Context()
	opened, err := openOffline(ctx, o.sh, cfg)
	if err != nil {
		return err
	}
	defer func() { err = firstOf(err, opened.close(context.WithoutCancel(ctx))) }()
	scopes, err := scopesNamed(opened.vault, args)
	if err != nil {
		return err
	}
	if o.all {
		holders, err := opened.vault.Holders(ctx)
		if err != nil {
			return err
		}
		for _, h := range holders[:len(holders)-1] { // the last is the control key
			scope := envs.Scope(h.Name)
			if h.Name == sharedName {
				scope = envs.Shared
			}
			scopes = append(scopes, scope)
		}
	}
	for _, scope := range scopes {
		bar := newBar(o.sh, "Rotating "+scope.String())
		err := opened.vault.Rotate(ctx, scope, func(r vault.Rotation) { bar.set(r.Done, r.Total) })
		bar.end()
		if err != nil {
			return err
		}
		fmt.Fprintf(o.sh.out, "Rotated %s: the old key is destroyed.\n", scope)
	}
	return nil
}

type rotateRootOptions struct {
	sh          *shell
	from, to    []string
	newIdentity string
}

func newRotateRootCommand(sh *shell) *cobra.Command {
	o := &rotateRootOptions{sh: sh}
	cmd := &cobra.Command{
		Use:   "root --to RECIPIENT | --new-identity FILE",
		Short: "Put another root identity in the place of this host's",
		Long: `Encrypt the few key files that this host's identity opens anew, for another one.
The old identity opens nothing from then on; records stay as they are, and so does
the vault's trust anchor. With --new-identity the identity is in FILE, which is made
when there is none.` + shareHelp,
		Example: "  sidevault rotate root --new-identity /etc/sidevault/identity-2.txt --data-dir /var/lib/sidevault",
		Args:    operands(),
		RunE:    func(cmd *cobra.Command, _ []string) error { return o.run(cmd) },
	}
	addSettings(cmd.Flags(), "data-dir", "backend", identityKey, environmentsKey)
	flags := cmd.Flags()
	flags.StringArrayVar(&o.to, "to", nil, "`recipient` to put in its place; repeat it for more")
	flags.StringArrayVar(&o.from, "from", nil, "`recipient` to replace; default those of this host's identities")
	flags.StringVar(&o.newIdentity, "new-identity", "", "`file` with the identity to put in its place")
	return cmd
}

func (o *rotateRootOptions) run(cmd *cobra.Command) (err error) {
	if (len(o.to) == 0) == (o.newIdentity == "") {
		return usagef("give either --to or --new-identity").hinted("%s", cmd.UseLine())
	}
	for flag, list := range map[string][]string{"--to": o.to, "--from": o.from} {
		for _, r := range list {
			if _, err := seal.ParseRecipient(r); err != nil {
				return usagef("%s: %s", flag, err).hinted("nothing was changed")
			}
		}
	}
	restrictFiles()
	cfg, err := loadSettings(cmd.Flags(), o.sh)
	if err != nil {
		return err
	}
	ctx := cmd.Context()
	opened, err := openOffline(ctx, o.sh, cfg)
	if err != nil {
		return err
	}
	defer func() { err = firstOf(err, opened.close(context.WithoutCancel(ctx))) }()
	if len(o.from) == 0 {
		if o.from, err = ownRecipients(cfg); err != nil {
			return err
		}
	}
	to, err := o.recipients(cfg)
	if err != nil {
		return err
	}
	if err := opened.vault.ReplaceRoot(ctx, o.from, to); err != nil {
		return err
	}
	next := "serve with the identity of " + strings.Join(to, ", ")
	if o.newIdentity != "" {
		next = "sidevault serve --data-dir " + quoted(cfg.DataDir) + " --identity " + quoted(o.newIdentity)
	}
	_, err = fmt.Fprintf(o.sh.out, `The keys are for the new identity alone; the old one opens none of them.
Back up the new one, apart from the vault. Backups from before still open with the
old one: keep it with them, or destroy both.

Next: %s
`, next)
	return err
}

// recipients returns who is put in the place of the old ones. An identity that is made
// is on the disk before the keys depend on it.
func (o *rotateRootOptions) recipients(cfg settings) ([]string, error) {
	if o.newIdentity == "" {
		return o.to, nil
	}
	p := passphrases{sh: o.sh, fd: cfg.PassphraseFD}
	ids, err := readNew(o.newIdentity, p.prompts(o.newIdentity), o.from)
	if err != nil {
		return nil, err
	}
	var to []string
	for _, id := range ids {
		r, err := seal.RecipientOf(id)
		if err != nil {
			return nil, usagef("%s", err)
		}
		to = append(to, r)
	}
	return to, nil
}

// readNew reads an identity file, or makes one of the kind that the old one has.
func readNew(path string, ask seal.Prompts, old []string) ([]age.Identity, error) {
	if exists(path) {
		return readIdentity(path, ask)
	}
	hybrid := len(old) > 0 && strings.HasPrefix(old[0], "age1pq1")
	ids, err := writeIdentity(path, hybrid)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, failf(exitError, "make the identity file").because(err).hinted("name a file in a directory that exists")
	}
	return ids, err
}
