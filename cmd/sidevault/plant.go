package main

import (
	"context"
	"errors"

	"filippo.io/age"

	"github.com/sidevault/sidevault/backends"
	"github.com/sidevault/sidevault/backends/memory"
	"github.com/sidevault/sidevault/backends/open"
	"github.com/sidevault/sidevault/vault"
)

// prepare makes the vault in memory, proves that the identity opens it, and returns
// what stores it in the shared storage.
func (c creation) prepare(ctx context.Context, ids []age.Identity, roots []string) (created, error) {
	if err := c.checkFree(ctx); err != nil {
		return created{}, err
	}
	b := memory.New()
	made, err := c.initialise(ctx, b, ids, roots)
	if err != nil {
		return created{}, err
	}
	batches, err := copyOf(ctx, b)
	if err != nil {
		return created{}, err
	}
	return created{Initialised: made, plant: func(ctx context.Context) error { return c.plant(ctx, batches) }}, nil
}

// checkFree tells early that the storage cannot be used, or holds a vault.
func (c creation) checkFree(ctx context.Context) error {
	b, err := openStorage(ctx, c.storage, open.Options{})
	if err != nil {
		return err
	}
	defer b.Close()
	for _, key := range []string{vault.HeaderKey, vault.CopyingKey} {
		switch _, err := b.Get(ctx, key); {
		case err == nil:
			return c.taken()
		case !errors.Is(err, backends.ErrNotFound):
			return err
		}
	}
	return nil
}

func (c creation) taken() error {
	return failf(exitConflict, "the storage %s already holds a vault, or half of a copy; nothing was changed", c.storage).
		hinted("on a further host of that vault: copy %s and %s from the first into %s, with mode 0600, and serve",
			identityFile, trustFile, quoted(c.dir))
}

// copyOf returns what a vault that was just made consists of: first its header, its
// control key and what else it begins with, then the keys of the scopes.
func copyOf(ctx context.Context, b backends.Backend) ([]backends.Batch, error) {
	records, err := b.List(ctx, "", "", backends.MaxPage)
	if err != nil {
		return nil, err
	}
	entries, err := b.Log(ctx, 0, backends.MaxPage)
	if err != nil {
		return nil, err
	}
	byRevision := map[backends.Revision][]backends.Change{}
	for _, r := range records {
		byRevision[r.Revision] = append(byRevision[r.Revision], backends.Put(r.Key, 0, r.Value))
	}
	// Each commit of a new vault has one entry, so its number is its revision.
	batches := make([]backends.Batch, len(entries))
	copied := 0
	for i, e := range entries {
		copied += len(byRevision[backends.Revision(e.Seq)])
		batches[i] = backends.Batch{Changes: byRevision[backends.Revision(e.Seq)], Entries: [][]byte{e.Body}}
	}
	if copied != len(records) {
		return nil, errors.New("a record of the new vault has no audit entry")
	}
	batches[0].Changes = append(batches[0].Changes, backends.Check(vault.CopyingKey, 0))
	return batches, nil
}

// plant stores a vault. Its first commit makes it one; the keys of scopes that the
// later ones do not get stored are made by whoever opens the vault first.
func (c creation) plant(ctx context.Context, batches []backends.Batch) (err error) {
	b, err := openStorage(ctx, c.storage, open.Options{})
	if err != nil {
		return err
	}
	defer b.Close()
	for i, batch := range batches {
		if _, err := b.Commit(ctx, batch); err != nil {
			if i > 0 {
				return nil
			}
			return err
		}
	}
	return nil
}
