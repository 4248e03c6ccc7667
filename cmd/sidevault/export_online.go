package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sidevault/sidevault/api/client"
	"github.com/sidevault/sidevault/api/wire"
	"github.com/sidevault/sidevault/cmd/sidevault/transfer"
)

// onlineExport is the part of export that asks a sidecar.
type onlineExport struct {
	consent
	form     output
	format   string
	all      bool
	reveal   bool
	insecure bool
}

func (o *onlineExport) addFlags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&o.format, "format", string(transfer.JSON), "`format`: json, csv or env")
	flags.BoolVar(&o.all, "all", false, "every environment, and what they share")
	flags.BoolVar(&o.reveal, "reveal", false, "write the values in clear; takes an API key of admin scope")
	o.consent.addFlags(cmd)
	addOutputFlags(cmd, &o.form)
	flags.BoolVar(&o.insecure, "insecure-output", false, "with --reveal: write to a terminal, or to a file that others can read")
}

// check refuses flags that do not go together.
func (o *onlineExport) check(cmd *cobra.Command, raw bool) error {
	if raw {
		for _, name := range []string{"format", "all", "reveal", "insecure-output", "yes"} {
			if cmd.Flags().Changed(name) {
				return usagef("--%s and --raw are both given", name).hinted("--raw writes one credential, encrypted; leave one of them out")
			}
		}
		return nil
	}
	if namesStorage(cmd.Flags()) || cmd.Flags().Changed("org") {
		return usagef("the storage is named, and --raw is not given").
			hinted("add --raw, or leave the storage out to ask the sidecar")
	}
	printed := cmd.Flags().Changed(outputFlag) || cmd.Flags().Changed(jsonFlag)
	switch f := transfer.Format(o.format); {
	case printed && cmd.Flags().Changed("format"):
		return usagef("--format and --output are both given").hinted("--format json, csv or env writes what import reads; --output table or yaml is for looking at it")
	case printed && o.form == asTable && o.reveal:
		return usagef("a table shows no values").hinted("leave --reveal out, or choose --format json, csv or env")
	case !slices.Contains([]transfer.Format{transfer.JSON, transfer.CSV, transfer.Env}, f):
		return usagef("--format %q is none of json, csv, env", o.format)
	case o.all && cmd.Flags().Changed(environmentFlag):
		return usagef("--all and -e are both given").hinted("give one of them")
	case o.all && f == transfer.Env:
		return usagef("a .env file has no place for several environments").hinted("name one with -e, or choose --format json")
	case printed:
		o.format = string(o.form)
	}
	return nil
}

func (o *exportOptions) runOnline(cmd *cobra.Command, args []string) error {
	if o.online.reveal && o.out == "" && !o.online.insecure {
		if err := checkPrivateOutput(o.sh); err != nil {
			return err
		}
	}
	// Secrets pass through here.
	if err := undumpable(); err != nil {
		return err
	}
	c, err := o.client()
	if err != nil {
		return err
	}
	ctx := cmd.Context()
	records, err := o.records(ctx, c, o.scope(cmd), args)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	defer func() { clear(b.Bytes()) }()
	if err := o.online.write(&b, records); err != nil {
		return usagef("nothing was written: %s", err).hinted("--format json takes every credential; --name exports those of one name")
	}
	if err := o.deliver(ctx, b.Bytes()); err != nil {
		return err
	}
	fmt.Fprintf(o.sh.err, "Exported %s%s.\n", counted(uint64(len(records)), "credential"),
		map[bool]string{true: " with values in clear", false: ", without values"}[o.online.reveal])
	return nil
}

// write writes the records in the format, or as they are to be looked at.
func (o *onlineExport) write(b *bytes.Buffer, records []transfer.Record) error {
	switch o.format {
	case string(asTable):
		var rows [][]string
		for _, r := range records {
			rows = append(rows, []string{r.Integration, showScope(r.Environment), r.Name, r.Status, fmt.Sprint(r.Version), r.UpdatedAt, r.ExpiresAt})
		}
		return printTable(b, []string{"INTEGRATION", "ENVIRONMENT", "NAME", "STATUS", "VERSION", "UPDATED", "EXPIRES"}, rows)
	case string(asYAML):
		var plain bytes.Buffer
		defer func() { clear(plain.Bytes()) }()
		if err := transfer.Write(&plain, transfer.JSON, records, o.reveal); err != nil {
			return err
		}
		return asYAML.print(b, json.RawMessage(plain.Bytes()))
	}
	return transfer.Write(b, transfer.Format(o.format), records, o.reveal)
}

// deliver writes the file, which is whole or not there, or standard output.
func (o *exportOptions) deliver(ctx context.Context, data []byte) error {
	if o.out == "" {
		_, err := o.sh.out.Write(data)
		return err
	}
	_, stop := interruptible(ctx) // for the moment that the file has another name
	defer stop()
	const next = "--out names a file that does not exist yet, in a directory of yours"
	f, err := createPending(o.out)
	if err != nil {
		return failf(exitError, "export").because(err).hinted(next)
	}
	if _, err = f.Write(data); err != nil {
		return failf(exitError, "export").because(firstOf(err, f.drop()))
	}
	if err := f.keep(); err != nil {
		return failf(exitError, "export").because(err).hinted(next)
	}
	return nil
}

// checkPrivateOutput refuses to write secrets where others may see them.
func checkPrivateOutput(sh *shell) error {
	f, ok := sh.out.(*os.File)
	if !ok {
		return nil
	}
	info, err := f.Stat()
	switch {
	case err != nil:
		return failf(exitError, "look at standard output").because(err)
	case isTerminal(f):
		return usagef("standard output is a terminal, and the values are secret").
			hinted("--out FILE writes a file for you alone; --insecure-output writes them here")
	case info.Mode().IsRegular() && info.Mode().Perm()&0o077 != 0:
		return usagef("standard output is a file that others can read (mode %04o)", info.Mode().Perm()).
			hinted("--out FILE makes one for you alone, as umask 077 does; --insecure-output writes it nevertheless")
	}
	return nil
}

// records returns the credentials that the scope itself has, and with --reveal their
// secrets.
func (o *exportOptions) records(ctx context.Context, c *client.Client, scope *string, args []string) ([]transfer.Record, error) {
	f := client.CredentialFilter{Environment: scope, Name: o.name, PageSize: maxPage}
	if len(args) > 0 {
		f.Integration = args[0]
	}
	if o.online.reveal {
		if err := checkAdmin(ctx, c); err != nil {
			return nil, err
		}
	}
	var list []transfer.Record
	for cred, err := range c.List(ctx, f) {
		if err != nil {
			return nil, err
		}
		// The list has no filter for what all environments share.
		if o.online.all || scope != nil || cred.Environment == nil {
			list = append(list, recordOf(cred))
		}
	}
	if len(list) == 0 {
		return nil, failf(exitNotFound, "there is nothing to export: no credential is set in %s", scopeOrAll(scope, o.online.all)).
			hinted(`"sidevault list --configured" shows what is set where; --all exports all`)
	}
	if !o.online.reveal {
		return list, nil
	}
	var scopes []*string
	for _, r := range list {
		scopes = append(scopes, r.Environment)
	}
	protected, err := protectedAmong(ctx, c, scopes...)
	if err != nil {
		return nil, err
	}
	if err := o.online.ask(o.sh, protected, "sidevault export"); err != nil {
		return nil, err
	}
	return o.revealed(ctx, c, list)
}

func scopeOrAll(scope *string, all bool) string {
	if all {
		return "any environment"
	}
	if scope == nil {
		return "the scope that all environments share"
	}
	return *scope
}

func checkAdmin(ctx context.Context, c *client.Client) error {
	me, err := c.Whoami(ctx)
	if err != nil {
		return err
	}
	if me.Data.Scope != wire.ScopeAdmin {
		return failf(exitDenied, "--reveal takes an API key of admin scope, and %q has scope %s", oneLine(me.Data.Name), me.Data.Scope).
			hinted(`"sidevault get" prints a value that the key may read; an administrator makes keys with "sidevault key create --scope admin"`)
	}
	return nil
}

// revealed reads the secrets, those that are served. Others are exported without.
func (o *exportOptions) revealed(ctx context.Context, c *client.Client, list []transfer.Record) ([]transfer.Record, error) {
	bar := newBar(o.sh, "Reading")
	defer bar.end()
	var held []string
	for i := range list {
		bar.set(i, len(list))
		r := &list[i]
		if r.Status != "active" {
			held = append(held, describe(r.Integration, r.Environment, r.Name)+" is "+r.Status)
			continue
		}
		slot := client.Slot{Integration: r.Integration, Environment: r.Environment, Name: r.Name}
		got, err := c.Resolve(ctx, slot, client.ResolveOptions{NoFallback: true})
		if err != nil {
			f := explain(err)
			return nil, failf(f.code, "%s: %s; nothing was written", describe(r.Integration, r.Environment, r.Name), f.msg).hinted("%s", f.hint)
		}
		r.Fields, r.Version = secretOf(got.Data.Value, got.Data.Fields), got.Data.Version
	}
	if len(held) > 0 {
		fmt.Fprintf(o.sh.err, "sidevault: warning: exported without values, since they are not served: %s\n", oneLine(strings.Join(held, "; ")))
	}
	return list, nil
}

func recordOf(c wire.Credential) transfer.Record {
	return transfer.Record{
		ID: c.ID, Integration: c.IntegrationID, Environment: c.Environment, Name: c.Name, AuthType: c.AuthType,
		Status: c.Status, Version: c.Version, Labels: c.Labels, UpdatedAt: wireText(&c.UpdatedAt), ExpiresAt: wireText(c.ExpiresAt),
	}
}

func wireText(t *wire.Time) string {
	if t == nil {
		return ""
	}
	return time.Time(*t).UTC().Format(wire.TimeFormat)
}
