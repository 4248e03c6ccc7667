package vault

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"filippo.io/age"

	"github.com/sidevault/sidevault/backends"
	"github.com/sidevault/sidevault/vault/backup"
	"github.com/sidevault/sidevault/vault/seal"
)

// Errors of CheckBackup, beside those of package backup.
var (
	ErrBackupRoots = errors.New("no root identity given opens the vault in the backup: it was made for others, " +
		"and without one of theirs nobody can open it")
	ErrOtherVault = errors.New("the backup is of a vault that this host does not trust: its control key is another")
)

// BackupCheck is what checking a backup needs.
type BackupCheck struct {
	// Open opens the file; it is read more than once, and must be the same each time.
	Open func() (io.ReadCloser, error)
	// Identities open the file, Roots the vault in it.
	Identities, Roots []age.Identity
	// Trusted, when not "", is the control key's recipient that the vault must have.
	Trusted string
	// Progress, when not nil, is called now and then with how many lines were read,
	// out of so many; 0 when that is not known.
	Progress func(done, total uint64)
}

// CheckedBackup is a backup that is whole and was written by a holder of the vault's
// keys.
type CheckedBackup struct {
	Header   backup.Header
	End      backup.End
	Records  uint64            // of storage, in the state that the file holds
	Versions uint64            // of credentials whose place and MAC were checked
	Locked   map[string]uint64 // by environment: versions that no identity opens, whose age header alone was checked
	// Damaged are the keys of what storage had already lost when the backup was made:
	// records, documents and key files that fail their check. Like that they were read
	// and like that they are restored, to be served to nobody.
	Damaged []string
	// Digest is that of the records, in whatever order: the exclusive or of the SHA-256
	// of each one's key, NUL and value.
	Digest [sha256.Size]byte

	check   BackupCheck
	late    map[string]int    // how many changes of a key there are
	files   map[string][]byte // what the families of keys hold
	creds   map[string][]byte // documents of credentials among the changes
	control *seal.Key
	keys    map[string][]*seal.Key // by segment
	closed  map[string]bool        // segments with a key that no identity opens
	slots   map[string]*occupant   // credentials, by ORG/ID
	orgs    []string               // slugs
}

// occupant is a credential, as the checks know it.
type occupant struct {
	place   seal.Place
	current uint64 // the version that its slot is at, 0 when it is in none
	newest  uint64 // of its records
}

// CheckBackup reads a backup to its end and checks all there is to check: the file's
// own seal, the chain of its log, the signature of every document, place and MAC of
// every record that the identities open. It takes memory for every credential, and
// for every record that changed while the backup was taken.
func CheckBackup(ctx context.Context, c BackupCheck) (*CheckedBackup, error) {
	b := &CheckedBackup{
		check: c, Locked: map[string]uint64{}, late: map[string]int{}, files: map[string][]byte{}, creds: map[string][]byte{},
		keys: map[string][]*seal.Key{}, closed: map[string]bool{}, slots: map[string]*occupant{},
	}
	if err := b.survey(ctx); err != nil {
		return nil, err
	}
	for key, doc := range b.creds {
		b.place(key, doc)
	}
	b.openScopes()
	err := b.Each(ctx, func(r backends.Record) error {
		b.Records++
		b.add(r)
		if !b.sound(r) {
			b.Damaged = append(b.Damaged, r.Key)
		}
		return nil
	}, nil)
	b.findLost()
	return b, err
}

// findLost finds credentials whose record is not there.
func (b *CheckedBackup) findLost() {
	for id, o := range b.slots {
		if o.current > o.newest {
			b.Damaged = append(b.Damaged, fmt.Sprintf("record/%s/%010d", id, o.current))
		}
	}
}

// survey reads the file once: it finds the control key, verifies the file with it,
// and notes what was written more than once.
func (b *CheckedBackup) survey(ctx context.Context) error {
	r, err := b.read(ctx, 0, func(i backup.Item) error {
		family, _, _ := strings.Cut(i.Key, "/")
		if i.Changed {
			b.late[i.Key]++
		}
		switch {
		case family == "keyfile", family == "keyinfo":
			keep(b.files, i)
		case family == "cred" && i.Changed:
			keep(b.creds, i)
		}
		return nil
	})
	if err != nil {
		return err
	}
	b.Header, b.End = r.Header(), r.End()
	if b.check.Trusted != "" && b.Header.Control != b.check.Trusted {
		return ErrOtherVault
	}
	if b.control, err = b.openControl(); err != nil {
		return err
	}
	return r.Verify(b.control)
}

func keep(m map[string][]byte, i backup.Item) {
	if i.Gone {
		delete(m, i.Key)
	} else {
		m[i.Key] = i.Value
	}
}

// read calls f with every record and entry of the file.
func (b *CheckedBackup) read(ctx context.Context, total uint64, f func(backup.Item) error) (*backup.Reader, error) {
	file, err := b.check.Open()
	if err != nil {
		return nil, err
	}
	defer file.Close()
	r, err := backup.NewReader(file, b.check.Identities...)
	if err != nil {
		return nil, err
	}
	for n := uint64(1); ; n++ {
		item, err := r.Next()
		if errors.Is(err, io.EOF) {
			return r, nil
		}
		if err == nil {
			err = f(item)
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return nil, err
		}
		if b.check.Progress != nil {
			b.check.Progress(n, total)
		}
	}
}

func (b *CheckedBackup) openControl() (*seal.Key, error) {
	for key, file := range b.files {
		if !strings.HasPrefix(key, "keyfile/"+controlSegment+"/") {
			continue
		}
		k, err := seal.Unwrap(file, b.check.Roots...)
		if errors.Is(err, seal.ErrNoIdentity) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("the control key in the backup: %w", err)
		}
		if k.Recipient() == b.Header.Control {
			return k, nil
		}
	}
	return nil, ErrBackupRoots
}

// openScopes opens the keys that the identities open. Key files that are none, or not
// the ones that the vault has made, are found when they are read as records.
func (b *CheckedBackup) openScopes() {
	for key, file := range b.files {
		path, ok := strings.CutPrefix(key, "keyfile/")
		if !ok {
			continue
		}
		segment, _, _ := strings.Cut(path, "/")
		switch k, err := seal.Unwrap(file, b.check.Roots...); {
		case unopened(err):
			b.closed[segment] = true
		case err == nil && b.names(path, k.Recipient()):
			b.keys[segment] = append(b.keys[segment], k)
		}
	}
}

// unopened reports whether a key file is one for others, as far as can be seen here.
func unopened(err error) bool {
	return errors.Is(err, seal.ErrNoIdentity) || errors.Is(err, seal.ErrPlugin)
}

// names reports whether the vault's own document says that the key at that path is the
// one of the recipient.
func (b *CheckedBackup) names(path, recipient string) bool {
	var d keyDoc
	key := "keyinfo/" + path
	doc, err := b.control.Verify(key, b.files[key])
	return err == nil && json.Unmarshal(doc, &d) == nil && d.Recipient == recipient
}

// Each calls record with every record of the state that the backup holds, and then
// entry with every entry of its log; nil functions are not called. The file must be
// the one that was checked.
func (b *CheckedBackup) Each(ctx context.Context, record func(backends.Record) error, entry func(backends.Entry) error) error {
	left := make(map[string]int, len(b.late))
	for key, n := range b.late {
		left[key] = n
	}
	r, err := b.read(ctx, b.End.Records+b.End.Changes+b.End.Entries, func(i backup.Item) error {
		if i.Key == "" {
			if entry == nil {
				return nil
			}
			return entry(i.Entry)
		}
		if i.Changed {
			left[i.Key]--
		}
		if left[i.Key] != 0 || i.Gone || record == nil {
			return nil
		}
		return record(backends.Record{Key: i.Key, Value: i.Value})
	})
	if err == nil && r.End() != b.End {
		err = fmt.Errorf("%w: it was replaced while it was read", backup.ErrDamaged)
	}
	return err
}

func (b *CheckedBackup) add(r backends.Record) {
	h := sha256.New()
	io.WriteString(h, r.Key+"\x00")
	h.Write(r.Value)
	for i, x := range h.Sum(nil) {
		b.Digest[i] ^= x
	}
}

// sound reports whether a record passes its check, and counts it.
func (b *CheckedBackup) sound(r backends.Record) bool {
	family, rest, _ := strings.Cut(r.Key, "/")
	switch family {
	case "record":
		return b.soundRecord(r, rest)
	case "keyfile":
		k, err := seal.Unwrap(r.Value, b.check.Roots...)
		return unopened(err) || err == nil && b.names(rest, k.Recipient())
	case "cred":
		return b.place(r.Key, r.Value)
	case "live":
		return b.occupied(r)
	case "org":
		b.orgs = append(b.orgs, rest)
	}
	_, err := b.control.Verify(r.Key, r.Value)
	return err == nil
}

// place notes which slot a credential's records belong to.
func (b *CheckedBackup) place(key string, signed []byte) bool {
	var d credDoc
	doc, err := b.control.Verify(key, signed)
	if err != nil || json.Unmarshal(doc, &d) != nil {
		return false
	}
	parts := strings.Split(key, "/")
	if len(parts) != 3 || d.Live == nil && d.Deleted == nil {
		return false
	}
	var slot Slot
	if d.Live != nil {
		slot = d.Live.slot()
	} else {
		slot = d.Deleted.credential(0).Slot
	}
	b.occupant(parts[1], parts[2]).place = seal.Place{
		Org: parts[1], ID: parts[2], Integration: slot.Integration, Environment: string(slot.Scope), Name: slot.Name,
	}
	return true
}

func (b *CheckedBackup) occupant(org, id string) *occupant {
	key := org + "/" + id
	if b.slots[key] == nil {
		b.slots[key] = new(occupant)
	}
	return b.slots[key]
}

// occupied notes at which version a slot is.
func (b *CheckedBackup) occupied(r backends.Record) bool {
	var d credentialDoc
	doc, err := b.control.Verify(r.Key, r.Value)
	if err != nil || json.Unmarshal(doc, &d) != nil {
		return false
	}
	b.occupant(strings.Split(r.Key, "/")[1], string(d.ID)).current = d.Version
	return true
}

func (b *CheckedBackup) soundRecord(r backends.Record, rest string) bool {
	parts := strings.Split(rest, "/")
	if len(parts) != 3 {
		return false
	}
	held, ok := b.slots[parts[0]+"/"+parts[1]]
	if !ok {
		return false
	}
	want := held.place
	if _, err := fmt.Sscanf(parts[2], "%d", &want.Version); err != nil {
		return false
	}
	held.newest = max(held.newest, want.Version)
	scope := sharedSegment
	if want.Environment != "" {
		scope = want.Environment
	}
	return b.opens(scope, r.Value, want)
}

// opens reports whether a record opens for its place, and counts it. One that is sealed
// for a key which no identity opens can be held to nothing but age's own header.
func (b *CheckedBackup) opens(scope string, file []byte, want seal.Place) bool {
	foreign := b.closed[scope]
	for _, k := range b.keys[scope] {
		got, err := k.Place(file)
		if err == nil && got == want {
			b.Versions++
			return true
		}
		if _, other := errors.AsType[*age.NoIdentityMatchError](err); !other {
			foreign = false
		}
	}
	if foreign && seal.IsFile(file) {
		b.Locked[scope]++
		return true
	}
	b.Versions++
	return false
}

// RestoreEntry returns the audit entry that a restored vault's log goes on with: which
// backup it came from.
func (b *CheckedBackup) RestoreEntry(now time.Time) ([]byte, error) {
	e := systemEntry(ActionRestoreVault, targetVault, b.Header.Vault)
	if len(b.orgs) == 1 {
		e.Org = b.orgs[0]
	}
	e.Time = now.UTC().Format(TimeFormat)
	e.Metadata = map[string]any{
		"backup_of": b.Header.CreatedAt.UTC().Format(TimeFormat), "head": b.End.Head.Seq, "records": b.Records, "damaged": len(b.Damaged),
	}
	return e.encode(nil)
}
