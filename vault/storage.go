package vault

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"

	jsonv2 "github.com/go-json-experiment/json"

	"github.com/sidevault/sidevault/backends"
	"github.com/sidevault/sidevault/envs"
	"github.com/sidevault/sidevault/vault/seal"
)

// The storage keys, which docs/design/storage-keys.md explains. SCOPE is an
// environment's name or @shared; NAME is the slot's, percent-encoded (RFC 3986).
// Documents are signed JSON (see [seal.Key.Sign]); files are age files.
//
//	vault                                     document: format, ID, root recipients
//	copying                                   how far a copy into this storage has come
//	backup                                    document: the last backup that was begun
//	org/SLUG                                  document: the org's UUID
//	keyfile/SCOPE/NUMBER                      file: the scope's key, for the roots
//	keyinfo/SCOPE/NUMBER                      document: its recipient and readers
//	rotate/SCOPE                              document: how far the rotation of the scope's key is
//	apikey/SHA-256                            document: an API key's name and grant
//	entry/ORG/INTEGRATION                     document: a registered or changed catalog entry
//	live/ORG/INTEGRATION/SCOPE/NAME           document: the slot's credential
//	gone/ORG/INTEGRATION/SCOPE/NAME           document: the ID of the slot's last deleted credential
//	cred/ORG/ID                               document: where a credential lives, or the deleted credential
//	record/ORG/ID/VERSION                     file: one version's place, fields and MAC
//	usage/ORG/ID/CALLER                       document: one caller's reads of the credential
//	outbox/ORG/INTEGRATION/SCOPE/NAME/BINDING document: a change that a syncer has yet to take
//	synced/ORG/INTEGRATION/SCOPE/NAME/BINDING document: the last change that it took
//
// ORG is the org's UUID; NUMBER has 4 digits, VERSION 10. SCOPE is also @control
// for the key that signs the documents.
const headerKey = HeaderKey

// Keys that a copy of a whole vault treats apart: it writes HeaderKey last, and keeps
// its own notes under CopyingKey until then. Storage that has the notes is no vault.
const (
	HeaderKey  = "vault"
	CopyingKey = "copying"
)

// backupKey has a document about the last backup, which a backup leaves out.
const backupKey = "backup"

const (
	sharedSegment  = "@shared"
	controlSegment = "@control"
)

func segment(s envs.Scope) string {
	if s == envs.Shared {
		return sharedSegment
	}
	return string(s)
}

func orgKey(slug string) string { return "org/" + slug }
func keyFileKey(segment string, n int) string {
	return fmt.Sprintf("%s%s/%04d", keyFileFamily, segment, n)
}
func keyInfoKey(segment string, n int) string {
	return fmt.Sprintf("%s%s/%04d", keyInfoFamily, segment, n)
}
func rotationKey(segment string) string           { return rotationFamily + segment }
func entryKey(org Org, integration string) string { return "entry/" + org.ID + "/" + integration }
func entryPrefix(org Org) string                  { return "entry/" + org.ID + "/" }
func liveKey(org Org, s Slot) string {
	return liveFamily + org.ID + "/" + s.Integration + "/" + segment(s.Scope) + "/" + url.PathEscape(s.Name)
}
func livePrefix(org Org) string      { return liveFamily + org.ID + "/" }
func goneKey(org Org, s Slot) string { return "gone/" + org.ID + "/" + s.path() }
func credKey(org Org, id ID) string  { return "cred/" + org.ID + "/" + string(id) }

func outboxKey(org Org, s Slot, binding string) string {
	return outboxPrefix(org) + s.path() + "/" + binding
}
func outboxPrefix(org Org) string { return outboxFamily + org.ID + "/" }
func syncedKey(outboxKey string) string {
	return "synced/" + strings.TrimPrefix(outboxKey, outboxFamily)
}

const (
	outboxFamily   = "outbox/"
	keyFileFamily  = "keyfile/"
	keyInfoFamily  = "keyinfo/"
	rotationFamily = "rotate/"
	credFamily     = "cred/"
	liveFamily     = "live/"
)

func recordKey(org Org, id ID, version uint64) string {
	return fmt.Sprintf("record/%s/%s/%010d", org.ID, id, version)
}

const apiKeyPrefix = "apikey/"

// orgOfKey returns the org's UUID in a key whose second segment it is.
func orgOfKey(key string) string {
	return strings.Split(key, "/")[1]
}

func (s Slot) path() string {
	return s.Integration + "/" + segment(s.Scope) + "/" + url.PathEscape(s.Name)
}

// document reads the signed document under key into to and returns its revision.
// Its error is backends.ErrNotFound as it came, or one of ours.
func (v *Vault) document(ctx context.Context, key string, to any) (backends.Revision, error) {
	r, err := v.backend.Get(ctx, key)
	if errors.Is(err, backends.ErrNotFound) {
		return 0, backends.ErrNotFound
	}
	if err != nil {
		return 0, storageError(err)
	}
	return r.Revision, v.decode(ctx, r, to)
}

// kept returns what parse makes of the signed document under key. Where the backend
// keeps it in memory it is made once, and shared: nobody changes it. The error is
// as document's.
func kept[D, T any](ctx context.Context, v *Vault, key string, parse func(D, backends.Revision) *T) (*T, error) {
	view, err := v.gate.view(ctx, key)
	if err != nil {
		return nil, notFoundOr(err)
	}
	if made, ok := view.Made.(*T); ok {
		return made, nil
	}
	var d D
	if err := v.decode(ctx, view.Record, &d); err != nil {
		return nil, err
	}
	made := parse(d, view.Record.Revision)
	if view.Keeper != nil {
		view.Keeper.Keep(made, decodedSize+len(view.Record.Value))
	}
	return made, nil
}

// decodedSize is about what a decoded document takes beyond the length of its text.
const decodedSize = 256

// decode verifies and decodes a document that storage returned. The decoder is twice as
// fast as the standard one, and what is read for the first time waits for it.
func (v *Vault) decode(ctx context.Context, r backends.Record, to any) error {
	doc, err := v.control.Verify(r.Key, r.Value)
	if err == nil {
		err = jsonv2.Unmarshal(doc, to)
	}
	if err != nil {
		return v.integrityError(ctx, fmt.Errorf("%s: %w", r.Key, err))
	}
	return nil
}

// put returns the change that stores doc, signed, under key.
func (v *Vault) put(key string, at backends.Revision, doc any) (backends.Change, error) {
	return putSigned(v.control, key, at, doc)
}

func putSigned(control *seal.Key, key string, at backends.Revision, doc any) (backends.Change, error) {
	b, err := json.Marshal(doc)
	if err != nil {
		return backends.Change{}, fmt.Errorf("encode %s: %w", key, err)
	}
	return backends.Put(key, at, control.Sign(key, b)), nil
}

// integrityError counts and classifies a record that fails its check.
func (v *Vault) integrityError(ctx context.Context, err error) error {
	v.metrics.IntegrityFailure()
	v.log.ErrorContext(ctx, "a stored record fails its integrity check and is served to nobody", ofRequest(requestID(ctx)), "err", err)
	return errorf(Integrity, "The stored record fails its integrity check").
		detailed("it was altered, moved or written without the vault's keys, and is served to nobody; restore it from a backup or set the credential again").
		because(err)
}

// storageError classifies a backend's error for the caller. ErrNotFound and
// ErrConflict mean something to their caller and must be handled before.
func storageError(err error) error {
	switch {
	case errors.Is(err, backends.ErrUnknownOutcome):
		return errorf(BackendUnavailable, "Storage did not confirm the change").
			detailed("it was applied whole or not at all: read the status before trying again").because(err)
	case errors.Is(err, backends.ErrUnavailable), errors.Is(err, backends.ErrClosed):
		return errorf(BackendUnavailable, "Storage is unavailable").
			detailed("nothing was changed; try again shortly").because(err)
	case errors.Is(err, context.DeadlineExceeded):
		return errorf(BackendUnavailable, "Storage did not answer in time").
			detailed("nothing was changed; try again shortly").because(err)
	case errors.Is(err, backends.ErrCorrupt):
		return errorf(Integrity, "Storage is damaged").
			detailed("nothing was changed; restore the vault from a backup").because(err)
	default:
		return errorf(Internal, "Internal error").because(err)
	}
}

// storageErrorOr is storageError where there may be none.
func storageErrorOr(err error) error {
	if err == nil {
		return nil
	}
	return storageError(err)
}

// each calls f with every record below prefix, in order.
func each(ctx context.Context, b backends.Backend, prefix string, f func(backends.Record) error) error {
	for after := ""; ; {
		page, err := b.List(ctx, prefix, after, backends.MaxPage)
		if err != nil {
			return storageError(err)
		}
		for _, r := range page {
			if err := f(r); err != nil {
				return err
			}
		}
		if len(page) < backends.MaxPage {
			return nil
		}
		after = page[len(page)-1].Key
	}
}
