package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/sidevault/sidevault/api/client"
	"github.com/sidevault/sidevault/api/wire"
	"github.com/sidevault/sidevault/vault/secret"
)

// A health check is asked again soon, by who asks; it is no use to wait for long here.
const readyTimeout = 5 * time.Second

type readyOptions struct {
	remote
	live bool
	form output
}

func newReadyCommand(sh *shell) *cobra.Command {
	o := readyOptions{remote: remote{sh: sh}}
	cmd := &cobra.Command{
		Use:   "ready",
		Short: "Say whether the sidecar serves, and which part of it does not",
		Long: `Ask the sidecar for /readyz, or with --live for /healthz, and end with 0 when it serves and
with 6 when it does not. It takes no API key: it is for health checks of containers, which
cannot reach a sidecar that listens on loopback in any other way.`,
		Args: operands(),
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd) },
	}
	cmd.Flags().StringVar(&o.addr, addrFlag, "", "`address` of the sidecar, default "+client.DefaultAddress+" ("+addrVariable+")")
	cmd.Flags().BoolVar(&o.live, "live", false, "only whether it answers at all")
	addOutputFlags(cmd, &o.form)
	return cmd
}

func (o *readyOptions) run(cmd *cobra.Command) error {
	c, err := o.connect(secret.Value{}, client.Options{Timeout: readyTimeout, Retries: -1})
	if err != nil {
		return err
	}
	h, err := o.ask(cmd.Context(), c)
	if err != nil {
		return err
	}
	if o.form.forPrograms() {
		err = o.form.print(o.sh.out, h)
	} else {
		err = printHealth(o.sh, h)
	}
	if err == nil && h.Status != "ok" && h.Status != "degraded" {
		return failf(exitUnavailable, "the sidecar at %s is not ready", o.address()).hinted("its log says why; try again later")
	}
	return err
}

func (o *readyOptions) ask(ctx context.Context, c *client.Client) (wire.Health, error) {
	if o.live {
		return c.Health(ctx)
	}
	return c.Ready(ctx)
}

func printHealth(sh *shell, h wire.Health) error {
	if _, err := fmt.Fprintln(sh.out, h.Status); err != nil {
		return err
	}
	for _, c := range h.Checks {
		if c.Status == "ok" {
			continue
		}
		if _, err := fmt.Fprintf(sh.out, "%s: %s: %s\n", c.Name, c.Status, oneLine(c.Reason)); err != nil {
			return err
		}
	}
	return nil
}
