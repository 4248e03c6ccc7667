package vault

import (
	"regexp"
	"time"
)

// Integration is a catalog entry: something that a credential is for.
type Integration struct {
	Key         string
	Name        string // as people call it
	Category    string // a slug, such as crm
	Description string
	Docs        string // URL of the provider's page about its credentials
	Rotation    string // how to rotate it, for the person who must
	Enabled     bool
	AuthTypes   []string
	Fields      []Field // none: any fields are accepted
	// Environments restricts where a credential may be set; none: everywhere,
	// the shared scope included.
	Environments []string
	CredentialOf string // key of the integration whose credential this one uses
	Validators   []Validator
	Syncers      []Syncer
	// Registered entries were added through the API; the others come from
	// catalog files.
	Registered bool
	CreatedAt  time.Time // zero unless Registered
	UpdatedAt  time.Time // zero unless changed through the API
}

// Field describes one field of an integration's credential.
type Field struct {
	Name        string
	Description string
	Required    bool
	Secret      bool           // false: may be shown (a host name, a user name)
	Pattern     *regexp.Regexp // the whole value must match; nil: anything
}

// Catalog is the port through which the vault learns which integrations exist.
// Its answers are immutable; a reload replaces the whole Catalog.
type Catalog interface {
	// Lookup returns the entry with that key.
	Lookup(key string) (Integration, bool)

	// All returns every entry in the order of the keys. The slice is shared:
	// do not change it.
	All() []Integration
}
