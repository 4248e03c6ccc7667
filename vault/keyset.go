package vault

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"filippo.io/age"

	"github.com/sidevault/sidevault/backends"
	"github.com/sidevault/sidevault/envs"
	"github.com/sidevault/sidevault/vault/seal"
)

// keyring holds the keys of the scopes. It follows what storage has: sharing and
// rotation, by whatever process, put another set of keys into it.
type keyring struct {
	set     atomic.Pointer[keySet]
	loading sync.Mutex
}

// keySet is what storage had of keys at one moment. It does not change.
type keySet struct {
	scopes map[envs.Scope][]scopeKey // newest first
	// files are the key files by their content, so that loading them again asks no
	// identity again; a nil key is one that none of them opens.
	files map[[sha256.Size]byte]*seal.Key
	// unanswered is why key files were not opened that a plugin might open: it gave no
	// answer. Until it does, this host is without those keys.
	unanswered error
}

// scopeKey is one key of a scope.
type scopeKey struct {
	*seal.Key // nil: this host cannot open it
	segment   string
	number    int
	doc       keyDoc
	info      Revision // of doc
}

// check holds a commit to this key's still being the newest of its scope: a
// rotation changes its document when it begins.
func (k scopeKey) check() backends.Change {
	return backends.Check(keyInfoKey(k.segment, k.number), k.info)
}

func (r *keyring) current() *keySet { return r.set.Load() }

// newest returns the key to seal with, or an EnvironmentLocked.
func (r *keyring) newest(s envs.Scope) (scopeKey, error) {
	if keys := r.current().scopes[s]; len(keys) > 0 && keys[0].Key != nil {
		return keys[0], nil
	}
	return scopeKey{}, locked(s)
}

func locked(s envs.Scope) error {
	return errorf(EnvironmentLocked, "This host has no key for %s", s).
		detailed("its records can be read and set only where a root identity opens that key")
}

// holds reports whether this host can read and set credentials in a scope.
func (r *keyring) holds(s envs.Scope) bool {
	_, err := r.newest(s)
	return err == nil
}

// open opens a record with whichever of the scope's keys sealed it.
func (r *keyring) open(s envs.Scope, file []byte, place seal.Place) (seal.Fields, error) {
	if _, err := r.newest(s); err != nil {
		return nil, err
	}
	var first error
	for _, k := range r.current().scopes[s] {
		if k.Key == nil {
			continue
		}
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

// settling bounds how often something is read again because it changed meanwhile.
const settling = 5

// load reads the keys that storage has, of one moment, and opens those that the
// host's identities open. When it fails, the keys are those from before.
func (r *keyring) load(ctx context.Context, v *Vault) error {
	ctx = backends.Fresh(ctx)
	r.loading.Lock()
	defer r.loading.Unlock()
	for range settling {
		before, err := v.keyInfos(ctx)
		if err != nil {
			return err
		}
		files, err := v.keyFiles(ctx)
		if err != nil {
			return err
		}
		after, err := v.keyInfos(ctx)
		if err != nil {
			return err
		}
		if !maps.EqualFunc(before, after, func(a, b scopeKey) bool { return a.info == b.info }) {
			continue
		}
		set, err := r.build(v, after, files)
		if err == nil {
			r.set.Store(set)
		}
		return err
	}
	return errorf(BackendUnavailable, "The vault's keys are being changed too often by others")
}

// keyInfos returns the keys that storage describes, not opened, by the path that
// their files and documents share.
func (v *Vault) keyInfos(ctx context.Context) (map[string]scopeKey, error) {
	infos := map[string]scopeKey{}
	err := each(ctx, v.backend, keyInfoFamily, func(r backends.Record) error {
		path := strings.TrimPrefix(r.Key, keyInfoFamily)
		k := scopeKey{info: r.Revision}
		var number string
		k.segment, number, _ = strings.Cut(path, "/")
		k.number, _ = strconv.Atoi(number)
		if err := v.decode(ctx, r, &k.doc); err != nil {
			return err
		}
		infos[path] = k
		return nil
	})
	return infos, err
}

// keyFiles returns the key files by the same paths.
func (v *Vault) keyFiles(ctx context.Context) (map[string]backends.Record, error) {
	files := map[string]backends.Record{}
	err := each(ctx, v.backend, keyFileFamily, func(r backends.Record) error {
		files[strings.TrimPrefix(r.Key, keyFileFamily)] = r
		return nil
	})
	return files, err
}

// build opens what can be opened. A file that this host can open must hold the key
// that its document names: anyone can encrypt one of their own to the host.
func (r *keyring) build(v *Vault, infos map[string]scopeKey, files map[string]backends.Record) (*keySet, error) {
	set := &keySet{scopes: map[envs.Scope][]scopeKey{}, files: map[[sha256.Size]byte]*seal.Key{}}
	for _, scope := range v.envs.Scopes() {
		prefix := segment(scope) + "/"
		for _, path := range slices.Sorted(maps.Keys(files)) {
			if !strings.HasPrefix(path, prefix) {
				continue
			}
			k, known := infos[path]
			key, err := r.unwrap(v, set, files[path].Value, k.doc)
			if errors.Is(err, seal.ErrPlugin) {
				set.unanswered = fmt.Errorf("the key of %s: %w", scope, err)
			} else if err != nil {
				return nil, fmt.Errorf("the key of %s: %w", scope, err)
			}
			if key != nil && (!known || k.doc.Recipient != key.Recipient()) {
				return nil, fmt.Errorf("%w: the key of %s was replaced", errDamagedVault, scope)
			}
			if known {
				k.Key = key
				set.scopes[scope] = append([]scopeKey{k}, set.scopes[scope]...)
			}
		}
	}
	return set, nil
}

// unwrap opens a key file, or returns nil if no identity of this host does. A file that
// has changed around a key that is open, and that is still for this host, is taken for
// what its document says: a plugin may want a person's touch for each answer.
func (r *keyring) unwrap(v *Vault, set *keySet, file []byte, d keyDoc) (*seal.Key, error) {
	sum := sha256.Sum256(file)
	old := r.current()
	key, known := old.file(sum)
	if !known && v.wrappedFor(d) {
		key = old.key(d.Recipient)
		known = key != nil
	}
	if !known {
		var err error
		key, err = seal.Unwrap(file, v.identities...)
		if errors.Is(err, seal.ErrPlugin) {
			return nil, err
		}
		if err != nil && !errors.Is(err, seal.ErrNoIdentity) {
			return nil, fmt.Errorf("%w: %w", errDamagedVault, err)
		}
	}
	set.files[sum] = key
	return key, nil
}

// file returns what is known of a key file.
func (s *keySet) file(sum [sha256.Size]byte) (key *seal.Key, known bool) {
	if s != nil {
		key, known = s.files[sum]
	}
	return key, known
}

// key returns the open key with that recipient, or nil.
func (s *keySet) key(recipient string) *seal.Key {
	if s == nil {
		return nil
	}
	for _, key := range s.files {
		if key != nil && key.Recipient() == recipient {
			return key
		}
	}
	return nil
}

// wrappedFor reports whether a key is for an identity of this host whose recipient is known.
func (v *Vault) wrappedFor(d keyDoc) bool {
	return slices.ContainsFunc(v.identities, func(id age.Identity) bool {
		own, err := seal.RecipientOf(id)
		return err == nil && slices.Contains(d.Readers, own)
	})
}

// learn notes what a key file holds that this process has made, so that loading it
// asks no identity.
func (r *keyring) learn(file []byte, key *seal.Key) {
	r.loading.Lock()
	defer r.loading.Unlock()
	set := *r.current()
	set.files = maps.Clone(set.files)
	set.files[sha256.Sum256(file)] = key
	r.set.Store(&set)
}

// noticeRotation loads the keys again if the one that a refused commit was held to
// is no longer what it was.
func (v *Vault) noticeRotation(ctx context.Context, scope envs.Scope) {
	key, err := v.keys.newest(scope)
	if err != nil {
		return
	}
	r, err := v.backend.Get(backends.Fresh(ctx), keyInfoKey(key.segment, key.number))
	if err == nil && r.Revision == key.info {
		return
	}
	if err := v.keys.load(ctx, v); err != nil {
		v.log.ErrorContext(ctx, "the keys could not be read again", "err", err)
	}
}

// openStored reads a record and opens it. While a key is rotated the record or the
// keys can be other ones than were read a moment ago: what does not open is read
// again, with the keys that storage has then. It returns backends.ErrNotFound as it
// comes.
func (v *Vault) openStored(ctx context.Context, scope envs.Scope, key string, place seal.Place) (backends.Record, seal.Fields, error) {
	var seen Revision
	var set *keySet
	for {
		file, err := v.backend.Get(ctx, key)
		if err != nil {
			return backends.Record{}, nil, notFoundOr(err)
		}
		if seen != 0 {
			if err := v.keys.load(ctx, v); err != nil {
				return backends.Record{}, nil, err
			}
		}
		fields, err := v.keys.open(scope, file.Value, place)
		if !errors.Is(err, seal.ErrIntegrity) {
			return file, fields, err
		}
		if seen == file.Revision && set.same(v.keys.current(), scope) {
			return file, nil, v.integrityError(ctx, err)
		}
		seen, set = file.Revision, v.keys.current()
		ctx = backends.Fresh(ctx)
	}
}

// same reports whether two sets have the same keys of a scope.
func (s *keySet) same(other *keySet, scope envs.Scope) bool {
	return slices.EqualFunc(s.scopes[scope], other.scopes[scope], func(a, b scopeKey) bool {
		return a.info == b.info && (a.Key == nil) == (b.Key == nil)
	})
}

// notFoundOr classifies an error of a read, but for ErrNotFound.
func notFoundOr(err error) error {
	if errors.Is(err, backends.ErrNotFound) {
		return backends.ErrNotFound
	}
	return storageError(err)
}
