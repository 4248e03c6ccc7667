// Package envs knows the environments: their names, which one inherits from
// which, and the order in which a credential is looked for. It knows nothing of
// credentials, keys or storage.
package envs

import (
	"fmt"
	"regexp"
	"slices"
)

// Scope is where a credential applies: the name of an environment, or [Shared].
type Scope string

// Shared is the scope of "all environments", null on the wire. A credential
// there is found from every environment that has none of its own.
const Shared Scope = ""

// String returns the environment's name, or "all environments".
func (s Scope) String() string {
	if s == Shared {
		return "all environments"
	}
	return string(s)
}

// Ptr returns the name, or nil for Shared: the scope as it is on the wire.
func (s Scope) Ptr() *string {
	if s == Shared {
		return nil
	}
	name := string(s)
	return &name
}

// Environment is one configured environment.
type Environment struct {
	Name   string
	Parent string // "" for none: where resolving goes on before the shared scope
	// Protected environments are not covered by a grant of "*": they must be
	// named.
	Protected bool
	// Recipients are who can open the environment's key when it is made, in the
	// place of the vault's own root recipients; nil: those.
	Recipients []string
}

// Default returns the environments of a vault that configures none.
func Default() []Environment {
	return []Environment{{Name: "development"}, {Name: "staging"}, {Name: "production"}}
}

// Tree is an immutable set of environments with their parents.
type Tree struct {
	list  []Environment
	index map[string]int
}

var nameRE = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// New returns the tree of the given environments, which keeps their order. It
// refuses an empty list, a name that is not a DNS label (RFC 1123: 1 to 63 of
// a-z, 0-9 and inner hyphens), a name given twice, an unknown parent and a
// cycle of parents.
func New(list []Environment) (*Tree, error) {
	if len(list) == 0 {
		return nil, fmt.Errorf("no environments: name at least one")
	}
	t := &Tree{list: slices.Clone(list), index: make(map[string]int, len(list))}
	for i, e := range t.list {
		if !nameRE.MatchString(e.Name) {
			return nil, fmt.Errorf("environment %q: a name is 1 to 63 of a-z, 0-9 and hyphens, a letter or digit first and last", e.Name)
		}
		if _, dup := t.index[e.Name]; dup {
			return nil, fmt.Errorf("environment %q is given twice", e.Name)
		}
		t.index[e.Name] = i
	}
	for _, e := range t.list {
		if err := t.checkAncestors(e); err != nil {
			return nil, err
		}
	}
	return t, nil
}

func (t *Tree) checkAncestors(e Environment) error {
	at := e
	for range t.list {
		if at.Parent == "" {
			return nil
		}
		i, ok := t.index[at.Parent]
		if !ok {
			return fmt.Errorf("environment %q: its parent %q is not an environment", at.Name, at.Parent)
		}
		at = t.list[i]
	}
	return fmt.Errorf("environment %q: its parents form a circle", e.Name)
}

// All returns the environments in the order they were configured.
func (t *Tree) All() []Environment { return slices.Clone(t.list) }

// Names returns the environments' names in the order they were configured.
func (t *Tree) Names() []string {
	names := make([]string, len(t.list))
	for i, e := range t.list {
		names[i] = e.Name
	}
	return names
}

// Lookup returns the environment with that name.
func (t *Tree) Lookup(name string) (Environment, bool) {
	i, ok := t.index[name]
	if !ok {
		return Environment{}, false
	}
	return t.list[i], true
}

// Scopes returns every scope: the environments' and, last, the shared one.
func (t *Tree) Scopes() []Scope {
	scopes := make([]Scope, 0, len(t.list)+1)
	for _, e := range t.list {
		scopes = append(scopes, Scope(e.Name))
	}
	return append(scopes, Shared)
}

// Next returns the scope in which a credential is looked for after s: its parent or, where
// it has none, the shared one. After the shared one there is none.
func (t *Tree) Next(s Scope) Scope {
	if i, ok := t.index[string(s)]; ok {
		return Scope(t.list[i].Parent)
	}
	return Shared
}

// Chain returns the scopes in which a credential for s is looked for, in order:
// its own, its parents', the shared one.
func (t *Tree) Chain(s Scope) []Scope {
	var chain []Scope
	for ; s != Shared; s = t.Next(s) {
		chain = append(chain, s)
	}
	return append(chain, Shared)
}

// Ptr is Scope.Ptr for a scope of the tree, without making a copy of its name.
func (t *Tree) Ptr(s Scope) *string {
	if i, ok := t.index[string(s)]; ok {
		return &t.list[i].Name
	}
	return s.Ptr()
}

// Protected reports whether s is a protected environment.
func (t *Tree) Protected(s Scope) bool {
	i, ok := t.index[string(s)]
	return ok && t.list[i].Protected
}
