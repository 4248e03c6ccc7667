package catalog

import (
	"fmt"
	"regexp"
	"slices"

	"github.com/goccy/go-yaml/ast"
	"github.com/sidevault/sidevault/vault"
)

// top reads the whole file's value.
func (r *reader) top(n ast.Node) {
	if isNull(n) {
		return
	}
	_, err := r.mapping(n, []member{{"integrations", func(n ast.Node) error {
		if isNull(n) {
			return nil
		}
		return r.list("integrations", n, r.entry)
	}}})
	if err != nil {
		r.fail(r.start(n), "%v", err)
	}
}

// entry reads one integration. An entry without a usable key is reported and
// dropped; with any other problem it is kept, so that references to it hold.
func (r *reader) entry(n ast.Node) error {
	e := entry{at: r.start(n), Integration: vault.Integration{Category: "custom", Enabled: true}}
	seen, err := r.mapping(n, []member{
		{"key", checked(&e.Key, checkKey)},
		{"name", checked(&e.Name, checkName)},
		{"category", checked(&e.Category, checkSlug)},
		{"description", prose(&e.Description, maxDescription)},
		{"docs", checked(&e.Docs, checkURL)},
		{"rotation", prose(&e.Rotation, maxRotation)},
		{"enabled", boolean(&e.Enabled)},
		{"authTypes", r.authTypes(&e)},
		{"fields", r.fields(&e)},
		{"environments", r.environments(&e)},
		{"credentialOf", r.credentialOf(&e)},
		{"validators", r.validators(&e)},
		{"syncers", r.syncers(&e)},
	})
	if err != nil {
		return err
	}
	r.require(e.at, "an integration", seen, "key")
	if at, ok := seen["key"]; ok {
		e.at = at
	}
	if e.Name == "" {
		e.Name = e.Key
	}
	if _, ok := seen["credentialOf"]; ok {
		r.refuseOwn(seen)
	}
	r.keep(e)
	return nil
}

func (r *reader) require(at place, what string, seen map[string]place, key string) {
	if _, ok := seen[key]; !ok {
		r.fail(at, "%s without a %s", what, key)
	}
}

// refuseOwn: with credentialOf, the other entry says what the credential is.
func (r *reader) refuseOwn(seen map[string]place) {
	for _, key := range []string{"authTypes", "fields", "environments"} {
		if at, ok := seen[key]; ok {
			r.fail(at, "%s: not with credentialOf: they are those of the entry that it names", key)
		}
	}
}

func (r *reader) keep(e entry) {
	if e.Key == "" {
		return
	}
	if line, twice := r.lines[e.Key]; twice {
		r.fail(e.at, "key: %s has an entry in this file already, on line %d", quote(e.Key), line)
		return
	}
	if r.lines == nil {
		r.lines = map[string]int{}
	}
	r.lines[e.Key] = e.at.Line
	r.entries = append(r.entries, e)
}

func (r *reader) authTypes(e *entry) func(ast.Node) error {
	return func(n ast.Node) error {
		return r.list("authTypes", n, text(func(s string) error {
			return addUnique(&e.AuthTypes, s, checkSlug)
		}))
	}
}

// environments also refuses an empty list: it would read as "nowhere", and the
// vault takes it for "everywhere".
func (r *reader) environments(e *entry) func(ast.Node) error {
	return func(n ast.Node) error {
		if s, ok := n.(*ast.SequenceNode); ok && len(s.Values) == 0 {
			return fmt.Errorf("the list is empty: leave it out to allow every environment")
		}
		return r.list("environments", n, func(n ast.Node) error {
			return text(func(s string) error {
				err := addUnique(&e.Environments, s, checkEnvironment)
				if err == nil {
					e.environmentsAt = append(e.environmentsAt, r.start(n))
				}
				return err
			})(n)
		})
	}
}

func (r *reader) credentialOf(e *entry) func(ast.Node) error {
	return func(n ast.Node) error {
		e.credentialOfAt = r.start(n)
		return checked(&e.CredentialOf, checkKey)(n)
	}
}

func (r *reader) fields(e *entry) func(ast.Node) error {
	return func(n ast.Node) error {
		if s, ok := n.(*ast.SequenceNode); ok && len(s.Values) > vault.MaxFields {
			return fmt.Errorf("at most %d, not %d", vault.MaxFields, len(s.Values))
		}
		return r.list("fields", n, func(n ast.Node) error { return r.field(e, n) })
	}
}

func (r *reader) field(e *entry, n ast.Node) error {
	f := vault.Field{Secret: true}
	seen, err := r.mapping(n, []member{
		{"name", checked(&f.Name, checkField)},
		{"description", prose(&f.Description, maxDescription)},
		{"required", boolean(&f.Required)},
		{"pattern", pattern(&f.Pattern)},
		{"secret", boolean(&f.Secret)},
	})
	if err != nil {
		return err
	}
	r.require(r.start(n), "a field", seen, "name")
	if f.Name == "value" && !f.Secret {
		r.fail(seen["secret"], "secret: the field named value is the whole credential, and always secret")
	}
	if slices.ContainsFunc(e.Fields, func(g vault.Field) bool { return f.Name != "" && g.Name == f.Name }) {
		r.fail(seen["name"], "name: the field %s is given twice", quote(f.Name))
	}
	e.Fields = append(e.Fields, f)
	return nil
}

func addUnique(to *[]string, s string, check func(string) error) error {
	if err := check(s); err != nil {
		return err
	}
	if slices.Contains(*to, s) {
		return fmt.Errorf("%s is given twice", quote(s))
	}
	*to = append(*to, s)
	return nil
}

// pattern reads an RE2 expression and anchors it to the whole value. It must
// compile alone first: "a)|(?:b" would otherwise break out of the anchors.
func pattern(to **regexp.Regexp) func(ast.Node) error {
	return text(func(s string) error {
		if s == "" || len(s) > maxPattern {
			return fmt.Errorf("1 to %d bytes, not %d", maxPattern, len(s))
		}
		if _, err := regexp.Compile(s); err != nil {
			return reason(err)
		}
		whole, err := regexp.Compile("^(?:" + s + ")$")
		if err != nil {
			return reason(err)
		}
		*to = whole
		return nil
	})
}
