package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sidevault/sidevault/api/wire"
	"github.com/sidevault/sidevault/vault"
	"github.com/sidevault/sidevault/vault/secret"
)

func newKeyCommand(sh *shell) *cobra.Command {
	return group("key", "Manage API keys", newKeyCreateCommand(sh), newKeyListCommand(sh), newKeyRevokeCommand(sh))
}

type keyCreateOptions struct {
	remote
	name         string
	email        string
	scope        string
	environments []string
	integrations []string
	expires      string
	keyFile      string
	org          string
	form         output
}

func newKeyCreateCommand(sh *shell) *cobra.Command {
	o := keyCreateOptions{remote: remote{sh: sh}}
	cmd := &cobra.Command{
		Use:   "create",
		Short: "Create an API key",
		Long: `Create an API key, and print it alone: it is shown this once.

With --data-dir or --backend the key is made in the storage itself, a file of a
sidecar that is stopped or one that hosts share: the way back in when every admin
key is lost, and the way to a further org.`,
		Example: `  sidevault key create --name billing -e production --integration salesforce
  sidevault key create --name admin --scope admin -e '*' -e production --data-dir /var/lib/sidevault`,
		Args: operands(),
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd) },
	}
	flags := cmd.Flags()
	o.remote.addFlags(cmd)
	addSettings(flags, storageKeys()...)
	flags.StringVar(&o.name, "name", "", "`name` of the key; required")
	flags.StringVar(&o.email, "email", "", "e-mail `address` of who answers for it")
	flags.StringVar(&o.scope, "scope", wire.ScopeUser, "`scope`: user (read) or admin (everything)")
	flags.StringArrayVarP(&o.environments, environmentFlag, "e", nil,
		"`environment` that it may use, repeat it for more; * for all but protected ones; required")
	flags.StringArrayVar(&o.integrations, "integration", []string{"*"}, "`integration` that it may use, repeat it for more")
	flags.StringVar(&o.expires, "expires", "", "`when` it expires: a duration from now, as in 720h, or an RFC 3339 time")
	flags.StringVar(&o.keyFile, "key-file", "", "write the key to this new `file` instead of printing it")
	flags.StringVar(&o.org, "org", defaultOrg, "with --data-dir: `slug` of the org, which is made when there is none")
	addOutputFlags(cmd, &o.form)
	completeEnvironments(cmd, &o.remote)
	return cmd
}

func (o *keyCreateOptions) run(cmd *cobra.Command) error {
	if o.name == "" || len(o.environments) == 0 {
		return usagef("--name and -e are required").hinted("sidevault key create --name NAME -e ENVIRONMENT; -e '*' stands for all but protected ones")
	}
	if o.scope != wire.ScopeUser && o.scope != wire.ScopeAdmin {
		return usagef("the scope %q is neither %s nor %s", o.scope, wire.ScopeUser, wire.ScopeAdmin)
	}
	if o.keyFile != "" && exists(o.keyFile) {
		return failf(exitConflict, "%s exists already; no key was created", o.keyFile).hinted("name another file with --key-file")
	}
	expires, err := parseExpiry(o.expires)
	if err != nil {
		return err
	}
	create := o.createRemote
	if namesStorage(cmd.Flags()) {
		create = o.createOffline
	}
	key, err := create(cmd, expires)
	if err != nil {
		return err
	}
	return o.tell(key)
}

func (o *keyCreateOptions) createRemote(cmd *cobra.Command, expires time.Time) (wire.NewKey, error) {
	if cmd.Flags().Changed("org") {
		return wire.NewKey{}, usagef("--org goes with --data-dir: a running sidecar takes the org from the token")
	}
	c, err := o.client()
	if err != nil {
		return wire.NewKey{}, err
	}
	made, err := c.CreateKey(cmd.Context(), wire.CreateKeyRequest{
		Name: o.name, Email: o.email, Scope: o.scope, Environments: o.environments, Integrations: o.integrations,
		ExpiresAt: wire.Optional(expires),
	})
	return made.Data, err
}

func (o *keyCreateOptions) createOffline(cmd *cobra.Command, expires time.Time) (wire.NewKey, error) {
	var made vault.NewKey
	err := onStorage(cmd, o.sh, func(ctx context.Context, v *vault.Vault, _ settings) (err error) {
		made, err = v.AddKey(ctx, o.org, vault.KeyInput{
			Name: o.name, Email: o.email, Admin: o.scope == wire.ScopeAdmin,
			Environments: o.environments, Integrations: o.integrations, ExpiresAt: expires,
		})
		return err
	})
	if err != nil {
		return wire.NewKey{}, err
	}
	return wire.NewKey{Secret: made.Secret, Key: wire.Key{
		ID: made.ID, Name: made.Name, Email: made.Email, Scope: o.scope, Environments: made.Environments,
		Integrations: made.Integrations, CreatedAt: wire.Time(made.CreatedAt), ExpiresAt: wire.Optional(made.ExpiresAt),
		CreatedBy: wire.Actor{ID: made.CreatedBy.ID, Name: made.CreatedBy.Name, Email: made.CreatedBy.Email},
	}}, nil
}

// shownKey is a new key for a program's eyes.
type shownKey struct {
	wire.Key
	Secret string `json:"key,omitempty"`
	File   string `json:"keyFile,omitempty"`
}

// tell prints the key alone on standard output, and about it on standard error.
func (o *keyCreateOptions) tell(k wire.NewKey) error {
	shown := shownKey{Key: k.Key, Secret: k.Secret.Reveal()}
	if o.keyFile != "" {
		if err := o.store(k.Secret); err != nil {
			return err
		}
		shown.Secret, shown.File = "", o.keyFile
	}
	if o.form.forPrograms() {
		return o.form.print(o.sh.out, shown)
	}
	fmt.Fprintf(o.sh.err, "Created the API key %s (%s), shown this once.\n", oneLine(k.Name), k.ID)
	if o.keyFile != "" {
		return nil
	}
	_, err := fmt.Fprintln(o.sh.out, shown.Secret)
	return err
}

func (o *keyCreateOptions) store(key secret.Value) error {
	if err := writePrivate(o.keyFile, []byte(key.Reveal()+"\n")); err != nil {
		return failf(exitError, "the key was created, but it could not be written").because(err).
			hinted("revoke it with \"sidevault key revoke\", and create another")
	}
	return nil
}

func newKeyListCommand(sh *shell) *cobra.Command {
	r := remote{sh: sh}
	var form output
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the API keys, without their secrets",
		Args:  operands(),
		RunE:  func(cmd *cobra.Command, _ []string) error { return listKeys(cmd, &r, form) },
	}
	r.addFlags(cmd)
	addOutputFlags(cmd, &form)
	return cmd
}

func listKeys(cmd *cobra.Command, r *remote, form output) error {
	c, err := r.client()
	if err != nil {
		return err
	}
	list, err := c.Keys(cmd.Context())
	if err != nil {
		return err
	}
	if form.forPrograms() {
		return form.print(r.sh.out, list.Data)
	}
	var rows [][]string
	for _, k := range list.Data {
		rows = append(rows, []string{k.ID, k.Name, k.Scope, strings.Join(k.Environments, ","), strings.Join(k.Integrations, ","),
			showTime(&k.CreatedAt), showTime(k.ExpiresAt), showTime(k.RevokedAt)})
	}
	return printTable(r.sh.out, []string{"ID", "NAME", "SCOPE", "ENVIRONMENTS", "INTEGRATIONS", "CREATED", "EXPIRES", "REVOKED"}, rows)
}

func newKeyRevokeCommand(sh *shell) *cobra.Command {
	r := remote{sh: sh}
	var form output
	cmd := &cobra.Command{
		Use:   "revoke ID",
		Short: "Revoke an API key, at once and for good",
		Args:  operands("ID"),
		RunE:  func(cmd *cobra.Command, args []string) error { return revokeKey(cmd, &r, args[0], form) },
	}
	r.addFlags(cmd)
	addOutputFlags(cmd, &form)
	return cmd
}

func revokeKey(cmd *cobra.Command, r *remote, id string, form output) error {
	c, err := r.client()
	if err != nil {
		return err
	}
	revoked, err := c.RevokeKey(cmd.Context(), id)
	if err != nil {
		return err
	}
	if form.forPrograms() {
		return form.print(r.sh.out, revoked.Data)
	}
	_, err = fmt.Fprintf(r.sh.out, "Revoked the API key %s (%s)\n", oneLine(revoked.Data.Name), revoked.Data.ID)
	return err
}

// firstOf returns the first error that is not nil.
func firstOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
