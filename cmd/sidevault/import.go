package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sidevault/sidevault/api/client"
	"github.com/sidevault/sidevault/cmd/sidevault/transfer"
	"github.com/sidevault/sidevault/vault/suggest"
)

type importOptions struct {
	remote
	consent
	slotFlags
	format      string
	mapping     string
	integration string
	dryRun      bool
	form        output
}

func newImportCommand(sh *shell) *cobra.Command {
	o := importOptions{remote: remote{sh: sh}}
	cmd := &cobra.Command{
		Use:   "import FILE|-",
		Short: "Set the credentials that a file of another program holds",
		Long: `Set the credentials of a file: .env, CSV, JSON, or what the command lines of
HashiCorp Vault (KV version 2), 1Password and Doppler print. SALESFORCE_CLIENT_ID is
the client_id of salesforce, SALESFORCE or SALESFORCE_VALUE its value; paths and titles
are integrations by their last word. --map says where other names belong; what belongs
nowhere is skipped, and listed.

The whole file is read and checked first, by the validators too: when anything is wrong
with it, nothing is changed. What is set already, with the same value, is left as it is,
so that an import that was interrupted is run again.`,
		Example: `  sidevault import .env -e staging --dry-run
  vault kv get -format=json secret/sftp | sidevault import - --integration sftp -e staging`,
		Args: operands("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error { return o.run(cmd, args[0]) },
	}
	flags := cmd.Flags()
	o.remote.addFlags(cmd)
	flags.StringVarP(&o.environment, environmentFlag, "e", "", "`environment` of what does not say its own; without it, what all environments share")
	flags.StringVar(&o.format, "format", "", "`format`: "+formatNames()+"; default: what it certainly is")
	flags.StringVar(&o.mapping, "map", "", "YAML `file` that says where names belong")
	flags.StringVar(&o.integration, "integration", "", "`integration` whose credential the file holds: its names are fields")
	flags.BoolVar(&o.dryRun, "dry-run", false, "show what would change, and change nothing")
	o.consent.addFlags(cmd)
	addOutputFlags(cmd, &o.form)
	completeEnvironments(cmd, &o.remote)
	return cmd
}

func formatNames() string {
	var names []string
	for _, f := range transfer.Formats() {
		names = append(names, string(f))
	}
	return strings.Join(names, ", ")
}

func (o *importOptions) run(cmd *cobra.Command, path string) error {
	// Secrets pass through here.
	if err := undumpable(); err != nil {
		return err
	}
	ctx := cmd.Context()
	c, err := o.patient()
	if err != nil {
		return err
	}
	entries, err := o.entries(path)
	if err != nil {
		return err
	}
	list, err := o.assign(ctx, c, cmd, entries)
	if err != nil {
		return err
	}
	cs := &changes{sh: o.sh, c: c, what: "Importing", again: "sidevault import", list: list}
	if err := cs.prepare(ctx); err != nil {
		return err
	}
	if !o.dryRun {
		if err := cs.confirm(ctx, &o.consent); err != nil {
			return err
		}
		err = cs.make(ctx)
	}
	return firstOf(err, cs.tell(o.form, o.dryRun))
}

// maxImport is how large a file may be.
const maxImport = 16 << 20

// entries reads the file.
func (o *importOptions) entries(path string) ([]transfer.Entry, error) {
	data, err := o.read(path)
	defer clear(data)
	if err != nil {
		return nil, err
	}
	format, err := o.formatOf(path, data)
	if err != nil {
		return nil, err
	}
	entries, err := transfer.Read(format, data)
	if err != nil {
		return nil, usagef("%s cannot be imported as %s, and nothing was changed", path, format).because(fmt.Errorf("\n%w", err)).
			hinted("mend these lines, or name another format with --format")
	}
	if len(entries) == 0 {
		return nil, usagef("%s holds nothing to import", path)
	}
	return entries, nil
}

func (o *importOptions) read(path string) ([]byte, error) {
	if path == "-" {
		data, err := io.ReadAll(io.LimitReader(o.sh.in, maxImport+1))
		if err == nil && len(data) > maxImport {
			err = fmt.Errorf("standard input is larger than %d bytes", maxImport)
		}
		if err != nil {
			return nil, usagef("read the credentials").because(err)
		}
		return data, nil
	}
	data, err := readBounded(path, maxImport)
	if err != nil {
		return nil, usagef("read the credentials").because(err)
	}
	if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o077 != 0 {
		fmt.Fprintf(o.sh.err, "sidevault: warning: %s holds secrets, and others can read it (mode %04o): chmod 600 %s, and delete it after the import\n",
			path, info.Mode().Perm(), quoted(path))
	}
	return data, nil
}

func (o *importOptions) formatOf(path string, data []byte) (transfer.Format, error) {
	if o.format != "" {
		f := transfer.Format(o.format)
		if !slices.Contains(transfer.Formats(), f) {
			return "", usagef("--format %q is none of %s%s", o.format, formatNames(), suggest.Hint(o.format, strings.Split(formatNames(), ", ")))
		}
		return f, nil
	}
	if path == "-" {
		path = ""
	}
	f, certain := transfer.Detect(filepath.ToSlash(path), data)
	if !certain {
		return "", usagef("what the file is cannot be told for certain; nothing was changed").hinted("--format says it: %s", formatNames())
	}
	return f, nil
}

// assign turns entries into changes, in the order of their lines.
func (o *importOptions) assign(ctx context.Context, c *client.Client, cmd *cobra.Command, entries []transfer.Entry) ([]*change, error) {
	opts := transfer.Options{Environment: o.scope(cmd), Only: cmd.Flags().Changed(environmentFlag), Integration: o.integration}
	if o.mapping != "" {
		data, err := readBounded(o.mapping, maxConfig)
		if err == nil {
			opts.Mapping, err = transfer.ParseMapping(data)
		}
		if err != nil {
			return nil, usagef("--map %s", o.mapping).because(err)
		}
	}
	catalog, err := c.Integrations(ctx, client.IntegrationFilter{})
	if err != nil {
		return nil, err
	}
	var known []transfer.Integration
	for _, i := range catalog.Data {
		entry := transfer.Integration{Key: i.ID}
		for _, f := range i.Fields {
			entry.Fields = append(entry.Fields, f.Name)
		}
		known = append(known, entry)
	}
	credentials, skipped, err := transfer.Assign(entries, known, opts)
	if err != nil {
		return nil, usagef("the file does not fit, and nothing was changed").because(fmt.Errorf("\n%w", err))
	}
	var list []*change
	for _, cred := range credentials {
		list = append(list, importChange(cred))
	}
	for _, s := range skipped {
		list = append(list, &change{Line: s.Line, Source: s.Source, Change: changeSkip, Why: s.Why})
	}
	slices.SortStableFunc(list, func(a, b *change) int { return a.Line - b.Line })
	return list, nil
}

func importChange(cred transfer.Credential) *change {
	in := client.SetInput{AuthType: cred.AuthType, Labels: cred.Labels}
	// A time that has passed is refused as the value is: what has expired is not set.
	in.ExpiresAt = cred.ExpiresAt.Truncate(time.Millisecond)
	if v, ok := cred.Fields[transfer.ValueField]; ok && len(cred.Fields) == 1 {
		in.Value = &v
	} else {
		in.Fields = cred.Fields
	}
	return &change{
		Line: cred.Lines[0], Source: strings.Join(cred.Sources, ", "), IntegrationID: cred.Integration,
		Environment: cred.Environment, Name: cred.Name, in: in,
	}
}
