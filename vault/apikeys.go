package vault

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/sidevault/sidevault/backends"
	"github.com/sidevault/sidevault/envs"
	"github.com/sidevault/sidevault/vault/secret"
	"github.com/sidevault/sidevault/vault/suggest"
)

// keyPrefix begins every API key, so that scanners for leaked secrets find them.
const keyPrefix = "svk_"

// keyDigits is how many base62 digits 32 bytes take, with leading zeros.
const keyDigits = 43

// APIKey is what is known of an API key besides its secret.
type APIKey struct {
	ID           string // a UUID
	Name         string
	Email        string // of who answers for it; "" for none
	Admin        bool
	Environments []string
	Integrations []string
	CreatedAt    time.Time
	CreatedBy    Actor
	ExpiresAt    time.Time // zero: never
	RevokedAt    time.Time // zero unless revoked
}

// NewKey is an API key with its secret, which is shown once.
type NewKey struct {
	APIKey
	Secret secret.Value
}

// KeyInput is what a caller gives to create an API key.
type KeyInput struct {
	Name         string
	Email        string
	Admin        bool
	Environments []string
	Integrations []string
	ExpiresAt    time.Time
}

// apiKeyDoc is an API key as it is stored, under the SHA-256 of its secret. A
// secret has 256 bits of entropy, so nothing slower than one hash is called for.
type apiKeyDoc struct {
	ID           string    `json:"id"`
	Name         string    `json:"name"`
	Email        string    `json:"email,omitempty"`
	Org          orgDoc    `json:"org"`
	Admin        bool      `json:"admin"`
	Environments []string  `json:"environments"`
	Integrations []string  `json:"integrations"`
	CreatedAt    time.Time `json:"createdAt"`
	CreatedBy    Actor     `json:"createdBy"`
	ExpiresAt    time.Time `json:"expiresAt,omitzero"`
	RevokedAt    time.Time `json:"revokedAt,omitzero"`
}

func (d apiKeyDoc) key() APIKey {
	return APIKey{
		ID: d.ID, Name: d.Name, Email: d.Email, Admin: d.Admin, Environments: d.Environments, Integrations: d.Integrations,
		CreatedAt: d.CreatedAt, CreatedBy: d.CreatedBy, ExpiresAt: d.ExpiresAt, RevokedAt: d.RevokedAt,
	}
}

func (d apiKeyDoc) caller() Caller {
	return Caller{
		Actor: Actor{ID: d.ID, Name: d.Name, Email: d.Email, Kind: "api_key"}, Org: Org(d.Org),
		Admin: d.Admin, Environments: d.Environments, Integrations: d.Integrations,
	}
}

// knownKey is an API key with the caller that it speaks for.
type knownKey struct {
	apiKeyDoc
	speaker Caller
}

func (d apiKeyDoc) parsed(backends.Revision) *knownKey { return &knownKey{d, d.caller()} }

// madeKey is a key on its way into storage.
type madeKey struct {
	doc    apiKeyDoc
	secret secret.Value
	key    string // in storage
}

func (m madeKey) public() NewKey { return NewKey{APIKey: m.doc.key(), Secret: m.secret} }

func newKey(in KeyInput, org Org, by Actor, now time.Time) (madeKey, error) {
	var random [32]byte
	rand.Read(random[:])
	digits := new(big.Int).SetBytes(random[:]).Text(62)
	s := keyPrefix + strings.Repeat("0", keyDigits-len(digits)) + digits
	return madeKey{
		doc: apiKeyDoc{
			ID: uuid.NewString(), Name: in.Name, Email: in.Email, Org: orgDoc(org), Admin: in.Admin,
			Environments: in.Environments, Integrations: in.Integrations, CreatedAt: now, CreatedBy: by, ExpiresAt: in.ExpiresAt,
		},
		secret: secret.New(s),
		key:    apiKeyKey(s),
	}, nil
}

// apiKeyKey returns the storage key of an API key: the SHA-256 of its secret.
func apiKeyKey(s string) string {
	var room [len(apiKeyPrefix) + 2*sha256.Size]byte // for the secret first: on the stack
	sum := sha256.Sum256(append(room[:0], s...))
	return string(hex.AppendEncode(append(room[:0], apiKeyPrefix...), sum[:]))
}

// isAPIKey reports whether s has the form of an API key.
func isAPIKey(s string) bool {
	digits, ok := strings.CutPrefix(s, keyPrefix)
	for _, c := range []byte(digits) {
		ok = ok && isAlphanumeric(c)
	}
	return ok && len(digits) == keyDigits
}

func isAlphanumeric(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

// denied is the answer to every key that is not valid.
func denied(why error) error {
	return errorf(Unauthorized, "Authentication failed").
		detailed("the API key is unknown, revoked or expired").because(why)
}

// Authenticate returns the caller whose API key it is. A key that is unknown,
// revoked or expired is Unauthorized, and the answer does not tell which.
func (v *Vault) Authenticate(ctx context.Context, key secret.Value) (Caller, error) {
	if !isAPIKey(key.Reveal()) {
		return Caller{}, denied(errors.New("it does not have the form of an API key"))
	}
	d, err := kept(ctx, v, apiKeyKey(key.Reveal()), apiKeyDoc.parsed)
	switch now := v.clock(); {
	case errors.Is(err, backends.ErrNotFound):
		return Caller{}, denied(errors.New("unknown API key"))
	case err != nil:
		return Caller{}, err
	case !d.RevokedAt.IsZero():
		return Caller{}, denied(fmt.Errorf("API key %s was revoked", d.ID))
	case !d.ExpiresAt.IsZero() && !now.Before(d.ExpiresAt):
		return Caller{}, denied(fmt.Errorf("API key %s has expired", d.ID))
	}
	return d.speaker, nil
}

// CreateKey makes an API key of the caller's org. Its grant cannot exceed the
// caller's own.
func (v *Vault) CreateKey(ctx context.Context, c Caller, in KeyInput) (key NewKey, err error) {
	a := v.beginOn(c, ActionCreateKey, targetAPIKey, "")
	defer func() { err = a.close(ctx, err) }()
	if err := a.admin(); err != nil {
		return NewKey{}, err
	}
	if err := v.checkKey(in); err != nil {
		return NewKey{}, err
	}
	made, err := newKey(in, c.Org, c.Actor, v.now())
	if err != nil {
		return NewKey{}, err
	}
	if !c.contains(v.envs, made.doc.caller()) {
		return NewKey{}, errorf(Forbidden, "A key cannot be granted more than its creator has").
			detailed("the grant of %s covers environments %s and integrations %s", c.Actor.Name, joinNames(c.Environments), joinNames(c.Integrations))
	}
	change, err := v.put(made.key, 0, made.doc)
	if err != nil {
		return NewKey{}, err
	}
	a.entry.TargetID = made.doc.ID
	a.note("name", in.Name)
	a.note("admin", in.Admin)
	if _, err := a.commit(ctx, change); err != nil {
		return NewKey{}, storageError(err)
	}
	return made.public(), nil
}

// AddKey makes an API key without a caller, for whoever holds the storage and a
// root identity: the way back in, and the way to a further org, which is made
// when there is none of that slug.
func (v *Vault) AddKey(ctx context.Context, org string, in KeyInput) (NewKey, error) {
	if err := checkSlug("org", org); err != nil {
		return NewKey{}, err
	}
	if err := v.checkKey(in); err != nil {
		return NewKey{}, err
	}
	var changes []backends.Change
	o := orgDoc{ID: uuid.NewString(), Slug: org}
	_, err := v.document(ctx, orgKey(org), &o)
	if errors.Is(err, backends.ErrNotFound) {
		change, err := v.put(orgKey(org), 0, o)
		if err != nil {
			return NewKey{}, err
		}
		changes = append(changes, change)
	} else if err != nil {
		return NewKey{}, err
	}
	entry := systemEntry(ActionCreateKey, targetAPIKey, "")
	made, err := newKey(in, Org(o), entry.Actor, v.now())
	if err != nil {
		return NewKey{}, err
	}
	change, err := v.put(made.key, 0, made.doc)
	if err != nil {
		return NewKey{}, err
	}
	entry.TargetID, entry.Org = made.doc.ID, org
	entry.Metadata = map[string]any{"admin": in.Admin, "name": in.Name}
	if _, err := v.commit(ctx, append(changes, change), entry); err != nil {
		return NewKey{}, storageError(err)
	}
	return made.public(), nil
}

// maxGrant bounds how many names a grant lists.
const maxGrant = 256

var emailRE = regexp.MustCompile(`^[^\s@<>"\\]{1,64}@[^\s@<>"\\]{1,189}$`)

func checkEmail(s string) error {
	if s != "" && (!emailRE.MatchString(s) || !printable(s)) {
		return errorf(InvalidRequest, "The email is not an e-mail address")
	}
	return nil
}

func (v *Vault) checkKey(in KeyInput) error {
	if err := checkName("name", in.Name); err != nil {
		return err
	}
	if err := checkEmail(in.Email); err != nil {
		return err
	}
	if err := CheckGrant(v.envs, in.Environments, in.Integrations); err != nil {
		return err
	}
	if !in.ExpiresAt.IsZero() && !in.ExpiresAt.After(v.now()) {
		return errorf(InvalidRequest, "expiresAt must be in the future")
	}
	return nil
}

// CheckGrant returns an InvalidRequest unless both lists have 1 to 256 members,
// the environments are in the tree or All, and the integrations are well-formed
// keys or All.
func CheckGrant(t *envs.Tree, environments, integrations []string) error {
	if len(environments) == 0 || len(integrations) == 0 || len(environments) > maxGrant || len(integrations) > maxGrant {
		return errorf(InvalidRequest, `A grant has 1 to %d environments and 1 to %d integrations; "*" stands for all`, maxGrant, maxGrant)
	}
	known := t.Names()
	for _, env := range environments {
		if env != All && !slices.Contains(known, env) {
			return errorf(InvalidRequest, "Unknown environment %q%s", clip(env), suggest.Hint(env, known)).
				detailed("the environments are: %s", joinNames(known))
		}
	}
	for _, key := range integrations {
		if key == All {
			continue
		}
		if err := CheckIntegrationKey(key); err != nil {
			return err
		}
	}
	return nil
}

// Keys returns the API keys of the caller's org whose grant is within the
// caller's own, revoked ones included, oldest first.
func (v *Vault) Keys(ctx context.Context, c Caller) (keys []APIKey, err error) {
	a := v.beginOn(c, ActionListKeys, targetAPIKey, "")
	defer func() { err = a.close(ctx, err) }()
	if err := a.admin(); err != nil {
		return nil, err
	}
	err = v.eachKey(ctx, c, func(_ backends.Record, d apiKeyDoc) error {
		keys = append(keys, d.key())
		return nil
	})
	slices.SortFunc(keys, func(a, b APIKey) int {
		return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), strings.Compare(a.ID, b.ID))
	})
	return keys, err
}

// eachKey calls f with every API key that the caller may see.
func (v *Vault) eachKey(ctx context.Context, c Caller, f func(backends.Record, apiKeyDoc) error) error {
	return each(ctx, v.backend, apiKeyPrefix, func(r backends.Record) error {
		var d apiKeyDoc
		if err := v.decode(ctx, r, &d); err != nil {
			return err
		}
		if !c.contains(v.envs, d.caller()) {
			return nil
		}
		return f(r, d)
	})
}

// RevokeKey revokes the API key with that ID, at once and for good. Revoking it
// again changes nothing and succeeds.
func (v *Vault) RevokeKey(ctx context.Context, c Caller, id string) (key APIKey, err error) {
	if u, err := uuid.Parse(id); err != nil || u.String() != id {
		// It could be the key itself: it is not quoted, and not recorded.
		return APIKey{}, errorf(InvalidRequest, "Invalid key ID").detailed("the ID of a key is a UUID, as in GET /v1/keys; it is not the key")
	}
	a := v.beginOn(c, ActionRevokeKey, targetAPIKey, id)
	defer func() { err = a.close(ctx, err) }()
	if err := a.admin(); err != nil {
		return APIKey{}, err
	}
	err = retry(func() error {
		key, err = a.revoke(ctx, id)
		return err
	})
	return key, err
}

func (a *attempt) revoke(ctx context.Context, id string) (APIKey, error) {
	var found backends.Record
	var doc apiKeyDoc
	err := a.v.eachKey(ctx, a.caller, func(r backends.Record, d apiKeyDoc) error {
		if d.ID == id {
			found, doc = r, d
		}
		return nil
	})
	if err != nil {
		return APIKey{}, err
	}
	if found.Key == "" {
		return APIKey{}, errorf(KeyNotFound, "API key not found").detailed("No API key exists with ID: %s", id)
	}
	a.note("name", doc.Name)
	a.note("wasNoop", !doc.RevokedAt.IsZero())
	if doc.RevokedAt.IsZero() {
		doc.RevokedAt = a.v.now()
	}
	change, err := a.v.put(found.Key, found.Revision, doc)
	if err != nil {
		return APIKey{}, err
	}
	_, err = a.commit(ctx, change)
	if err != nil && !errors.Is(err, backends.ErrConflict) {
		return APIKey{}, storageError(err)
	}
	return doc.key(), err
}
