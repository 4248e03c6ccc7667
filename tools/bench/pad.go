package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/google/uuid"

	"github.com/sidevault/sidevault/backends"
	"github.com/sidevault/sidevault/vault/seal"
)

// template is one stored credential: its records, and what of them names it. The
// storage keys are those of docs/design/storage-keys.md.
type template struct {
	control *seal.Key // signs documents
	org     string
	name    string
	id      string
	live    backends.Record
	cred    backends.Record
	record  backends.Record
}

// pad adds copies of a credential until there are n. A million sets would take
// minutes, nearly all of them encrypting. A copy's documents are those that a set
// makes, so that it is listed and started with like any other; its age file is the
// other's, so resolving it fails.
func (v *store) pad(ctx context.Context, backend backends.Backend, n int) error {
	t, err := v.template(ctx, backend)
	if err != nil {
		return err
	}
	const together = 16 // credentials in one batch
	taken := map[string]bool{}
	for _, name := range v.names {
		taken[name] = true
	}
	var starts []int
	for i := 0; i < n; i += together {
		starts = append(starts, i)
	}
	return inParallel(starts, func(start int) error {
		var b backends.Batch
		for i := start; i < min(start+together, n); i++ {
			if !taken[name(i)] {
				b.Changes = append(b.Changes, t.copy(name(i))...)
			}
		}
		if len(b.Changes) == 0 {
			return nil
		}
		_, err := backend.Commit(ctx, b)
		return err
	})
}

func (v *store) template(ctx context.Context, backend backends.Backend) (*template, error) {
	roots, err := v.roots()
	if err != nil {
		return nil, err
	}
	t := &template{name: v.names[0]}
	first := func(prefix string) (r backends.Record) {
		page, listErr := backend.List(ctx, prefix, "", 1)
		if listErr == nil && len(page) == 0 {
			listErr = fmt.Errorf("no record below %s", prefix)
		}
		if err = errors.Join(err, listErr); err == nil {
			r = page[0]
		}
		return r
	}
	control := first("keyfile/@control/")
	t.live = first("live/")
	if err != nil {
		return nil, err
	}
	t.org = strings.Split(t.live.Key, "/")[1]
	_, after, _ := strings.Cut(string(t.live.Value), `"id":"`)
	t.id, _, _ = strings.Cut(after, `"`)
	t.cred, t.record = first("cred/"+t.org+"/"+t.id), first("record/"+t.org+"/"+t.id+"/")
	if err == nil {
		t.control, err = seal.Unwrap(control.Value, roots...)
	}
	return t, err
}

// copy returns the changes that store the template under another name and ID.
func (t *template) copy(name string) []backends.Change {
	id := "cred-" + uuid.Must(uuid.NewV7()).String()
	renamed := strings.NewReplacer(t.name, name, t.id, id)
	signed := func(r backends.Record) backends.Change {
		document, _, _ := bytes.Cut(r.Value, []byte("\n"))
		key := renamed.Replace(r.Key)
		return backends.Put(key, 0, t.control.Sign(key, []byte(renamed.Replace(string(document)))))
	}
	return []backends.Change{signed(t.live), signed(t.cred), backends.Put(renamed.Replace(t.record.Key), 0, t.record.Value)}
}
