package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"filippo.io/age"
	"github.com/spf13/cobra"

	"github.com/sidevault/sidevault/envs"
	"github.com/sidevault/sidevault/vault"
	"github.com/sidevault/sidevault/vault/seal"
)

// sharedName is what all environments share, where a command names environments.
const sharedName = "@shared"

// shareOptions are of the commands that decide who can open keys. They take a root
// identity and the storage, so they work on it directly.
type shareOptions struct {
	sh         *shell
	recipients []string
	all        bool
	form       output
}

func (o *shareOptions) addFlags(cmd *cobra.Command) {
	addOutputFlags(cmd, &o.form)
	addSettings(cmd.Flags(), "data-dir", "backend", identityKey, environmentsKey)
}

func (o *shareOptions) addRecipients(cmd *cobra.Command) {
	cmd.Flags().StringArrayVar(&o.recipients, "recipient", nil, "`recipient`: age1..., ssh-ed25519 ..., ssh-rsa ...; repeat it for more")
	cmd.Flags().BoolVar(&o.all, "all", false, "every environment, those to come, what they share, and the control key")
}

const shareHelp = `

It works on the storage itself, with the identity of this host: a vault in a file
cannot be served meanwhile; on shared storage, sidecars take it over at once. What
all environments share is called @shared.`

func newEnvShareCommand(sh *shell) *cobra.Command {
	o := &shareOptions{sh: sh}
	cmd := &cobra.Command{
		Use:   "share ENVIRONMENT... --recipient RECIPIENT",
		Short: "Let a recipient open the keys of environments",
		Long: `Let a recipient, such as another host, open the keys of environments, and the
control key, without which it opens no vault. Without --recipient, those that the
configuration names for the environment.` + shareHelp,
		Example: "  sidevault env share staging @shared --recipient age1... --data-dir /var/lib/sidevault",
		Args:    o.environments,
		RunE:    func(cmd *cobra.Command, args []string) error { return o.share(cmd, args) },
	}
	o.addFlags(cmd)
	o.addRecipients(cmd)
	return cmd
}

func newEnvUnshareCommand(sh *shell) *cobra.Command {
	o := &shareOptions{sh: sh}
	cmd := &cobra.Command{
		Use:   "unshare ENVIRONMENT... --recipient RECIPIENT",
		Short: "Take the keys of environments from a recipient",
		Long: `Take the keys of environments from a recipient. It may have kept them: rotate the
environments afterwards, and what is set from then on is out of its reach.` + shareHelp,
		Example: "  sidevault env unshare production --recipient age1... --data-dir /var/lib/sidevault",
		Args:    o.environments,
		RunE:    func(cmd *cobra.Command, args []string) error { return o.unshare(cmd, args) },
	}
	o.addFlags(cmd)
	o.addRecipients(cmd)
	return cmd
}

func newEnvLockCommand(sh *shell) *cobra.Command {
	o := &shareOptions{sh: sh}
	cmd := &cobra.Command{
		Use:   "lock ENVIRONMENT...",
		Short: "Give up the keys of environments on this host",
		Long: `Take the keys of environments from this host's own identities. Only another
recipient can give them back, so there must be one.` + shareHelp,
		Example: "  sidevault env lock production --data-dir /var/lib/sidevault",
		Args:    o.environments,
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.change(cmd, args, func(ctx context.Context, v *vault.Vault, cfg settings, scopes []envs.Scope) error {
				own, err := ownRecipients(cfg)
				if err != nil {
					return err
				}
				o.recipients = own
				return v.Unshare(ctx, scopes, own)
			}, "This host has known the key: what was set before stays readable to whoever copied it from here.\n")
		},
	}
	o.addFlags(cmd)
	return cmd
}

func (o *shareOptions) environments(cmd *cobra.Command, args []string) error {
	if (len(args) == 0) == o.all {
		return nil
	}
	if o.all {
		return usagef("--all and environments are both given").hinted("give one of them")
	}
	return usagef("ENVIRONMENT is missing").hinted("%s", cmd.UseLine())
}

func (o *shareOptions) share(cmd *cobra.Command, args []string) error {
	return o.change(cmd, args, func(ctx context.Context, v *vault.Vault, cfg settings, scopes []envs.Scope) error {
		if len(o.recipients) > 0 {
			return v.Share(ctx, scopes, o.recipients)
		}
		for _, s := range scopes {
			e, _ := cfg.Environments.Lookup(string(s))
			if len(e.Recipients) == 0 {
				return usagef("--recipient is missing, and the configuration names none for %s", s).hinted("%s", cmd.UseLine())
			}
			if err := v.Share(ctx, []envs.Scope{s}, e.Recipients); err != nil {
				return err
			}
		}
		return nil
	}, "")
}

func (o *shareOptions) unshare(cmd *cobra.Command, args []string) error {
	if len(o.recipients) == 0 {
		return usagef("--recipient is missing").hinted("%s", cmd.UseLine())
	}
	rotate := "sidevault rotate environment " + strings.Join(args, " ")
	if o.all {
		rotate = "sidevault rotate environment --all"
	}
	return o.change(cmd, args, func(ctx context.Context, v *vault.Vault, _ settings, scopes []envs.Scope) error {
		return v.Unshare(ctx, scopes, o.recipients)
	}, "The recipient has known the old keys, and may have kept them. Rotate them, and then\nthe credentials themselves where they are issued: "+rotate+"\n")
}

// change opens the vault, makes a change of who can open keys, and says who can then.
func (o *shareOptions) change(cmd *cobra.Command, args []string, do func(context.Context, *vault.Vault, settings, []envs.Scope) error, warning string) error {
	for _, r := range o.recipients {
		if _, err := seal.ParseRecipient(r); err != nil {
			return usagef("--recipient: %s", err).hinted("age-keygen -y IDENTITY prints the recipient of an identity file; nothing was changed")
		}
	}
	return onStorage(cmd, o.sh, func(ctx context.Context, v *vault.Vault, cfg settings) error {
		scopes, err := scopesNamed(v, args)
		if err != nil {
			return err
		}
		if err := do(ctx, v, cfg, scopes); err != nil {
			return err
		}
		if warning != "" {
			fmt.Fprint(o.sh.err, "sidevault: warning: "+warning)
		}
		return o.printHolders(ctx, v)
	})
}

func scopesNamed(v *vault.Vault, names []string) ([]envs.Scope, error) {
	var scopes []envs.Scope
	for _, name := range names {
		scope := envs.Shared
		if name != sharedName {
			var err error
			if scope, err = v.Scope(&name); err != nil {
				return nil, err
			}
		}
		if !slices.Contains(scopes, scope) {
			scopes = append(scopes, scope)
		}
	}
	return scopes, nil
}

// ownRecipients returns the recipients of this host's identities.
func ownRecipients(cfg settings) ([]string, error) {
	ids, err := cfg.rootIdentities()
	if err != nil {
		return nil, err
	}
	return recipientsOf(ids)
}

func recipientsOf(ids []age.Identity) ([]string, error) {
	var all []string
	for _, id := range ids {
		r, err := seal.RecipientOf(id)
		if err != nil {
			return nil, usagef("%s", err)
		}
		all = append(all, r)
	}
	return all, nil
}

func newEnvKeysCommand(sh *shell) *cobra.Command {
	o := &shareOptions{sh: sh}
	cmd := &cobra.Command{
		Use:     "keys",
		Short:   "List who can open which key, out of the storage",
		Long:    "List the keys of every environment that storage has, and who can open them." + shareHelp,
		Example: "  sidevault env keys --data-dir /var/lib/sidevault",
		Args:    operands(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return onStorage(cmd, sh, func(ctx context.Context, v *vault.Vault, _ settings) error { return o.printHolders(ctx, v) })
		},
	}
	o.addFlags(cmd)
	return cmd
}

// holdersResult is what --json prints of one key.
type holdersResult struct {
	Name       string   `json:"name"`
	Key        int      `json:"key"`
	KeyHeld    bool     `json:"keyHeld"`
	Recipients []string `json:"recipients"`
}

func (o *shareOptions) printHolders(ctx context.Context, v *vault.Vault) error {
	list, err := v.Holders(ctx)
	if err != nil {
		return err
	}
	var rows [][]string
	var results []holdersResult
	for _, h := range list {
		results = append(results, holdersResult{h.Name, h.Key, h.Held, h.Readers})
		rows = append(rows, withRecipients([]string{h.Name, fmt.Sprint(h.Key), yesNo(h.Held)}, h.Readers)...)
	}
	if o.form.forPrograms() {
		return o.form.print(o.sh.out, results)
	}
	return printTable(o.sh.out, []string{"KEY OF", "NUMBER", "KEY HELD", "RECIPIENTS"}, rows)
}
