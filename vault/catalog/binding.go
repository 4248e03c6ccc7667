package catalog

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/goccy/go-yaml/ast"
	"github.com/sidevault/sidevault/vault"
	"github.com/sidevault/sidevault/vault/suggest"
)

// Limits of an entry's bindings.
const (
	minTimeout = 100 * time.Millisecond
	maxTimeout = 60 * time.Second
)

// source is where a binding's parts stand that are checked after the merge.
type source struct {
	list     string // validators or syncers
	plugin   string
	pluginAt place
	fields   []named
}

// named is a name and where it stands.
type named struct {
	name string
	at   place
}

// bound is a binding being read.
type bound struct {
	vault.Binding
	source
	allow bool // validators
	onSet vault.SyncMode
	onRem vault.SyncMode
}

func (r *reader) validators(e *entry) func(ast.Node) error {
	return r.bindings(e, "validators", func(b *bound) []member {
		return []member{{"onUnavailable", choice(map[string]func(){
			"refuse": func() { b.allow = false },
			"allow":  func() { b.allow = true },
		}, "refuse", "allow")}}
	}, func(b *bound) {
		e.Validators = append(e.Validators, vault.Validator{Binding: b.Binding, AllowUnavailable: b.allow})
	})
}

func (r *reader) syncers(e *entry) func(ast.Node) error {
	return r.bindings(e, "syncers", func(b *bound) []member {
		return []member{{"mode", r.mode(b)}}
	}, func(b *bound) {
		e.Syncers = append(e.Syncers, vault.Syncer{Binding: b.Binding, OnSet: b.onSet, OnRemove: b.onRem})
	})
}

// bindings reads a list of bindings; more are the keys that one kind has beside
// those of all.
func (r *reader) bindings(e *entry, list string, more func(*bound) []member, keep func(*bound)) func(ast.Node) error {
	return func(n ast.Node) error {
		if s, ok := n.(*ast.SequenceNode); ok && len(s.Values) > vault.MaxBindings {
			return fmt.Errorf("at most %d, not %d", vault.MaxBindings, len(s.Values))
		}
		var names []string
		return r.list(list, n, func(n ast.Node) error {
			b := &bound{source: source{list: list}}
			if err := r.binding(n, b, more(b)); err != nil || b.Plugin == "" {
				return err
			}
			if slices.Contains(names, b.Name) {
				r.fail(b.pluginAt, "%s: %s is bound twice: give each a name of its own", list, quote(b.Name))
			}
			names = append(names, b.Name)
			e.sources = append(e.sources, b.source)
			keep(b)
			return nil
		})
	}
}

func (r *reader) binding(n ast.Node, b *bound, more []member) error {
	seen, err := r.mapping(n, append([]member{
		{"plugin", checked(&b.Plugin, checkSlug)},
		{"name", checked(&b.Name, checkSlug)},
		{"config", r.config(b)},
		{"timeout", timeout(&b.Timeout)},
		{"fields", r.given(b)},
	}, more...))
	if err != nil {
		return err
	}
	r.require(r.start(n), "one of "+b.list, seen, "plugin")
	b.plugin, b.pluginAt = b.Plugin, seen["plugin"]
	if b.Name == "" {
		b.Name = b.Plugin
	}
	return nil
}

func timeout(to *time.Duration) func(ast.Node) error {
	return func(n ast.Node) error {
		s, ok := n.(*ast.StringNode)
		if !ok {
			return errors.New("a duration from 100ms to 60s is expected, as in 2s")
		}
		d, err := time.ParseDuration(s.Value)
		if err != nil || d < minTimeout || d > maxTimeout {
			return fmt.Errorf("%s: a duration from 100ms to 60s is expected, as in 2s", quote(s.Value))
		}
		*to = d
		return nil
	}
}

// given reads the names of the fields that the plugin gets. An empty list is none;
// that it is not nil says so.
func (r *reader) given(b *bound) func(ast.Node) error {
	return func(n ast.Node) error {
		if s, ok := n.(*ast.SequenceNode); ok && len(s.Values) > vault.MaxFields {
			return fmt.Errorf("at most %d, not %d", vault.MaxFields, len(s.Values))
		}
		b.Fields = []string{}
		return r.list("fields", n, func(n ast.Node) error {
			return text(func(s string) error {
				err := addUnique(&b.Fields, s, checkField)
				if err == nil {
					b.fields = append(b.fields, named{s, r.start(n)})
				}
				return err
			})(n)
		})
	}
}

// choice reads one of a few words.
func choice(words map[string]func(), known ...string) func(ast.Node) error {
	return text(func(s string) error {
		set, ok := words[s]
		if !ok {
			return fmt.Errorf("%s is neither %s nor %s%s", quote(s), known[0], known[1], suggest.Hint(s, known))
		}
		set()
		return nil
	})
}

func syncMode(to ...*vault.SyncMode) func(ast.Node) error {
	words := map[string]func(){}
	for _, m := range []vault.SyncMode{vault.Surface, vault.Swallow} {
		words[string(m)] = func() {
			for _, t := range to {
				*t = m
			}
		}
	}
	return choice(words, string(vault.Surface), string(vault.Swallow))
}

// mode reads one mode for both changes, or {set: MODE, remove: MODE}.
func (r *reader) mode(b *bound) func(ast.Node) error {
	return func(n ast.Node) error {
		if _, ok := n.(ast.MapNode); !ok {
			return syncMode(&b.onSet, &b.onRem)(n)
		}
		seen, err := r.mapping(n, []member{{"set", syncMode(&b.onSet)}, {"remove", syncMode(&b.onRem)}})
		if err == nil && len(seen) == 0 {
			err = errors.New("give set, remove or both")
		}
		return err
	}
}

// checkGiven returns the fields that bindings name and their entry does not have.
// An entry without fields accepts any.
func checkGiven(merged map[string]entry) []*Problem {
	var found []*Problem
	for _, e := range merged {
		declared := e.Fields
		if owner, ok := merged[e.CredentialOf]; ok {
			declared = owner.Fields
		}
		names := []string{vault.ValueField}
		for _, f := range declared {
			names = append(names, f.Name)
		}
		for _, s := range e.sources {
			for _, f := range s.fields {
				if len(declared) > 0 && !slices.Contains(names, f.name) {
					msg := fmt.Sprintf("fields: %s has no field %s%s", quote(e.Key), quote(f.name), suggest.Hint(f.name, names))
					found = append(found, &Problem{place: f.at, Msg: msg, sheet: e.sheet})
				}
			}
		}
	}
	return found
}

// CheckPlugins reports, as a [Problem] each, the plugins that entries bind and
// that are none of the configured ones.
func (c *Catalog) CheckPlugins(configured []string) error {
	var found []*Problem
	for _, e := range c.sources {
		for _, s := range e.sources {
			if !slices.Contains(configured, s.plugin) {
				msg := fmt.Sprintf("%s: no plugin %s is configured%s: add it to plugins.programs of the configuration",
					s.list, quote(s.plugin), suggest.Hint(s.plugin, configured))
				found = append(found, &Problem{place: s.pluginAt, Msg: msg, sheet: e.sheet})
			}
		}
	}
	return join(found)
}
