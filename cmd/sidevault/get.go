package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sidevault/sidevault/api/client"
	"github.com/sidevault/sidevault/api/wire"
	"github.com/sidevault/sidevault/vault/secret"
	"github.com/sidevault/sidevault/vault/suggest"
)

type getOptions struct {
	remote
	slotFlags
	field string
	opts  client.ResolveOptions
	form  output
}

func newGetCommand(sh *shell) *cobra.Command {
	o := getOptions{remote: remote{sh: sh}}
	cmd := &cobra.Command{
		Use:   "get INTEGRATION",
		Short: "Print a credential's secret value",
		Long: `Print the value of the credential that an environment resolves to: its own, else
its parents', else the shared one. The value is printed alone, with a newline on a
terminal only.`,
		Example: `  sidevault get salesforce -e production
  sidevault get sftp --field private_key`,
		Args: operands("INTEGRATION"),
		RunE: func(cmd *cobra.Command, args []string) error { return o.run(cmd, args[0]) },
	}
	o.remote.addFlags(cmd)
	o.slotFlags.addFlags(cmd, &o.remote)
	cmd.Flags().StringVar(&o.field, "field", "", "`name` of the field to print")
	cmd.Flags().BoolVar(&o.opts.NoFallback, "no-fallback", false, "look in that environment alone")
	cmd.Flags().Uint64Var(&o.opts.Version, "version", 0, "an older `version` that is still kept")
	addOutputFlags(cmd, &o.form)
	completeIntegrations(cmd, &o.remote)
	return cmd
}

func (o *getOptions) run(cmd *cobra.Command, integration string) error {
	c, err := o.client()
	if err != nil {
		return err
	}
	got, err := c.Resolve(cmd.Context(), o.slot(cmd, integration), o.opts)
	if err != nil {
		return err
	}
	warnStale(o.sh, got)
	if o.form.forPrograms() {
		return o.form.print(o.sh.out, revealed(got.Data))
	}
	v, err := pick(got.Data, o.field)
	if err != nil {
		return err
	}
	end := ""
	if isTerminal(o.sh.out) {
		end = "\n"
	}
	_, err = fmt.Fprint(o.sh.out, v.Reveal()+end)
	return err
}

// pick returns the field of that name, or the only one.
func pick(r wire.Resolved, field string) (secret.Value, error) {
	fields := maps.Clone(r.Fields)
	if r.Value != nil {
		fields = map[string]secret.Value{"value": *r.Value}
	}
	names := slices.Sorted(maps.Keys(fields))
	if field == "" && len(names) == 1 {
		field = names[0]
	}
	v, ok := fields[field]
	if ok {
		return v, nil
	}
	if field == "" {
		return v, usagef("the credential has several fields: %s", oneLine(strings.Join(names, ", "))).
			hinted("print one with --field NAME, or all with --json")
	}
	return v, failf(exitNotFound, "the credential has no field %q%s", field, suggest.Hint(field, names)).
		hinted("it has: %s", oneLine(strings.Join(names, ", ")))
}

// shownCredential is a resolved credential for a program's eyes.
type shownCredential struct {
	wire.Resolved
	Value  *string           `json:"value,omitempty"`
	Fields map[string]string `json:"fields,omitempty"`
}

func revealed(r wire.Resolved) shownCredential {
	s := shownCredential{Resolved: r}
	if r.Value != nil {
		plain := r.Value.Reveal()
		s.Value = &plain
		return s
	}
	s.Fields = make(map[string]string, len(r.Fields))
	for name, v := range r.Fields {
		s.Fields[name] = v.Reveal()
	}
	return s
}
