package vault

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/sidevault/sidevault/backends"
	"github.com/sidevault/sidevault/envs"
	"github.com/sidevault/sidevault/vault/seal"
)

// Who can open which key is decided by whoever can open it: the methods below are
// for the holder of a root identity and the storage, and have no caller. Each
// changes nothing, or everything in one commit with its audit entry; a vault of
// more than 22 environments takes several, and a call that was interrupted is
// repeated.

// Holders are the recipients that can open a key.
type Holders struct {
	Name    string // of an environment, @shared or @control
	Key     int    // its number
	Readers []string
	Held    bool // this host can open it
}

// Holders returns who can open the newest key of every environment that storage has,
// of what they share, and the control key, without which nobody opens the vault.
func (v *Vault) Holders(ctx context.Context) ([]Holders, error) {
	ctx = backends.Fresh(ctx)
	infos, err := v.keyInfos(ctx)
	if err != nil {
		return nil, err
	}
	files, err := v.keyFiles(ctx)
	if err != nil {
		return nil, err
	}
	var list []Holders
	for _, path := range controlLast(infos) {
		k := infos[path]
		_, err := seal.Unwrap(files[path].Value, v.identities...)
		h := Holders{Name: k.segment, Key: k.number, Readers: k.doc.Readers, Held: err == nil}
		if n := len(list); n > 0 && list[n-1].Name == h.Name {
			list = list[:n-1]
		}
		list = append(list, h)
	}
	return list, nil
}

// controlLast returns the paths in their order, those of the control key at the end.
func controlLast(infos map[string]scopeKey) []string {
	paths := slices.Sorted(maps.Keys(infos))
	slices.SortStableFunc(paths, func(a, b string) int {
		isControl := func(p string) int { return strings.Count(p, controlSegment+"/") }
		return isControl(a) - isControl(b)
	})
	return paths
}

// Share lets recipients open the keys of some scopes, and the control key; with no
// scopes those of all, and of every environment to come.
func (v *Vault) Share(ctx context.Context, scopes []envs.Scope, recipients []string) error {
	recipients = canonical(recipients)
	add := func(readers []string) []string { return union(readers, recipients) }
	return v.changeReaders(ctx, readerChange{
		action: ActionShareEnvironment, note: map[string]any{"recipients": recipients},
		roots: func(roots []string) []string {
			if len(scopes) > 0 {
				return roots
			}
			return add(roots)
		},
		readers: func(k scopeKey) []string {
			if chosen(scopes, k) || k.segment == controlSegment {
				return add(k.doc.Readers)
			}
			return k.doc.Readers
		},
	})
}

// Unshare takes the keys of some scopes from recipients; with no scopes all keys, the
// control key among them. It takes away what is stored: whoever could open a key
// may have kept it, so the scopes are to be rotated then.
func (v *Vault) Unshare(ctx context.Context, scopes []envs.Scope, recipients []string) error {
	recipients = canonical(recipients)
	drop := func(readers []string) []string { return without(readers, recipients) }
	return v.changeReaders(ctx, readerChange{
		action: ActionUnshare, note: map[string]any{"recipients": recipients},
		roots: func(roots []string) []string {
			if len(scopes) > 0 {
				return roots
			}
			return drop(roots)
		},
		readers: func(k scopeKey) []string {
			if chosen(scopes, k) {
				return drop(k.doc.Readers)
			}
			return k.doc.Readers
		},
	})
}

// ReplaceRoot puts recipients in the place of others wherever those can open a key.
// The control key stays the same, and with it what hosts trust.
func (v *Vault) ReplaceRoot(ctx context.Context, from, to []string) error {
	from, to = canonical(from), canonical(to)
	replace := func(readers []string) []string {
		if !slices.ContainsFunc(readers, func(r string) bool { return slices.Contains(from, r) }) {
			return readers
		}
		return union(without(readers, from), to)
	}
	return v.changeReaders(ctx, readerChange{
		action: ActionRotateRoot, note: map[string]any{"from": from, "to": to},
		roots: replace, readers: func(k scopeKey) []string { return replace(k.doc.Readers) },
	})
}

// canonical returns recipients each in the one way of writing it by which it is found
// among the readers of a key, none twice.
func canonical(recipients []string) (list []string) {
	for _, r := range recipients {
		if r = seal.Canonical(r); !slices.Contains(list, r) {
			list = append(list, r)
		}
	}
	return list
}

// chosen reports whether a key is of one of the scopes; none stands for all.
func chosen(scopes []envs.Scope, k scopeKey) bool {
	return len(scopes) == 0 || slices.ContainsFunc(scopes, func(s envs.Scope) bool { return segment(s) == k.segment })
}

func union(a, b []string) []string {
	return slices.Concat(a, slices.DeleteFunc(slices.Clone(b), func(r string) bool { return slices.Contains(a, r) }))
}

func without(a, b []string) []string {
	return slices.DeleteFunc(slices.Clone(a), func(r string) bool { return slices.Contains(b, r) })
}

// readerChange says who is to open keys.
type readerChange struct {
	action  string
	note    map[string]any
	readers func(scopeKey) []string // of a key, or the same as before
	roots   func([]string) []string // of environments to come
}

// rewrapped is a key with its new readers.
type rewrapped struct {
	scopeKey
	file backends.Record
}

func (v *Vault) changeReaders(ctx context.Context, c readerChange) error {
	ctx = backends.Fresh(ctx)
	err := retry(func() error { return v.tryReaders(ctx, c) })
	if err != nil {
		return err
	}
	return v.keys.load(ctx, v)
}

// tryReaders wraps what changes, and commits it.
func (v *Vault) tryReaders(ctx context.Context, c readerChange) error {
	keys, err := v.rewrap(ctx, c)
	if err != nil {
		return err
	}
	var header headerDoc
	at, err := v.document(ctx, headerKey, &header)
	if err != nil {
		return v.lost(ctx, err, headerKey)
	}
	roots := c.roots(header.Roots)
	var last []backends.Change
	if !slices.Equal(roots, header.Roots) {
		if len(roots) == 0 {
			return nobodyLeft("environments to come")
		}
		header.Roots = roots
		put, err := v.put(headerKey, at, header)
		if err != nil {
			return err
		}
		last = append(last, put)
	}
	if len(keys)+len(last) == 0 {
		return errorf(InvalidRequest, "Nothing to change").detailed("the keys are for these recipients already, or were never for them")
	}
	return v.commitReaders(ctx, c, keys, last)
}

// rewrap returns the keys whose readers change, the control key last. It asks for
// everything that can fail before anything is committed.
func (v *Vault) rewrap(ctx context.Context, c readerChange) ([]rewrapped, error) {
	infos, err := v.keyInfos(ctx)
	if err != nil {
		return nil, err
	}
	files, err := v.keyFiles(ctx)
	if err != nil {
		return nil, err
	}
	var keys []rewrapped
	for _, path := range controlLast(infos) {
		k := infos[path]
		readers := c.readers(k)
		if slices.Equal(readers, k.doc.Readers) {
			continue
		}
		if len(readers) == 0 {
			return nil, nobodyLeft(k.segment)
		}
		if k.Key, err = seal.Unwrap(files[path].Value, v.identities...); errors.Is(err, seal.ErrNoIdentity) {
			return nil, errorf(EnvironmentLocked, "This host cannot open the key of %s", k.segment).
				detailed("only who can open a key can wrap it for others: do it on a host that holds it")
		}
		if err != nil {
			return nil, errorf(Integrity, "The key of %s cannot be opened", k.segment).because(err)
		}
		if k.Recipient() != k.doc.Recipient {
			return nil, v.integrityError(ctx, errors.New("the key of "+k.segment+" was replaced"))
		}
		k.doc.Readers = readers
		r := rewrapped{scopeKey: k, file: files[path]}
		if r.file.Value, err = k.WrapFor(readers); err != nil {
			return nil, errorf(InvalidRequest, "The key of %s cannot be wrapped for its recipients", k.segment).detailed("%s; nothing was changed", err)
		}
		keys = append(keys, r)
	}
	return keys, nil
}

func nobodyLeft(what string) error {
	return errorf(InvalidRequest, "Nobody would be left who can open the key of %s", what).
		detailed("share it with another recipient first; to destroy what is in an environment, delete and purge it")
}

// keysPerCommit is how many keys are rewrapped in one commit: a file and a document
// each, and the header.
const keysPerCommit = (backends.MaxChanges - 2) / 2

func (v *Vault) commitReaders(ctx context.Context, c readerChange, keys []rewrapped, last []backends.Change) error {
	for {
		n := min(len(keys), keysPerCommit)
		var changes []backends.Change
		var names []string
		for _, k := range keys[:n] {
			info, err := v.put(keyInfoKey(k.segment, k.number), k.info, k.doc)
			if err != nil {
				return err
			}
			changes = append(changes, backends.Put(k.file.Key, k.file.Revision, k.file.Value), info)
			if !slices.Contains(names, k.segment) {
				names = append(names, k.segment)
			}
		}
		if keys = keys[n:]; len(keys) == 0 {
			changes = append(changes, last...)
		}
		entry := systemEntry(c.action, targetVault, v.header.ID)
		entry.Metadata = maps.Clone(c.note)
		entry.Metadata["keys"] = names
		entries, err := v.forOrgs(ctx, entry)
		if err != nil {
			return err
		}
		if _, err := v.commit(ctx, changes, entries...); err != nil {
			if errors.Is(err, backends.ErrConflict) {
				return err
			}
			return storageError(err)
		}
		if len(keys) == 0 {
			return nil
		}
	}
}

// forOrgs returns an entry of what concerns the whole vault for the log of every org:
// each sees its own entries alone.
func (v *Vault) forOrgs(ctx context.Context, entry auditBody) (entries []auditBody, err error) {
	err = each(ctx, v.backend, "org/", func(r backends.Record) error {
		entry.Org = strings.TrimPrefix(r.Key, "org/")
		if len(entries) < backends.MaxEntries {
			entries = append(entries, entry)
		}
		return nil
	})
	return entries, err
}
