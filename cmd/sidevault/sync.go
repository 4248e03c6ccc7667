package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/sidevault/sidevault/api/client"
	"github.com/sidevault/sidevault/api/wire"
)

func newSyncCommand(sh *shell) *cobra.Command {
	return group("sync", "See and hurry what is on its way to other systems", newSyncListCommand(sh), newSyncRetryCommand(sh))
}

type syncOptions struct {
	remote
	slotFlags
	filter client.SyncFilter
	all    bool
	form   output
}

// addFlags declares the flags that select syncs.
func (o *syncOptions) addFlags(cmd *cobra.Command) {
	flags := cmd.Flags()
	o.remote.addFlags(cmd)
	flags.StringVarP(&o.environment, environmentFlag, "e", "", "only those in this `environment` itself")
	flags.StringVar(&o.filter.Name, "name", "", "only those of credentials with this `name`")
	flags.StringVar(&o.filter.Plugin, "plugin", "", "only those to this `plugin`: its binding's name in the catalog entry")
	addOutputFlags(cmd, &o.form)
	completeEnvironments(cmd, &o.remote)
}

func newSyncListCommand(sh *shell) *cobra.Command {
	o := syncOptions{remote: remote{sh: sh}}
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the changes that syncers have not taken yet",
		Args:  operands(),
		RunE:  func(cmd *cobra.Command, _ []string) error { return o.list(cmd) },
	}
	o.addFlags(cmd)
	cmd.Flags().StringVar(&o.filter.Integration, "integration", "", "only those of this `integration`")
	return cmd
}

func (o *syncOptions) list(cmd *cobra.Command) error {
	c, err := o.client()
	if err != nil {
		return err
	}
	o.filter.Environment, o.filter.PageSize = o.scope(cmd), maxPage
	list := []wire.Sync{}
	for s, err := range c.Syncs(cmd.Context(), o.filter) {
		if err != nil {
			return err
		}
		list = append(list, s)
	}
	if o.form.forPrograms() {
		return o.form.print(o.sh.out, list)
	}
	if len(list) == 0 {
		_, err := fmt.Fprintln(o.sh.out, "Nothing is pending.")
		return err
	}
	var rows [][]string
	for _, s := range list {
		rows = append(rows, []string{
			s.IntegrationID, showScope(s.Environment), s.Name, s.Plugin, s.State, s.Change, fmt.Sprint(s.Version),
			fmt.Sprint(s.Attempts), showTime(s.NextAttempt), s.LastError,
		})
	}
	return printTable(o.sh.out, []string{
		"INTEGRATION", "ENVIRONMENT", "NAME", "PLUGIN", "STATE", "CHANGE", "VERSION", "ATTEMPTS", "NEXT ATTEMPT", "LAST ERROR",
	}, rows)
}

func newSyncRetryCommand(sh *shell) *cobra.Command {
	o := syncOptions{remote: remote{sh: sh}}
	cmd := &cobra.Command{
		Use:   "retry [INTEGRATION]",
		Short: "Make syncs due at once",
		Long: `Make the pending and failing syncs that are named due at once, and do not wait for
them. For an integration that is named, those that are done, or whose syncer was
bound after the last change, are sent again too.`,
		Example: "  sidevault sync retry trustradius -e production\n  sidevault sync retry --all",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			return operands("INTEGRATION")(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error { return o.retry(cmd, args) },
	}
	o.addFlags(cmd)
	cmd.Flags().BoolVar(&o.all, "all", false, "retry all that are pending")
	completeIntegrations(cmd, &o.remote)
	return cmd
}

func (o *syncOptions) retry(cmd *cobra.Command, args []string) error {
	r := o.request(cmd, args)
	switch named := r != (wire.RetryRequest{}); {
	case !named && !o.all:
		return usagef("nothing is named").hinted("name an INTEGRATION, -e, --name or --plugin; --all retries all that are pending")
	case named && o.all:
		return usagef("--all and something that narrows it are both given").hinted("give one of them")
	}
	c, err := o.client()
	if err != nil {
		return err
	}
	got, err := c.RetrySyncs(cmd.Context(), r)
	if err != nil {
		return err
	}
	if o.form.forPrograms() {
		return o.form.print(o.sh.out, got.Data)
	}
	_, err = fmt.Fprintf(o.sh.out, "Due now: %s. \"sidevault sync list\" shows what is still pending.\n", count(&got.Data.Retried, "sync"))
	return err
}

// request selects what the arguments and flags name. An empty one is passed on, for
// the sidecar to refuse.
func (o *syncOptions) request(cmd *cobra.Command, args []string) (r wire.RetryRequest) {
	if len(args) > 0 {
		r.IntegrationID = &args[0]
	}
	if environment := o.scope(cmd); environment != nil {
		r.Environment = wire.OptionalScope{Given: true, Environment: environment}
	}
	if cmd.Flags().Changed("name") {
		r.Name = &o.filter.Name
	}
	if cmd.Flags().Changed("plugin") {
		r.Plugin = &o.filter.Plugin
	}
	return r
}

// printSyncs prints how far a slot's last change has come.
func printSyncs(sh *shell, list []wire.Sync) error {
	var pairs []string
	for _, s := range list {
		text := s.State
		switch {
		case s.NextAttempt != nil && s.Attempts > 0:
			text += fmt.Sprintf(" after %s, next %s", count(&s.Attempts, "attempt"), showTime(s.NextAttempt))
		case s.SyncedAt != nil:
			text += " " + showTime(s.SyncedAt)
		}
		if s.LastError != "" {
			text += ": " + s.LastError
		}
		pairs = append(pairs, oneLine("sync "+s.Plugin), text)
	}
	return printPairs(sh.out, pairs...)
}
