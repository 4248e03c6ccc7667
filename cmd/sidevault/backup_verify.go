package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sidevault/sidevault/vault"
	"github.com/sidevault/sidevault/vault/backup"
)

// backupFile is a backup that a command reads.
type backupFile struct {
	sh    *shell
	outer string // file with the identity that opens it, "" when that is a root identity
}

func (b *backupFile) addFlags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&b.outer, "backup-identity", "", "`file` with the age identity that opens the backup, where --identity is another: it was made with --recipient")
}

// check checks the backup with the identities of the settings. trusted is the control
// key's recipient that it must have, "" for any.
func (b *backupFile) check(ctx context.Context, path string, cfg settings, trusted string) (*vault.CheckedBackup, error) {
	outer, roots, err := b.identities(cfg)
	if err != nil {
		return nil, err
	}
	p := newBar(b.sh, "Checking the backup's lines")
	checked, err := vault.CheckBackup(ctx, vault.BackupCheck{
		Open:       func() (io.ReadCloser, error) { return os.Open(path) },
		Identities: outer, Roots: roots, Trusted: trusted,
		Progress: func(done, total uint64) { p.set(int(done), int(total)) },
	})
	p.end()
	if err != nil {
		return nil, b.explain(ctx, path, cfg, err)
	}
	return checked, nil
}

func (b *backupFile) explain(ctx context.Context, path string, cfg settings, err error) error {
	f := failf(exitError, "%s", path).because(err)
	switch {
	case ctx.Err() != nil:
		return failf(exitError, "interrupted")
	case errors.Is(err, fs.ErrNotExist):
		return failf(exitNotFound, "%s does not exist", path)
	case errors.Is(err, backup.ErrNoIdentity):
		f.hint = "give an identity that it was made for: --identity FILE, or --backup-identity FILE where it was made with --recipient"
	case errors.Is(err, vault.ErrBackupRoots):
		f.hint = "give the identity of one of the vault's root recipients with --identity FILE: that in " + strings.Join(identityFiles(cfg), ", ") + " is none"
	case errors.Is(err, vault.ErrOtherVault):
		f.hint = "compare the vault's ID and recipient in " + filepath.Join(cfg.DataDir, trustFile) + ", or leave --data-dir out if the backup is of another vault"
	case errors.Is(err, backup.ErrDamaged), errors.Is(err, backup.ErrNotBackup):
		f.hint = "nothing was changed; use another backup"
	}
	return f
}

type backupVerifyOptions struct {
	backupFile
	form output
}

func newBackupVerifyCommand(sh *shell) *cobra.Command {
	o := backupVerifyOptions{backupFile: backupFile{sh: sh}}
	cmd := &cobra.Command{
		Use:   "verify FILE",
		Short: "Check a backup as a restore would, and restore nothing",
		Long: `Check that a backup is whole and was written by a holder of the vault's keys, that its
audit log is intact, and every credential in it. It takes an identity that opens the
vault. Where its identities do not open an environment's key, the versions there are
counted as not opened. With --data-dir the backup must be of the vault that this host
trusts. Nothing is changed, and no audit log gets an entry: it is the file that is read.`,
		Example: "  sidevault backup verify vault-backup.age --identity recovery.txt",
		Args:    operands("FILE"),
		RunE:    func(cmd *cobra.Command, args []string) error { return o.run(cmd, args[0]) },
	}
	o.addFlags(cmd)
	addSettings(cmd.Flags(), "data-dir", "identity")
	addOutputFlags(cmd, &o.form)
	return cmd
}

func (o *backupVerifyOptions) run(cmd *cobra.Command, path string) error {
	ctx, stop := interruptible(cmd.Context())
	defer stop()
	cfg, err := loadSettings(cmd.Flags(), o.sh)
	if err != nil {
		return err
	}
	trusted := ""
	if cfg.given["data-dir"] {
		anchor, err := readTrust(filepath.Join(cfg.DataDir, trustFile))
		if err != nil {
			return err
		}
		trusted = anchor.recipient
	}
	checked, err := o.check(ctx, path, cfg, trusted)
	if err != nil {
		return err
	}
	if o.form.forPrograms() {
		err = o.form.print(o.sh.out, reportOf(checked))
	} else {
		err = printPairs(o.sh.out, reportOf(checked).pairs()...)
	}
	if n := len(checked.Damaged); err == nil && n > 0 {
		return failf(exitError, "%s in the backup were damaged when it was made: %s", counted(uint64(n), "record"), listed(checked.Damaged)).
			hinted("the vault that it was taken of has them, too; set those credentials again")
	}
	return err
}

// listed prints the first few of what may be many.
func listed(keys []string) string {
	if len(keys) > 5 {
		return fmt.Sprintf("%q and %d more", keys[:5], len(keys)-5)
	}
	return fmt.Sprintf("%q", keys)
}

// backupReport is what --json prints.
type backupReport struct {
	Vault     string            `json:"vault"`
	Control   string            `json:"control"`
	CreatedAt time.Time         `json:"createdAt"`
	Records   uint64            `json:"records"`
	Versions  uint64            `json:"versionsChecked"`
	Locked    map[string]uint64 `json:"versionsLocked,omitempty"`
	Damaged   []string          `json:"damaged,omitempty"`
	AuditSeq  uint64            `json:"auditEntries"`
	AuditHash string            `json:"auditHead"`
}

func reportOf(b *vault.CheckedBackup) backupReport {
	return backupReport{
		Vault: b.Header.Vault, Control: b.Header.Control, CreatedAt: b.Header.CreatedAt, Records: b.Records, Versions: b.Versions,
		Locked: b.Locked, Damaged: b.Damaged, AuditSeq: b.End.Head.Seq, AuditHash: b.End.Head.Hash.String(),
	}
}

func (r backupReport) pairs() []string {
	pairs := []string{
		"vault", r.Vault, "control key", r.Control, "created", r.CreatedAt.Format(time.RFC3339), "records", fmt.Sprint(r.Records),
		"versions checked", fmt.Sprint(r.Versions), "audit log", fmt.Sprintf("intact, %d entries", r.AuditSeq), "audit head", r.AuditHash,
	}
	for _, line := range notOpened(r.Locked) {
		pairs = append(pairs, "not opened", line)
	}
	return pairs
}

// notOpened says, for each scope, of how many versions nobody can say here that they are
// genuine.
func notOpened(locked map[string]uint64) (lines []string) {
	for _, scope := range slices.Sorted(maps.Keys(locked)) {
		lines = append(lines, fmt.Sprintf("%s in %s: no identity given opens its key, so that they are whole and genuine was not checked",
			counted(locked[scope], "version"), scope))
	}
	return lines
}
