package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"filippo.io/age"
	"github.com/spf13/cobra"

	"github.com/sidevault/sidevault/vault"
	"github.com/sidevault/sidevault/vault/seal"
)

type rotateRootOptions struct {
	sh          *shell
	from, to    []string
	newIdentity string
	form        output
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
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.check(cmd); err != nil {
				return err
			}
			return onStorage(cmd, sh, o.run)
		},
	}
	addSettings(cmd.Flags(), "data-dir", "backend", identityKey, environmentsKey)
	flags := cmd.Flags()
	flags.StringArrayVar(&o.to, "to", nil, "`recipient` to put in its place; repeat it for more")
	flags.StringArrayVar(&o.from, "from", nil, "`recipient` to replace; default those of this host's identities")
	flags.StringVar(&o.newIdentity, "new-identity", "", "`file` with the identity to put in its place")
	addOutputFlags(cmd, &o.form)
	return cmd
}

func (o *rotateRootOptions) run(ctx context.Context, v *vault.Vault, cfg settings) (err error) {
	if len(o.from) == 0 {
		if o.from, err = ownRecipients(cfg); err != nil {
			return err
		}
	}
	to, err := o.recipients(cfg)
	if err != nil {
		return err
	}
	if err := v.ReplaceRoot(ctx, o.from, to); err != nil {
		return err
	}
	return o.tell(cfg, to)
}

// check refuses what cannot be done before anything is opened.
func (o *rotateRootOptions) check(cmd *cobra.Command) error {
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
	return nil
}

// rotatedRoot is what --json prints.
type rotatedRoot struct {
	From     []string `json:"from"`               // recipients that open nothing from then on
	To       []string `json:"to"`                 // those in their place
	Identity string   `json:"identity,omitempty"` // file, with --new-identity
}

func (o *rotateRootOptions) tell(cfg settings, to []string) error {
	if o.form.forPrograms() {
		return o.form.print(o.sh.out, rotatedRoot{From: o.from, To: to, Identity: o.newIdentity})
	}
	next := "serve with the identity of " + strings.Join(to, ", ")
	if o.newIdentity != "" {
		next = "sidevault serve --data-dir " + quoted(cfg.DataDir) + " --identity " + quoted(o.newIdentity)
	}
	_, err := fmt.Fprintf(o.sh.out, `The keys are for the new identity alone; the old one opens none of them.
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
	return recipientsOf(ids)
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
