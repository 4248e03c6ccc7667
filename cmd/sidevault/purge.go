package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sidevault/sidevault/vault"
)

type purgeOptions struct {
	sh        *shell
	olderThan string
	form      output
}

func newPurgeCommand(sh *shell) *cobra.Command {
	o := purgeOptions{sh: sh}
	cmd := &cobra.Command{
		Use:   "purge --older-than AGE",
		Short: "Destroy the ciphertext of deleted credentials for good",
		Long: `Destroy the ciphertext of every credential, of every org, that was deleted longer
ago than that, in the storage itself: a file of a sidecar that is stopped, or one that
hosts share. What was known of them besides stays, and so does the audit log. Only a
backup from before has the values after that.`,
		Example: "  sidevault purge --older-than 90d --data-dir /var/lib/sidevault",
		Args:    operands(),
		RunE:    func(cmd *cobra.Command, _ []string) error { return o.run(cmd) },
	}
	addSettings(cmd.Flags(), storageKeys()...)
	addOutputFlags(cmd, &o.form)
	cmd.Flags().StringVar(&o.olderThan, "older-than", "", "`age` of the deletion: days, as in 90d, or a duration, as in 36h; required")
	return cmd
}

func (o *purgeOptions) run(cmd *cobra.Command) error {
	age, err := parseAge(o.olderThan)
	if err != nil {
		return err
	}
	var purged vault.Purged
	err = onStorage(cmd, o.sh, func(ctx context.Context, v *vault.Vault, _ settings) (err error) {
		p := newProgress(o.sh)
		defer p.end()
		purged, err = v.Purge(ctx, time.Now().Add(-age), func(done vault.Purged) {
			p.show("Purged %d credentials so far", done.Credentials)
		})
		return err
	})
	if err != nil {
		return err
	}
	if o.form.forPrograms() {
		return o.form.print(o.sh.out, map[string]int{"credentials": purged.Credentials, "versions": purged.Versions})
	}
	_, err = fmt.Fprintf(o.sh.out, "Purged %s, %s.\n", count(&purged.Credentials, "credential"), count(&purged.Versions, "version"))
	return err
}

// parseAge reads days, as in 90d, or a duration.
func parseAge(s string) (time.Duration, error) {
	const most = 100 * 365 * 24 * time.Hour
	d, err := time.ParseDuration(s)
	if days, ok := strings.CutSuffix(s, "d"); ok {
		var n uint64
		n, err = strconv.ParseUint(days, 10, 16)
		d = time.Duration(n) * 24 * time.Hour
	}
	if err != nil || d < 0 || d > most {
		return 0, usagef("--older-than %q is not an age: days, as in 90d, or a duration, as in 36h", s).
			hinted("sidevault purge --older-than 90d --data-dir DIR")
	}
	return d, nil
}
