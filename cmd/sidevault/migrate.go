package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/sidevault/sidevault/backends"
	"github.com/sidevault/sidevault/backends/migrate"
	"github.com/sidevault/sidevault/backends/open"
	"github.com/sidevault/sidevault/vault"
)

type migrateOptions struct {
	sh               *shell
	from, to         string
	fromFile, toFile string
	resume           bool
	form             output
}

func newMigrateCommand(sh *shell) *cobra.Command {
	o := migrateOptions{sh: sh}
	cmd := &cobra.Command{
		Use:   "migrate --from URL --to URL",
		Short: "Copy a whole vault into another storage",
		Long: `Copy every record and the whole audit log of a vault into an empty storage, and
compare both at the end. Every sidecar on either must be stopped. Nothing is
decrypted: it takes no identity. The source is only read.

A copy that was interrupted goes on with --resume. Until it is complete, no sidecar
serves what is there.`,
		Example: `  sidevault migrate --from bbolt:///var/lib/sidevault/vault.db --to etcd://e1,e2,e3/sidevault
  sidevault migrate --from bbolt:///var/lib/sidevault/vault.db --to-file /etc/sidevault/backend.url`,
		Args: operands(),
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd.Context()) },
	}
	flags := cmd.Flags()
	flags.StringVar(&o.from, "from", "", "`URL` of the storage to copy")
	flags.StringVar(&o.to, "to", "", "`URL` of an empty storage; a bbolt file is made")
	flags.StringVar(&o.fromFile, "from-file", "", "`file` of its owner alone that holds the URL, in place of --from: for a URL with a password")
	flags.StringVar(&o.toFile, "to-file", "", "`file` of its owner alone that holds the URL, in place of --to")
	addOutputFlags(cmd, &o.form)
	flags.BoolVar(&o.resume, "resume", false, "go on with a copy that was interrupted")
	return cmd
}

func (o *migrateOptions) run(ctx context.Context) (err error) {
	ctx, stop := interruptible(ctx)
	defer stop()
	restrictFiles()
	if err := errors.Join(urlFromFile("--from", &o.from, o.fromFile), urlFromFile("--to", &o.to, o.toFile)); err != nil {
		return err
	}
	if o.from == "" || o.to == "" || o.from == o.to {
		return usagef("--from and --to are required, and must differ").
			hinted("sidevault migrate --from bbolt:///var/lib/sidevault/vault.db --to URL")
	}
	from, err := openEnd(ctx, "--from", o.from, open.Options{ReadOnly: true})
	if err != nil {
		return err
	}
	defer func() { err = firstOf(err, from.Close()) }()
	to, err := openEnd(ctx, "--to", o.to, open.Options{Create: true})
	if err != nil {
		return err
	}
	defer func() { err = firstOf(err, to.Close()) }()
	p := newBar(o.sh, "")
	result, err := migrate.Copy(ctx, migrate.Config{
		From: from, To: to, LastKey: vault.HeaderKey, NotesKey: vault.CopyingKey, Resume: o.resume,
		Progress: func(at migrate.Progress) { showMigration(p, at) },
	})
	p.end()
	if err != nil {
		return o.explain(ctx, err)
	}
	return o.tell(result)
}

func showMigration(b *bar, at migrate.Progress) {
	b.stage(string(at.Stage))
	b.set(int(at.Done), int(at.Total))
}

// urlFromFile reads the URL from a file where one is named, and keeps passwords out of
// the flag.
func urlFromFile(flag string, url *string, file string) error {
	if file == "" {
		u, err := parseStorage(*url)
		if err != nil {
			return usagef("%s: %s", flag, err)
		}
		if holdsPassword(u) {
			return passwordOnCommandLine(flag, flag+"-file")
		}
		return nil
	}
	if *url != "" {
		return usagef("%s and %s-file are two ways to name the same: give one of them", flag, flag)
	}
	var err error
	if *url, err = readBackendFile(file); err != nil {
		return usagef("%s-file: %s", flag, err)
	}
	return nil
}

// openEnd opens one of the two storages.
func openEnd(ctx context.Context, flag, url string, how open.Options) (backends.Backend, error) {
	switch scheme, err := open.Scheme(url); {
	case err != nil:
		return nil, usagef("%s: %s", flag, err)
	case scheme == open.Memory:
		return nil, usagef("%s: storage in memory ends with this command", flag)
	}
	b, err := open.Open(ctx, url, how)
	switch {
	case errors.Is(err, backends.ErrUnavailable):
		return nil, failf(exitUnavailable, "open %s", flag).because(err)
	case err != nil:
		return nil, failf(exitError, "open %s", flag).because(err)
	}
	return b, nil
}

func (o *migrateOptions) explain(ctx context.Context, err error) error {
	f := failf(exitError, "migrate").because(err)
	again := fmt.Sprintf("sidevault migrate %s %s --resume", end("--from", o.from, o.fromFile), end("--to", o.to, o.toFile))
	switch {
	case ctx.Err() != nil:
		f = failf(exitError, "interrupted").hinted("%s", again)
	case errors.Is(err, migrate.ErrUnfinished):
		f.code, f.hint = exitConflict, again
	case errors.Is(err, migrate.ErrNoSource):
		f.msg, f.hint = "migrate: the source holds no vault", "look at the path or the database in --from"
	case errors.Is(err, migrate.ErrNotEmpty), errors.Is(err, migrate.ErrChanged), errors.Is(err, backends.ErrConflict):
		f.code = exitConflict
	case errors.Is(err, backends.ErrUnavailable), errors.Is(err, backends.ErrUnknownOutcome):
		f.code, f.hint = exitUnavailable, again
	}
	return f
}

// migration is what --json prints.
type migration struct {
	Records   uint64 `json:"records"`
	AuditSeq  uint64 `json:"auditEntries"`
	AuditHash string `json:"auditHead"`
}

func (o *migrateOptions) tell(r migrate.Result) error {
	if o.form.forPrograms() {
		return o.form.print(o.sh.out, migration{Records: r.Records, AuditSeq: r.Head.Seq, AuditHash: r.Head.Hash.String()})
	}
	_, err := fmt.Fprintf(o.sh.out, `Copied %s and %s; the copy was read back and is the same.

  audit head  %d %s

Next: start the sidecars with %s, and with the identity and the %s
that they have.
The vault that was copied is as it was: keep it as a backup, or destroy it.
`, counted(r.Records, "record"), countedAs(r.Head.Seq, "audit entry", "audit entries"), r.Head.Seq, r.Head.Hash, end("--backend", o.to, o.toFile), trustFile)
	return err
}

// end is the flag that names one of the two storages again.
func end(flag, url, file string) string {
	if file != "" {
		return flag + "-file " + quoted(file)
	}
	return flag + " " + quoted(url)
}

func counted(n uint64, noun string) string { return countedAs(n, noun, noun+"s") }

func countedAs(n uint64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
