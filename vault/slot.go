package vault

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/sidevault/sidevault/envs"
	"github.com/sidevault/sidevault/vault/seal"
	"github.com/sidevault/sidevault/vault/suggest"
)

// DefaultName is the name of a slot that is given none.
const DefaultName = "default"

// Limits of what a caller may send.
const (
	MaxIntegrationKey = 255      // characters in an integration's key
	MaxName           = 128      // bytes in a slot's name
	MaxValue          = 8192     // characters in one secret field
	MaxFields         = 32       // fields in a credential
	MaxFieldBytes     = 64 << 10 // bytes in all of a credential's fields
)

// Slot is the place that a credential occupies within an org.
type Slot struct {
	Integration string
	Scope       envs.Scope
	Name        string
}

// String names the slot for people.
func (s Slot) String() string {
	text := s.Integration + " in " + s.Scope.String()
	if s.Name != DefaultName {
		text += fmt.Sprintf(" (name %q)", s.Name)
	}
	return text
}

// reservedKeys are path segments of the API where an integration's key stands.
var reservedKeys = []string{"credentials", "categories"}

// isIntegrationKey reports whether key is 1 to MaxIntegrationKey of A-Z a-z 0-9 . _ - with a
// letter or digit first.
func isIntegrationKey(key string) bool {
	for i, c := range []byte(key) {
		if !isAlphanumeric(c) && (i == 0 || c != '.' && c != '_' && c != '-') {
			return false
		}
	}
	return key != "" && len(key) <= MaxIntegrationKey
}

// CheckIntegrationKey returns an InvalidRequest unless key is 1 to 255 of
// A-Z a-z 0-9 . _ - with a letter or digit first, and not reserved.
func CheckIntegrationKey(key string) error {
	switch {
	case len(key) > MaxIntegrationKey:
		return errorf(InvalidRequest, "The integration key has %d characters; at most %d are allowed", utf8.RuneCountInString(key), MaxIntegrationKey)
	case !isIntegrationKey(key):
		return errorf(InvalidRequest, "The integration key is not valid: use 1 to %d of A-Z a-z 0-9 . _ - with a letter or digit first", MaxIntegrationKey)
	case slices.Contains(reservedKeys, key):
		return errorf(InvalidRequest, "%q is reserved and cannot be an integration key", key)
	}
	return nil
}

// Slot returns the slot of those names. A nil environment is the shared scope, an
// empty name the default one. What is not known or not well-formed is an
// InvalidRequest that says what is.
func (v *Vault) Slot(integration string, environment *string, name string) (Slot, error) {
	if err := CheckIntegrationKey(integration); err != nil {
		return Slot{}, err
	}
	scope, err := v.Scope(environment)
	if err != nil {
		return Slot{}, err
	}
	if name == "" {
		name = DefaultName
	}
	if err := checkName("name", name); err != nil {
		return Slot{}, err
	}
	return Slot{Integration: integration, Scope: scope, Name: name}, nil
}

// Scope returns the scope of an environment's name; nil is the shared one.
func (v *Vault) Scope(environment *string) (envs.Scope, error) {
	if environment == nil {
		return envs.Shared, nil
	}
	if e, ok := v.envs.Lookup(*environment); ok {
		return envs.Scope(e.Name), nil // and not the caller's text, which is of its request
	}
	known := v.envs.Names()
	switch {
	case *environment == "":
		return "", errorf(InvalidRequest, "The environment is empty").
			detailed("leave it out to mean all environments, or name one of: %s", strings.Join(known, ", "))
	default:
		return "", errorf(InvalidRequest, "Unknown environment %q%s", clip(*environment), suggest.Hint(*environment, known)).
			detailed("the environments are: %s", strings.Join(known, ", "))
	}
}

// IsName reports whether s is 1 to MaxName bytes of printable text without space
// at its ends, as names that people give must be.
func IsName(s string) bool {
	return s != "" && len(s) <= MaxName && printable(s) && strings.TrimSpace(s) == s
}

func checkName(what, name string) error {
	if !IsName(name) {
		return errorf(InvalidRequest, "The %s must be 1 to %d bytes of printable text, without space at its ends", what, MaxName)
	}
	return nil
}

func printable(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

// Clean returns foreign text as an audit entry may hold it: what is not printable
// and what is not UTF-8 is left out, and the rest is cut to MaxName bytes between
// two characters. It is for text that only describes: two different names can
// come out the same.
func Clean(s string) string {
	var b strings.Builder
	for _, r := range strings.ToValidUTF8(s, "") {
		if b.Len()+utf8.RuneLen(r) > MaxName {
			break
		}
		if unicode.IsPrint(r) {
			b.WriteRune(r)
		}
	}
	return strings.TrimSpace(b.String())
}

// clip makes foreign text fit for a message: printable, and not long.
func clip(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return -1
	}, s)
	if r := []rune(s); len(r) > 64 {
		return string(r[:64]) + "…"
	}
	return s
}

// idPrefix begins every credential's ID.
const idPrefix = "cred-"

// ID names one credential for good: cred- and a UUID (version 7, RFC 9562).
type ID string

func newID() (ID, error) {
	u, err := uuid.NewV7()
	if err != nil {
		return "", fmt.Errorf("make an ID: %w", err)
	}
	return ID(idPrefix + u.String()), nil
}

// ParseID reads an ID, with or without its prefix. Anything else is an
// InvalidRequest.
func ParseID(s string) (ID, error) {
	u, err := uuid.Parse(strings.TrimPrefix(s, idPrefix))
	// uuid.Parse takes other spellings too; the canonical one alone is an ID.
	if err != nil || !strings.EqualFold(u.String(), strings.TrimPrefix(s, idPrefix)) {
		return "", errorf(InvalidRequest, "Invalid credential ID").
			detailed("an ID is cred- and a UUID, as in cred-550e8400-e29b-41d4-a716-446655440001")
	}
	return ID(idPrefix + u.String()), nil
}

func (s Slot) place(org Org, id ID, version uint64) seal.Place {
	return seal.Place{
		Org: org.ID, Integration: s.Integration, Environment: string(s.Scope),
		Name: s.Name, ID: string(id), Version: version,
	}
}

// storable reports whether a secret field can be kept: NUL ends a string in the
// environments and databases that secrets are passed through.
func storable(s string) bool { return utf8.ValidString(s) && !strings.ContainsRune(s, 0) }
