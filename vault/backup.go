package vault

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"filippo.io/age"
	"github.com/google/uuid"

	"github.com/sidevault/sidevault/backends"
	"github.com/sidevault/sidevault/envs"
	"github.com/sidevault/sidevault/vault/backup"
	"github.com/sidevault/sidevault/vault/seal"
)

// BackedUp says what a backup holds.
type BackedUp struct {
	Records uint64        // of storage
	Head    backends.Head // the moment whose state it is
}

// BackupOptions are the optional parts of a backup.
type BackupOptions struct {
	// Recipients can open it; default: the vault's root recipients. What is in it
	// remains encrypted for those whichever are given.
	Recipients []string
	// Progress, when not nil, is called now and then.
	Progress func(BackupProgress)
}

// BackupProgress is how far a backup has come.
type BackupProgress struct {
	Records, Entries uint64 // that are written
	Bytes            uint64 // of plaintext
}

// Backup writes a backup of the whole vault to w: every org, every environment, as of
// one moment while it goes on being used. It takes admin scope and a grant of all
// environments, the protected ones by name, and of all integrations. What was written is a backup only when the error is
// nil; docs/design/backup.md has the format, and how the moment comes about.
func (v *Vault) Backup(ctx context.Context, c Caller, w io.Writer, o BackupOptions) (done BackedUp, err error) {
	a := v.beginOn(c, ActionBackup, targetVault, v.header.ID)
	defer func() { err = a.close(ctx, err) }()
	if err := a.admin(); err != nil {
		return BackedUp{}, err
	}
	if err := a.everything(); err != nil {
		return BackedUp{}, err
	}
	if len(o.Recipients) > 0 {
		if err := v.aloneIn(ctx, c.Org); err != nil {
			return BackedUp{}, err
		}
	}
	return v.backup(ctx, a, w, o)
}

// everything refuses a caller whose grant does not cover all that a backup holds.
func (a *attempt) everything() error {
	refusal := errorf(Forbidden, "This caller may not back up the vault")
	c := a.caller
	if !slices.Contains(c.Environments, All) || !slices.Contains(c.Integrations, All) {
		return refusal.detailed(`a backup holds every environment and integration: it takes a grant of "*" for both`)
	}
	for _, name := range a.v.envs.Names() {
		if !c.covers(a.v.envs, envs.Scope(name)) {
			return refusal.detailed("a backup holds every environment, and %s is protected: a grant must name it", name)
		}
	}
	return nil
}

// aloneIn refuses a caller in whose vault there are other orgs: whoever opens the file
// sees what theirs has set, though no secret of it.
func (v *Vault) aloneIn(ctx context.Context, org Org) error {
	return each(ctx, v.backend, "org/", func(r backends.Record) error {
		if r.Key == orgKey(org.Slug) {
			return nil
		}
		return errorf(Forbidden, "This caller may not choose who can open the backup").
			detailed("the vault holds other orgs, too; without recipients the backup is for the vault's own")
	})
}

// BackupStorage is Backup for whoever holds the storage and a root identity. source
// says what asked for it: cli, or schedule.
func (v *Vault) BackupStorage(ctx context.Context, source string, w io.Writer, o BackupOptions) (done BackedUp, err error) {
	a := &attempt{v: v, entry: systemEntry(ActionBackup, targetVault, v.header.ID)}
	a.entry.Source = source
	a.entry.Org = v.onlyOrg(ctx)
	defer func() { err = a.close(ctx, err) }()
	return v.backup(ctx, a, w, o)
}

// onlyOrg returns the slug of the org, "" where there are several: what is about the
// vault is then nobody's in particular.
func (v *Vault) onlyOrg(ctx context.Context) (slug string) {
	page, err := v.backend.List(ctx, "org/", "", 2)
	if err != nil || len(page) != 1 {
		return ""
	}
	return strings.TrimPrefix(page[0].Key, "org/")
}

// backupDoc is what storage keeps of the last backup. Its commits are also the marks
// by which a backup knows that it has heard of every commit before.
type backupDoc struct {
	ID string    `json:"id"`
	At time.Time `json:"at"`
}

func (v *Vault) backup(ctx context.Context, a *attempt, w io.Writer, o BackupOptions) (BackedUp, error) {
	to, err := v.backupRecipients(ctx, o.Recipients)
	if err != nil {
		return BackedUp{}, err
	}
	if err := v.reads.flush(ctx); err != nil {
		return BackedUp{}, storageError(err)
	}
	ctx, cancel := context.WithCancel(backends.Fresh(ctx))
	defer cancel()
	t := &taking{v: v, doc: backupDoc{ID: uuid.NewString(), At: v.now()}, show: o.Progress}
	if t.heard, err = hear(ctx, v.gate.Backend); err != nil {
		return BackedUp{}, storageError(err)
	}
	a.note("backup", t.doc.ID)
	a.note("recipients", len(to))
	if err := t.announce(ctx, a); err != nil {
		return BackedUp{}, err
	}
	header := backup.Header{Vault: v.header.ID, Control: v.control.Recipient(), CreatedAt: t.doc.At, Head: backup.Head(t.heard.start)}
	if t.out, err = backup.NewWriter(w, header, to...); err != nil {
		return BackedUp{}, errorf(Internal, "The backup cannot be written").because(err)
	}
	return t.run(ctx)
}

// backupRecipients returns the given recipients, or those that the vault has at the
// moment.
func (v *Vault) backupRecipients(ctx context.Context, given []string) ([]age.Recipient, error) {
	if len(given) == 0 {
		var h headerDoc
		if _, err := v.document(backends.Fresh(ctx), headerKey, &h); err != nil {
			return nil, storageErrorOr(err)
		}
		given = h.Roots
	} else if err := seal.Usable(given); err != nil {
		return nil, errorf(InvalidRequest, "The recipients of the backup cannot be used: %s", err).because(err)
	}
	var to []age.Recipient
	for _, r := range given {
		parsed, err := seal.ParseRecipient(r)
		if err != nil {
			return nil, errorf(InvalidRequest, "A recipient of the backup is not valid: %s", err)
		}
		to = append(to, parsed)
	}
	return to, nil
}

// taking is a backup under way.
type taking struct {
	v       *Vault
	doc     backupDoc
	heard   *hearing
	out     *backup.Writer
	show    func(BackupProgress)
	records uint64
	entries uint64
}

func (t *taking) progress() {
	if t.show != nil {
		t.show(BackupProgress{Records: t.records, Entries: t.entries, Bytes: t.out.Size()})
	}
}

// run writes every record, then what changed meanwhile until there is a moment that
// the file holds the state of, then the log up to it.
func (t *taking) run(ctx context.Context) (BackedUp, error) {
	if err := t.list(ctx); err != nil {
		return BackedUp{}, backupError(err)
	}
	head, err := t.settle(ctx)
	if err != nil {
		return BackedUp{}, backupError(err)
	}
	if err := t.log(ctx, head); err != nil {
		return BackedUp{}, backupError(err)
	}
	if _, err = t.out.End(head, t.v.control); err != nil {
		return BackedUp{}, backupError(err)
	}
	return BackedUp{Records: t.records, Head: head}, nil
}

// backupError classifies what ended a backup: storage, or the one who reads it.
func backupError(err error) error {
	if _, ours := errors.AsType[*Error](err); ours {
		return err
	}
	for _, known := range []error{backends.ErrUnavailable, backends.ErrClosed, backends.ErrUnknownOutcome, backends.ErrCorrupt} {
		if errors.Is(err, known) {
			return storageError(err)
		}
	}
	return errorf(Internal, "The backup was not completed").detailed("whoever takes it went away, or could not keep it").because(err)
}

// left out of a backup: what is about this storage, not about the vault.
func isLocal(key string) bool { return key == backupKey || key == CopyingKey }

// list writes every record but those of which it is known already that they have
// changed: they come later.
func (t *taking) list(ctx context.Context) error {
	for after := ""; ; {
		page, err := t.v.backend.List(ctx, "", after, backupPage)
		if err != nil {
			return err
		}
		for _, r := range page {
			if after = r.Key; isLocal(r.Key) || t.heard.has(r.Key) {
				continue
			}
			if err := t.out.Record(r.Key, r.Value); err != nil {
				return err
			}
			t.records++
		}
		if t.progress(); len(page) < backupPage {
			return nil
		}
	}
}

// log writes the log up to the head, which no commit changes any more.
func (t *taking) log(ctx context.Context, head backends.Head) error {
	for at := (backends.Head{}); at.Seq < head.Seq; t.progress() {
		page, err := t.v.backend.Log(ctx, at.Seq, backupPage)
		if err != nil {
			return err
		}
		if len(page) == 0 {
			return fmt.Errorf("%w: log entry %d is missing", backends.ErrCorrupt, at.Seq+1)
		}
		for _, e := range page {
			if at.Seq == head.Seq {
				break
			}
			if err := e.Follows(at.Seq, at.Hash); err != nil {
				return fmt.Errorf("%w: %w", backends.ErrCorrupt, err)
			}
			at.Seq, at.Hash = e.Seq, e.Hash
			if err := t.out.Entry(e); err != nil {
				return err
			}
			t.entries++
		}
		if at.Seq == head.Seq && at.Hash != head.Hash {
			return fmt.Errorf("%w: entry %d is not the last one that was written", backends.ErrCorrupt, at.Seq)
		}
	}
	return nil
}
