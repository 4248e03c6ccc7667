package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
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
	backend     string // URL
	backendFile string // that has the URL
	damaged     bool
	form        output
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
	addOutputFlags(cmd, &o.form)
	cmd.Flags().StringVar(&o.backend, backendKey, "", "`URL` of an empty storage; default vault.db in the data directory")
	cmd.Flags().StringVar(&o.backendFile, backendFileKey, "", "`file` of its owner alone that holds the URL, in place of --backend: for a URL with a password")
	cmd.Flags().BoolVar(&o.damaged, "keep-damaged", false, "restore also what was damaged when the backup was made; it is served to nobody")
	return cmd
}

// settings reads the settings but for the backend, which may be any here.
func (o *vaultRestoreOptions) settings(flags *pflag.FlagSet) (settings, error) {
	own := pflag.NewFlagSet("", pflag.ContinueOnError)
	for _, name := range []string{configFlag, "data-dir", identityKey, passphraseKey} {
		own.AddFlag(flags.Lookup(name))
	}
	return loadSettings(own, o.sh)
}

func (o *vaultRestoreOptions) run(cmd *cobra.Command, path string) error {
	ctx, stop := interruptible(cmd.Context())
	defer stop()
	restrictFiles()
	cfg, err := o.settings(cmd.Flags())
	if err != nil {
		return err
	}
	if !cfg.given["data-dir"] {
		return usagef("--data-dir is required").hinted("sidevault restore %s --data-dir DIR, with the path of a new directory", quoted(path))
	}
	if err := o.target(cfg); err != nil {
		return err
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
	back, err := o.prepare(cfg.DataDir, anchor)
	if err != nil {
		return err
	}
	begun, result, err := o.load(ctx, checked)
	if !begun || errors.Is(err, migrate.ErrNotEmpty) || errors.Is(err, migrate.ErrUnfinished) {
		return errors.Join(o.explainLoad(ctx, err), back())
	}
	if err != nil {
		return o.explainLoad(ctx, err)
	}
	return o.tell(cfg, checked, result)
}

// target settles which storage is restored into.
func (o *vaultRestoreOptions) target(cfg settings) error {
	if o.backend == "" && o.backendFile == "" {
		o.backend = fileStorage(filepath.Join(cfg.DataDir, vaultFile)).url.Reveal()
	}
	return urlFromFile("--"+backendKey, &o.backend, o.backendFile)
}

// prepare makes the data directory and its trust anchor, or finds that of an earlier
// try. back takes away what it made.
func (o *vaultRestoreOptions) prepare(dir string, anchor trustAnchor) (back func() error, err error) {
	var made undo
	switch err := os.Mkdir(dir, 0o700); {
	case err == nil:
		made.add(func() error { return os.Remove(dir) })
	case !errors.Is(err, fs.ErrExist):
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
		return made.run, nil
	}
	if err != nil {
		return nil, firstOf(made.run(), failf(exitError, "write the trust anchor").because(err))
	}
	made.add(func() error { return os.Remove(path) })
	return made.run, errors.Join(syncDir(dir), syncDir(filepath.Dir(dir)))
}

// load puts the backup into the storage. begun says that there may be something in it.
func (o *vaultRestoreOptions) load(ctx context.Context, checked *vault.CheckedBackup) (begun bool, result migrate.Result, err error) {
	entry, err := checked.RestoreEntry(time.Now())
	if err != nil {
		return false, result, err
	}
	to, err := openEnd(ctx, "--"+backendKey, o.backend, open.Options{Create: true})
	if err != nil {
		return false, result, err
	}
	defer func() { err = firstOf(err, to.Close()) }()
	p := newBar(o.sh, "")
	defer p.end()
	result, err = migrate.Load(ctx, migrate.LoadConfig{
		To: to, LastKey: vault.HeaderKey, NotesKey: vault.CopyingKey, Name: "backup " + checked.End.SHA256.String(),
		Each: checked.Each, Records: checked.Records, Digest: checked.Digest, Head: backends.Head(checked.End.Head),
		Entries: [][]byte{entry}, Progress: func(at migrate.Progress) { showMigration(p, at) },
	})
	return true, result, err
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
	if o.form.forPrograms() {
		report := reportOf(b)
		report.AuditSeq, report.AuditHash = r.Head.Seq, r.Head.Hash.String()
		return o.form.print(o.sh.out, report)
	}
	unchecked := ""
	for _, line := range notOpened(b.Locked) {
		unchecked += "  not opened  " + line + "\n"
	}
	if n := len(b.Damaged); n > 0 {
		unchecked += fmt.Sprintf("  damaged     %s, served to nobody: %s\n", counted(uint64(n), "record"), listed(b.Damaged))
	}
	_, err := fmt.Fprintf(o.sh.out, `Restored the vault %s as of %s: %s and %s.

  control key  %s
  audit head   %d %s
  checked      %s
%s
The control key is pinned in %s.
Compare it with the one that you kept: whoever knows a recipient can make a backup of a
vault of their own. What changed since then is not in it. API keys that were revoked
since are valid again: look at "sidevault key list".

Next: %s
`, b.Header.Vault, b.Header.CreatedAt.Format(time.RFC3339), counted(r.Records, "record"), countedAs(r.Head.Seq, "audit entry", "audit entries"),
		b.Header.Control, r.Head.Seq, r.Head.Hash, counted(b.Versions, "version"), unchecked, filepath.Join(cfg.DataDir, trustFile), o.next(cfg))
	return err
}

// next is the command that serves what was restored.
func (o *vaultRestoreOptions) next(cfg settings) string {
	serve := "sidevault serve --data-dir " + quoted(cfg.DataDir)
	if cfg.file != "" {
		serve += " --config " + quoted(cfg.file)
	}
	if file := fileStorage(filepath.Join(cfg.DataDir, vaultFile)); o.backendFile != "" || o.backend != file.url.Reveal() {
		serve += " " + end("--"+backendKey, o.backend, o.backendFile)
	}
	for _, path := range identityFiles(cfg) {
		if path != filepath.Join(cfg.DataDir, identityFile) {
			serve += " --identity " + quoted(path)
		}
	}
	return serve
}
