package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/sidevault/sidevault/backends"
	"github.com/sidevault/sidevault/backends/migrate"
	"github.com/sidevault/sidevault/backends/open"
	"github.com/sidevault/sidevault/vault"
)

type vaultRestoreOptions struct {
	backupFile
	backend string
	damaged bool
}

func newRestoreCommand(sh *shell) *cobra.Command {
	o := vaultRestoreOptions{backupFile: backupFile{sh: sh}}
	cmd := &cobra.Command{
		Use:   "restore FILE --data-dir DIR",
		Short: "Make a vault of a backup",
		Long: `Check a backup and make a vault of it: in a new data directory, or in the empty
storage that --backend names. Nothing is written before everything was checked, and
no sidecar serves what is there before everything was read back. A restore that was
interrupted goes on when it is started again with the same file.

The vault is as it was when the backup was taken: API keys that were revoked since
are valid again, and changes that syncers had not taken then are handed to them.`,
		Example: "  sidevault restore vault-backup.age --data-dir /var/lib/sidevault --identity identity.txt",
		Args:    operands("FILE"),
		RunE:    func(cmd *cobra.Command, args []string) error { return o.run(cmd, args[0]) },
	}
	o.addFlags(cmd)
	addSettings(cmd.Flags(), "data-dir", "identity")
	cmd.Flags().StringVar(&o.backend, "backend", "", "`URL` of an empty storage; default vault.db in the data directory")
	cmd.Flags().BoolVar(&o.damaged, "keep-damaged", false, "restore also what was damaged when the backup was made; it is served to nobody")
	return cmd
}

// settings reads the settings but for the backend, which may be any here.
func (o *vaultRestoreOptions) settings(flags *pflag.FlagSet) (settings, error) {
	own := pflag.NewFlagSet("", pflag.ContinueOnError)
	for _, name := range []string{configFlag, "data-dir", "identity"} {
		own.AddFlag(flags.Lookup(name))
	}
	return loadSettings(own, o.sh)
}

func (o *vaultRestoreOptions) run(cmd *cobra.Command, path string) error {
	ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	restrictFiles()
	cfg, err := o.settings(cmd.Flags())
	if err != nil {
		return err
	}
	if !cfg.given["data-dir"] {
		return usagef("--data-dir is required").hinted("sidevault restore %s --data-dir DIR, with the path of a new directory", quoted(path))
	}
	if o.backend == "" {
		o.backend = open.Bbolt + "://" + filepath.Join(cfg.DataDir, vaultFile)
	}
	checked, err := o.check(ctx, path, cfg, "")
	if err != nil {
		return err
	}
	if n := len(checked.Damaged); n > 0 && !o.damaged {
		return failf(exitError, "%s in the backup were damaged when it was made: %s", counted(uint64(n), "record"), listed(checked.Damaged)).
			hinted("nothing was changed; use another backup, or restore all the same with --keep-damaged: they are served to nobody")
	}
	anchor := trustAnchor{vaultID: checked.Header.Vault, recipient: checked.Header.Control}
	undo, err := o.prepare(cfg.DataDir, anchor)
	if err != nil {
		return err
	}
	result, err := o.load(ctx, checked)
	if errors.Is(err, migrate.ErrNotEmpty) || errors.Is(err, migrate.ErrUnfinished) {
		return firstOf(undo(), o.explainLoad(ctx, err))
	}
	if err != nil {
		return o.explainLoad(ctx, err)
	}
	return o.tell(cfg, checked, result)
}

// prepare makes the data directory and its trust anchor, or finds that of an earlier
// try. undo takes away what it made.
func (o *vaultRestoreOptions) prepare(dir string, anchor trustAnchor) (undo func() error, err error) {
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, failf(exitError, "make the data directory").because(err)
	}
	if err := checkDataDir(dir); err != nil {
		return nil, err
	}
	path := filepath.Join(dir, trustFile)
	err = writePrivate(path, []byte(anchor.String()))
	if errors.Is(err, fs.ErrExist) {
		there, err := readTrust(path)
		if err != nil || there != anchor {
			return nil, failf(exitConflict, "%s is of another vault; nothing was changed", path).hinted("name a new directory with --data-dir")
		}
		return func() error { return nil }, nil
	}
	if err != nil {
		return nil, failf(exitError, "write the trust anchor").because(err)
	}
	return func() error { return os.Remove(path) }, syncDir(dir)
}

func (o *vaultRestoreOptions) load(ctx context.Context, checked *vault.CheckedBackup) (result migrate.Result, err error) {
	to, err := openEnd(ctx, "--backend", o.backend, open.Options{Create: true})
	if err != nil {
		return result, err
	}
	defer func() { err = firstOf(err, to.Close()) }()
	entry, err := checked.RestoreEntry(time.Now())
	if err != nil {
		return result, err
	}
	p := newProgress(o.sh)
	defer p.end()
	return migrate.Load(ctx, migrate.LoadConfig{
		To: to, LastKey: vault.HeaderKey, NotesKey: vault.CopyingKey, Name: "backup " + checked.End.SHA256.String(),
		Each: checked.Each, Records: checked.Records, Digest: checked.Digest, Head: backends.Head(checked.End.Head),
		Entries: [][]byte{entry}, Progress: func(at migrate.Progress) { showMigration(p, at) },
	})
}

func (o *vaultRestoreOptions) explainLoad(ctx context.Context, err error) error {
	if _, said := errors.AsType[*failure](err); said {
		return err
	}
	f := failf(exitError, "restore").because(err).hinted("start it again: it goes on where it stood")
	switch {
	case ctx.Err() != nil:
		f.msg = "interrupted"
	case errors.Is(err, migrate.ErrNotEmpty):
		f.code, f.hint = exitConflict, "nothing was changed; name a new directory with --data-dir, or empty storage with --backend"
	case errors.Is(err, migrate.ErrUnfinished):
		f.code, f.hint = exitConflict, "it was begun from another file, or by sidevault migrate: finish that, or empty the storage"
	case errors.Is(err, migrate.ErrDiffers):
		f.hint = ""
	case errors.Is(err, backends.ErrUnavailable), errors.Is(err, backends.ErrUnknownOutcome):
		f.code = exitUnavailable
	}
	return f
}

func (o *vaultRestoreOptions) tell(cfg settings, b *vault.CheckedBackup, r migrate.Result) error {
	serve := "sidevault serve --data-dir " + quoted(cfg.DataDir)
	if scheme, _ := open.Scheme(o.backend); scheme != open.Bbolt || o.backend != open.Bbolt+"://"+filepath.Join(cfg.DataDir, vaultFile) {
		serve += " --backend " + quoted(open.Redact(o.backend))
	}
	for _, path := range identityFiles(cfg) {
		if path != filepath.Join(cfg.DataDir, identityFile) {
			serve += " --identity " + quoted(path)
		}
	}
	_, err := fmt.Fprintf(o.sh.out, `Restored the vault %s as of %s: %s and %s.

  audit head  %d %s

What changed since then is not in it. API keys that were revoked since are valid
again: look at "sidevault key list".

Next: %s
`, b.Header.Vault, b.Header.CreatedAt.Format(time.RFC3339), counted(r.Records, "record"), countedAs(r.Head.Seq, "audit entry", "audit entries"),
		r.Head.Seq, r.Head.Hash, serve)
	return err
}
