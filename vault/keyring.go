package vault

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"filippo.io/age"

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
}

type orgDoc struct {
	ID   string `json:"id"`
	Slug string `json:"slug"`
}

// keyring holds the keys of the scopes that this host can open, newest first.
// It is complete when Open returns and does not change.
type keyring map[envs.Scope][]*seal.Key

// newest returns the key to seal with, or an EnvironmentLocked.
func (r keyring) newest(s envs.Scope) (*seal.Key, error) {
	if len(r[s]) == 0 {
		return nil, errorf(EnvironmentLocked, "This host has no key for %s", s).
			detailed("its records can be read and set only where a root identity opens that key")
	}
	return r[s][0], nil
}

// open opens a record with whichever of the scope's keys sealed it.
func (r keyring) open(s envs.Scope, file []byte, place seal.Place) (seal.Fields, error) {
	if _, err := r.newest(s); err != nil {
		return nil, err
	}
	var first error
	for _, k := range r[s] {
		fields, err := k.Open(file, place)
		if err == nil {
			return fields, nil
		}
		if first == nil {
			first = err
		}
	}
	return nil, first
}

// Errors of Open and Init that the one who starts the program must act on.
var (
	ErrNotVault     = errors.New("it holds no vault: sidevault init makes one")
	ErrVaultExists  = errors.New("it already holds a vault")
	ErrWrongRoot    = errors.New("no root identity given opens this vault: it was made for another identity")
	ErrUntrusted    = errors.New("it is not the vault that this host trusts: its control key differs")
	ErrHalfCopied   = errors.New("it holds half of a copy: finish it with sidevault migrate --resume")
	ErrNewerFormat  = errors.New("it was written by a newer version of sidevault: use that version or newer")
	errDamagedVault = errors.New("its header or keys fail their integrity check: restore the vault from a backup")
)

// unlock reads the header and opens every key that the identities open.
func (v *Vault) unlock(ctx context.Context, ids []age.Identity, trusted string) error {
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
	controls, err := v.unwrap(ctx, controlSegment, ids)
	if err != nil {
		return err
	}
	if len(controls) == 0 {
		return ErrWrongRoot
	}
	v.control = controls[0]
	if v.control.Recipient() != trusted {
		return ErrUntrusted
	}
	if err := v.decode(header, &v.header); err != nil {
		return fmt.Errorf("%w: %w", errDamagedVault, err)
	}
	return v.unlockScopes(ctx, ids)
}

// newerFormat reads the format without verifying the header: a newer one may be
// signed in another way.
func newerFormat(header []byte) bool {
	var h headerDoc
	line, _, _ := strings.Cut(string(header), "\n")
	return json.Unmarshal([]byte(line), &h) == nil && h.Format > format
}

func (v *Vault) unlockScopes(ctx context.Context, ids []age.Identity) error {
	v.keys = make(keyring)
	for _, scope := range v.envs.Scopes() {
		infos, err := v.keyInfos(ctx, segment(scope))
		if err == nil && len(infos) == 0 {
			// Another host may be making the same key at this moment.
			if err = v.addScope(ctx, scope); err == nil || errors.Is(err, backends.ErrConflict) {
				infos, err = v.keyInfos(ctx, segment(scope))
			}
		}
		if err != nil {
			return err
		}
		keys, err := v.unwrap(ctx, segment(scope), ids)
		if err != nil {
			return err
		}
		for _, k := range keys {
			if !infos[k.Recipient()] {
				return fmt.Errorf("%w: the key of %s was replaced", errDamagedVault, scope)
			}
		}
		v.keys[scope] = keys
	}
	return nil
}

// keyInfos returns the recipients of a scope's keys.
func (v *Vault) keyInfos(ctx context.Context, segment string) (map[string]bool, error) {
	recipients := map[string]bool{}
	err := each(ctx, v.backend, "keyinfo/"+segment+"/", func(r backends.Record) error {
		var d keyDoc
		if err := v.decode(r, &d); err != nil {
			return err
		}
		recipients[d.Recipient] = true
		return nil
	})
	return recipients, err
}

// unwrap opens the key files of a segment that the identities open, newest first.
func (v *Vault) unwrap(ctx context.Context, segment string, ids []age.Identity) ([]*seal.Key, error) {
	var keys []*seal.Key
	err := each(ctx, v.backend, "keyfile/"+segment+"/", func(r backends.Record) error {
		k, err := seal.Unwrap(r.Value, ids...)
		if errors.Is(err, seal.ErrNoIdentity) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%w: %s: %w", errDamagedVault, r.Key, err)
		}
		keys = append([]*seal.Key{k}, keys...)
		return nil
	})
	return keys, err
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

// addScope makes the key of an environment that has joined the configuration.
func (v *Vault) addScope(ctx context.Context, scope envs.Scope) error {
	_, changes, err := newScopeKey(v.control, segment(scope), v.header, v.now())
	if err != nil {
		return err
	}
	entry := systemEntry(ActionCreateEnvKey, targetEnvironment, segment(scope))
	if _, err := v.commit(ctx, changes, entry); err != nil {
		return fmt.Errorf("store the key of %s: %w", scope, err)
	}
	return nil
}

// newScopeKey makes a scope's first key and the changes that store it. A nil
// control stands for the new key itself.
func newScopeKey(control *seal.Key, segment string, h headerDoc, now time.Time) (*seal.Key, []backends.Change, error) {
	algorithm := seal.X25519
	if h.PostQuantum {
		algorithm = seal.PostQuantum
	}
	key, err := seal.NewKey(algorithm)
	if err != nil {
		return nil, nil, err
	}
	if control == nil {
		control = key
	}
	roots := make([]age.Recipient, len(h.Roots))
	for i, r := range h.Roots {
		if roots[i], err = seal.ParseRecipient(r); err != nil {
			return nil, nil, err
		}
	}
	file, err := key.Wrap(roots...)
	if err != nil {
		return nil, nil, err
	}
	info, err := putSigned(control, keyInfoKey(segment, 1), 0, keyDoc{Recipient: key.Recipient(), Readers: h.Roots, CreatedAt: now})
	if err != nil {
		return nil, nil, err
	}
	return key, []backends.Change{backends.Put(keyFileKey(segment, 1), 0, file), info}, nil
}

// systemEntry is an audit entry of something the program did by itself or for
// whoever started it.
func systemEntry(action, targetType, targetID string) auditBody {
	return auditBody{
		Action: action, Actor: Actor{ID: "system", Name: "sidevault", Kind: "system"}, Outcome: OutcomeSuccess,
		Source: "cli", TargetType: targetType, TargetID: targetID,
	}
}
