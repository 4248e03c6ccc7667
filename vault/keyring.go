package vault

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sidevault/sidevault/backends"
	"github.com/sidevault/sidevault/envs"
	"github.com/sidevault/sidevault/vault/seal"
)

// format is the version of everything stored. A vault of a greater one is left
// alone.
const format = 1

// headerDoc describes the vault.
type headerDoc struct {
	Format      int       `json:"format"`
	ID          string    `json:"id"`
	CreatedAt   time.Time `json:"createdAt"`
	Roots       []string  `json:"roots"` // recipients that every key is wrapped for
	PostQuantum bool      `json:"postQuantum,omitempty"`
}

// keyDoc describes a scope's key. It ties the key file, which age does not
// authenticate, to this vault.
type keyDoc struct {
	Recipient string    `json:"recipient"`
	Readers   []string  `json:"readers"` // root recipients of the key file
	CreatedAt time.Time `json:"createdAt"`
	// RetiredAt is when a newer key took its place. Records are still read with it,
	// as long as the rotation goes on.
	RetiredAt time.Time `json:"retiredAt,omitzero"`
}

type orgDoc struct {
	ID   string `json:"id"`
	Slug string `json:"slug"`
}

// Errors of Open and Init that the one who starts the program must act on.
var (
	ErrNotVault     = errors.New("it holds no vault: sidevault init makes one")
	ErrVaultExists  = errors.New("it already holds a vault")
	ErrWrongRoot    = errors.New("no root identity given opens this vault: it was made for another identity")
	ErrUntrusted    = errors.New("it is not the vault that this host trusts: its control key differs")
	ErrHalfCopied   = errors.New("it holds half of a copy: finish it with sidevault migrate --resume, or with the same sidevault restore")
	ErrNewerFormat  = errors.New("it was written by a newer version of sidevault: use that version or newer")
	errDamagedVault = errors.New("its header or keys fail their integrity check: restore the vault from a backup")
)

// unlock reads the header and opens every key that the identities open.
func (v *Vault) unlock(ctx context.Context, trusted string) error {
	if _, err := v.backend.Get(ctx, CopyingKey); err == nil {
		return ErrHalfCopied
	} else if !errors.Is(err, backends.ErrNotFound) {
		return err
	}
	header, err := v.backend.Get(ctx, headerKey)
	if errors.Is(err, backends.ErrNotFound) {
		return ErrNotVault
	}
	if err != nil {
		return err
	}
	if newerFormat(header.Value) {
		return ErrNewerFormat
	}
	if err := v.unlockControl(ctx, trusted); err != nil {
		return err
	}
	if err := v.decode(ctx, header, &v.header); err != nil {
		return fmt.Errorf("%w: %w", errDamagedVault, err)
	}
	return v.unlockScopes(ctx)
}

// unlockControl opens the control key: the one that this host trusts.
func (v *Vault) unlockControl(ctx context.Context, trusted string) error {
	opened := false
	err := each(ctx, v.backend, keyFileFamily+controlSegment+"/", func(r backends.Record) error {
		k, err := seal.Unwrap(r.Value, v.identities...)
		switch {
		case errors.Is(err, seal.ErrNoIdentity):
			return nil
		case errors.Is(err, seal.ErrPlugin):
			return err
		case err != nil:
			return fmt.Errorf("%w: %s: %w", errDamagedVault, r.Key, err)
		}
		opened = true
		if k.Recipient() == trusted {
			v.control = k
		}
		return nil
	})
	switch {
	case err != nil:
		return err
	case !opened:
		return ErrWrongRoot
	case v.control == nil:
		return ErrUntrusted
	}
	return nil
}

// newerFormat reads the format without verifying the header: a newer one may be
// signed in another way.
func newerFormat(header []byte) bool {
	var h headerDoc
	line, _, _ := strings.Cut(string(header), "\n")
	return json.Unmarshal([]byte(line), &h) == nil && h.Format > format
}

// unlockScopes opens the keys of the scopes, and makes those of environments that
// have joined the configuration.
func (v *Vault) unlockScopes(ctx context.Context) error {
	if err := v.keys.load(ctx, v); err != nil {
		return err
	}
	if err := v.keys.current().unanswered; err != nil {
		return err
	}
	for _, scope := range v.envs.Scopes() {
		if len(v.keys.current().scopes[scope]) > 0 {
			continue
		}
		// Another host may be making the same key at this moment.
		if err := v.addScope(ctx, scope); err != nil && !errors.Is(err, backends.ErrConflict) {
			return err
		}
		if err := v.keys.load(ctx, v); err != nil {
			return err
		}
	}
	return nil
}

// StoredEnvironments returns the names of the environments that storage has keys
// of, which needs no key.
func StoredEnvironments(ctx context.Context, b backends.Backend) ([]string, error) {
	var names []string
	err := each(ctx, b, "keyfile/", func(r backends.Record) error {
		name := strings.Split(r.Key, "/")[1]
		if name != sharedSegment && name != controlSegment && !slices.Contains(names, name) {
			names = append(names, name)
		}
		return nil
	})
	return names, err
}

// addScope makes the key of an environment that has joined the configuration: for
// the recipients that the configuration names for it, else for the vault's.
func (v *Vault) addScope(ctx context.Context, scope envs.Scope) error {
	readers := v.header.Roots
	if e, _ := v.envs.Lookup(string(scope)); len(e.Recipients) > 0 {
		readers = canonical(e.Recipients)
	}
	key, err := newScopeKey(v.header)
	if err != nil {
		return err
	}
	changes, err := keyChanges(v.control, segment(scope), 1, key, keyDoc{Recipient: key.Recipient(), Readers: readers, CreatedAt: v.now()})
	if err != nil {
		return fmt.Errorf("make the key of %s: %w", scope, err)
	}
	entry := systemEntry(ActionCreateEnvKey, targetEnvironment, segment(scope))
	if _, err := v.commit(ctx, changes, entry); err != nil {
		return fmt.Errorf("store the key of %s: %w", scope, err)
	}
	return nil
}

// newScopeKey makes a key of the kind that the vault's keys have.
func newScopeKey(h headerDoc) (*seal.Key, error) {
	if h.PostQuantum {
		return seal.NewKey(seal.PostQuantum)
	}
	return seal.NewKey(seal.X25519)
}

// keyChanges returns the changes that store a scope's new key, and its document.
func keyChanges(control *seal.Key, segment string, number int, key *seal.Key, d keyDoc) ([]backends.Change, error) {
	file, err := key.WrapFor(d.Readers)
	if err != nil {
		return nil, err
	}
	info, err := putSigned(control, keyInfoKey(segment, number), 0, d)
	if err != nil {
		return nil, err
	}
	return []backends.Change{backends.Put(keyFileKey(segment, number), 0, file), info}, nil
}

// systemEntry is an audit entry of something the program did by itself or for
// whoever started it.
func systemEntry(action, targetType, targetID string) auditBody {
	return auditBody{
		Action: action, Actor: Actor{ID: "system", Name: "sidevault", Kind: "system"}, Outcome: OutcomeSuccess,
		Source: "cli", TargetType: targetType, TargetID: targetID,
	}
}
