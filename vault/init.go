package vault

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/sidevault/sidevault/backends"
	"github.com/sidevault/sidevault/envs"
)

// InitConfig is what a new vault needs.
type InitConfig struct {
	Backend     backends.Backend // empty
	Roots       []string         // age recipients that can open every key; at least one
	Envs        *envs.Tree       // whose names the first API key is granted
	Org         string           // slug of the first org
	PostQuantum bool             // make hybrid keys, which Roots must match
	AdminName   string           // of the first API key
	AdminEmail  string           // "" for none
	Now         func() time.Time
}

// Initialised is what Init made.
type Initialised struct {
	VaultID string
	Org     Org
	Trusted string // the control key's recipient, for Config.Trusted
	Admin   NewKey // the first API key, with admin scope for everything
}

// Init makes a vault in an empty backend: its control key, its first org and an
// admin key, in one commit. The scopes' keys are made when it is first opened. A backend that holds a vault is left as it is, with
// ErrVaultExists.
func Init(ctx context.Context, cfg InitConfig) (Initialised, error) {
	now := time.Now
	if cfg.Now != nil {
		now = cfg.Now
	}
	at := now().UTC().Truncate(time.Millisecond)
	h := headerDoc{Format: format, ID: uuid.NewString(), CreatedAt: at, Roots: canonical(cfg.Roots), PostQuantum: cfg.PostQuantum}
	org := Org{ID: uuid.NewString(), Slug: cfg.Org}
	if err := checkSlug("org", cfg.Org); err != nil {
		return Initialised{}, err
	}
	if err := checkEmail(cfg.AdminEmail); err != nil {
		return Initialised{}, err
	}
	control, err := newScopeKey(h)
	if err != nil {
		return Initialised{}, err
	}
	changes, err := keyChanges(control, controlSegment, 1, control, keyDoc{Recipient: control.Recipient(), Readers: h.Roots, CreatedAt: at})
	if err != nil {
		return Initialised{}, err
	}
	admin, err := newKey(KeyInput{
		Name: cfg.AdminName, Email: cfg.AdminEmail, Admin: true,
		Environments: append([]string{All}, cfg.Envs.Names()...), Integrations: []string{All},
	}, org, systemEntry("", "", "").Actor, at)
	if err != nil {
		return Initialised{}, err
	}
	docs := map[string]any{
		headerKey:        h,
		orgKey(org.Slug): orgDoc(org),
		admin.key:        admin.doc,
	}
	for key, doc := range docs {
		c, err := putSigned(control, key, 0, doc)
		if err != nil {
			return Initialised{}, err
		}
		changes = append(changes, c)
	}
	changes = append(changes, backends.Check(CopyingKey, 0))
	entry := systemEntry(ActionInit, targetVault, h.ID)
	entry.Org = org.Slug
	_, err = commitEntries(ctx, cfg.Backend, at, changes, entry)
	if errors.Is(err, backends.ErrConflict) {
		return Initialised{}, ErrVaultExists
	}
	if err != nil {
		return Initialised{}, err
	}
	return Initialised{VaultID: h.ID, Org: org, Trusted: control.Recipient(), Admin: admin.public()}, nil
}
