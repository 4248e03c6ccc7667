package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/sidevault/sidevault/api/client"
	"github.com/sidevault/sidevault/vault"
)

type backupOptions struct {
	remote
	recipients []string
	form       output
}

func newBackupCommand(sh *shell) *cobra.Command {
	o := backupOptions{remote: remote{sh: sh}}
	cmd := &cobra.Command{
		Use:   "backup FILE",
		Short: "Write a backup of the whole vault to a file",
		Long: `Write everything that the vault has stored, of one moment, to one new age file. The
sidecar goes on serving meanwhile. With --data-dir or --backend the storage of a
sidecar that is stopped is read; one that several hosts share can be in use.

The vault's root recipients can open the file, or those that are given. What is
secret in it remains encrypted for the root recipients either way: keep their
identities apart from it. "sidevault restore" makes a vault of it again.`,
		Example: "  sidevault backup vault-backup.age\n  sidevault backup verify vault-backup.age --identity recovery.txt",
		Args:    operands("FILE"),
		RunE:    func(cmd *cobra.Command, args []string) error { return o.run(cmd, args[0]) },
	}
	o.addFlags(cmd)
	addSettings(cmd.Flags(), storageKeys()...)
	cmd.Flags().StringArrayVar(&o.recipients, "recipient", nil, "age `recipient` that can open the file, in the place of the vault's; repeat it for more")
	addOutputFlags(cmd, &o.form)
	cmd.AddCommand(newBackupVerifyCommand(sh))
	return cmd
}

func (o *backupOptions) run(cmd *cobra.Command, path string) (err error) {
	ctx, stop := interruptible(cmd.Context())
	defer stop()
	restrictFiles()
	if exists(path) {
		return isThere(path)
	}
	file, err := createPending(path)
	if err != nil {
		return failf(exitError, "make the backup").because(err)
	}
	p := newProgress(o.sh)
	size, err := o.take(ctx, cmd, file, p)
	p.end()
	switch {
	case ctx.Err() != nil:
		return firstOf(file.drop(), failf(exitError, "interrupted: no backup was made"))
	case err != nil:
		return firstOf(err, file.drop())
	}
	switch err := file.keep(); {
	case errors.Is(err, fs.ErrExist):
		return isThere(path)
	case err != nil:
		return notKept(err)
	}
	if o.form.forPrograms() {
		return o.form.print(o.sh.out, writtenBackup{File: path, Bytes: size})
	}
	_, err = fmt.Fprintf(o.sh.out, "Wrote %s, %d bytes.\n\nNext: sidevault backup verify %s --identity IDENTITY, where the identity is kept\n", path, size, quoted(path))
	return err
}

// writtenBackup is what --json prints.
type writtenBackup struct {
	File  string `json:"file"`
	Bytes int64  `json:"bytes"`
}

func isThere(path string) error {
	return failf(exitConflict, "%s exists already; nothing was changed", path).hinted("name a new file")
}

// notKept says of a fault of the disk that it is this host's.
func notKept(err error) error {
	f := failf(exitError, "keep the backup").because(err)
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		f.hint = "make room, or name a file on another disk; nothing was left behind"
	}
	return f
}

// take writes the backup, from the sidecar or from the storage.
func (o *backupOptions) take(ctx context.Context, cmd *cobra.Command, to io.Writer, p *progress) (int64, error) {
	if namesStorage(cmd.Flags()) {
		return o.fromStorage(ctx, cmd, to, p)
	}
	c, err := o.client()
	if err != nil {
		return 0, err
	}
	w := &meter{to: to, show: func(n int64) { p.show("Received %d KiB", n>>10) }}
	n, err := c.Backup(ctx, w, o.recipients...)
	if w.err != nil {
		return n, notKept(w.err)
	}
	return n, explainBackup(err)
}

func explainBackup(err error) error {
	switch err.(type) {
	case nil, *client.Error, *client.UnreachableError:
		return err
	}
	return failf(exitUnavailable, "no backup was made").because(err).hinted("the sidecar's log says why, if it was the sidecar; try again")
}

func (o *backupOptions) fromStorage(ctx context.Context, cmd *cobra.Command, to io.Writer, p *progress) (int64, error) {
	cfg, err := loadSettings(cmd.Flags(), o.sh)
	if err != nil {
		return 0, err
	}
	v, err := openOffline(ctx, o.sh, cfg)
	if err != nil {
		return 0, err
	}
	w := &meter{to: to}
	_, err = v.vault.BackupStorage(ctx, "cli", w, vault.BackupOptions{Recipients: o.recipients, Progress: func(at vault.BackupProgress) {
		p.show("Wrote %d records and %d audit entries", at.Records, at.Entries)
	}})
	if w.err != nil {
		err = notKept(w.err)
	}
	return w.n, firstOf(err, v.close(context.WithoutCancel(ctx)))
}

// meter counts what passes it, and keeps the error that stopped it.
type meter struct {
	to   io.Writer
	n    int64
	err  error
	show func(int64)
}

func (c *meter) Write(p []byte) (int, error) {
	n, err := c.to.Write(p)
	c.err = firstOf(c.err, err)
	if c.n += int64(n); c.show != nil {
		c.show(c.n)
	}
	return n, err
}
