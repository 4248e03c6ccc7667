package main

import (
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/sidevault/sidevault/api/client"
	"github.com/sidevault/sidevault/api/wire"
	"github.com/sidevault/sidevault/vault/secret"
)

// choice is a credential that a program is to have, whatever scope it comes from.
type choice struct{ integration, name string }

func (c choice) String() string {
	if c.name == "" || c.name == defaultName {
		return c.integration
	}
	return c.integration + ":" + c.name
}

const defaultName = "default"

// parseChoice reads INTEGRATION or INTEGRATION:NAME.
func parseChoice(s string) (choice, error) {
	integration, name, named := strings.Cut(s, ":")
	if integration == "" || named && name == "" {
		return choice{}, usagef("--credential %q is not INTEGRATION or INTEGRATION:NAME", s)
	}
	if name == "" {
		name = defaultName
	}
	return choice{integration, name}, nil
}

// mapped is a variable that a mapping names.
type mapped struct {
	variable string
	choice
	field string // "": the only one
}

// variable is what a program is given.
type variable struct {
	name  string
	from  string // the credential and field, for people
	value secret.Value
}

// selection says which credentials a program is given, and under which names.
type selection struct {
	sh          *shell
	environment *string
	chosen      []choice
	mapped      []mapped
}

// resolve reads the selected credentials, all of them or none, in the order of the
// variables' names.
func (s *selection) resolve(ctx context.Context, c *client.Client) ([]variable, error) {
	chosen := s.chosen
	if len(chosen) == 0 && len(s.mapped) == 0 {
		var err error
		if chosen, err = s.configured(ctx, c); err != nil {
			return nil, err
		}
	}
	found, err := s.read(ctx, c, chosen)
	if err != nil {
		return nil, err
	}
	var list []variable
	for _, ch := range chosen {
		for field, value := range fieldsOf(found[ch]) {
			list = append(list, variable{variableName(ch, field), ch.String() + "." + field, value})
		}
	}
	for _, m := range s.mapped {
		value, err := pick(found[m.choice], m.field)
		if err != nil {
			return nil, about(m.variable, err)
		}
		list = append(list, variable{m.variable, m.choice.String() + "." + m.field, value})
	}
	slices.SortFunc(list, func(a, b variable) int { return strings.Compare(a.name+"\x00"+a.from, b.name+"\x00"+b.from) })
	return list, refuseNames(list)
}

// about says which of several things an error is about.
func about(what string, err error) *failure {
	f := *explain(err)
	f.msg = oneLine(what) + ": " + f.msg
	return &f
}

// read resolves each credential once.
func (s *selection) read(ctx context.Context, c *client.Client, chosen []choice) (map[choice]wire.Resolved, error) {
	wanted := slices.Clone(chosen)
	for _, m := range s.mapped {
		wanted = append(wanted, m.choice)
	}
	bar := newBar(s.sh, "Reading credentials")
	defer bar.end()
	found := make(map[choice]wire.Resolved, len(wanted))
	for i, w := range wanted {
		bar.set(i, len(wanted))
		if _, done := found[w]; done {
			continue
		}
		got, err := c.Resolve(ctx, client.Slot{Integration: w.integration, Environment: s.environment, Name: w.name}, client.ResolveOptions{})
		if err != nil {
			return nil, about(describe(w.integration, s.environment, w.name), err)
		}
		warnStale(s.sh, got)
		found[w] = got.Data
	}
	return found, nil
}

func warnStale(sh *shell, got client.Found) {
	if got.Stale > 0 {
		fmt.Fprintf(sh.err, "sidevault: warning: the sidecar's storage does not answer: this may be out of date by up to %s\n", got.Stale)
	}
}

// configured returns what is set for the environment, its parents or all
// environments, as far as the caller sees it.
func (s *selection) configured(ctx context.Context, c *client.Client) ([]choice, error) {
	scopes, err := s.scopes(ctx, c)
	if err != nil {
		return nil, err
	}
	seen := map[choice]bool{}
	for cred, err := range c.List(ctx, client.CredentialFilter{PageSize: maxPage}) {
		if err != nil {
			return nil, err
		}
		if cred.Environment == nil || scopes[*cred.Environment] {
			seen[choice{cred.IntegrationID, cred.Name}] = true
		}
	}
	if len(seen) == 0 {
		return nil, failf(exitNotFound, "no credential is set for %s that this API key may read", showScope(s.environment)).
			hinted(`"sidevault list --configured" shows what is set; -e names an environment`)
	}
	return slices.SortedFunc(maps.Keys(seen), func(a, b choice) int { return strings.Compare(a.String(), b.String()) }), nil
}

// scopes returns the environment with its parents. One that the caller may not use is
// left for the sidecar to refuse.
func (s *selection) scopes(ctx context.Context, c *client.Client) (map[string]bool, error) {
	if s.environment == nil {
		return nil, nil
	}
	list, err := c.Environments(ctx)
	if err != nil {
		return nil, err
	}
	parents := map[string]*string{}
	for _, e := range list.Data {
		parents[e.Name] = e.Parent
	}
	scopes := map[string]bool{}
	for at := s.environment; at != nil && !scopes[*at]; at = parents[*at] {
		scopes[*at] = true
	}
	if _, known := parents[*s.environment]; !known {
		for _, err := range c.List(ctx, client.CredentialFilter{Environment: s.environment}) {
			if err != nil {
				return nil, err
			}
			break
		}
	}
	return scopes, nil
}

func fieldsOf(r wire.Resolved) map[string]secret.Value {
	if r.Value != nil {
		return map[string]secret.Value{"value": *r.Value}
	}
	return r.Fields
}

var (
	otherRE    = regexp.MustCompile(`[^A-Z0-9]`)
	variableRE = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
)

// variableName returns KEY_FIELD, or KEY_NAME_FIELD for another name than the default.
func variableName(c choice, field string) string {
	text := c.integration
	if c.name != defaultName {
		text += "_" + c.name
	}
	name := otherRE.ReplaceAllString(strings.ToUpper(text+"_"+field), "_")
	if name[0] >= '0' && name[0] <= '9' {
		name = "_" + name
	}
	return name
}

// loaders are variables, or the beginnings of some, that make programs run other code
// than their own: an integration's key must not come to mean one.
func loaders() []string {
	return []string{"LD_", "DYLD_", "BASH_ENV", "NODE_OPTIONS", "PERL5_", "GLIBC_TUNABLES", "JAVA_TOOL_OPTIONS", "GIT_SSH_"}
}

// refuseNames refuses names that two values have, and those that are not for values.
func refuseNames(list []variable) error {
	for i, v := range list {
		switch {
		case i > 0 && list[i-1].name == v.name:
			return usagef("%s would be %s and %s", v.name, list[i-1].from, v.from).
				hinted("give them names of their own with --map")
		case strings.HasPrefix(v.name, variablePrefix):
			return usagef("%s would have the name of a setting of sidevault, %s", v.from, v.name).hinted("name it with --map")
		case slices.ContainsFunc(loaders(), func(l string) bool { return strings.HasPrefix(v.name, l) }):
			return usagef("%s would be %s, which changes what programs run", v.from, v.name).hinted("name it with --map")
		}
	}
	return nil
}

func sameVariables(a, b []variable) bool {
	return slices.EqualFunc(a, b, func(x, y variable) bool { return x.name == y.name && x.value.Equal(y.value) })
}

// without returns the environment without what is ours: above all the key.
func without(environ []string) []string {
	return slices.DeleteFunc(slices.Clone(environ), func(line string) bool { return strings.HasPrefix(line, variablePrefix) })
}

// with lays variables over an environment.
func with(environ []string, list []variable) ([]string, error) {
	names := map[string]bool{}
	for _, v := range list {
		if strings.ContainsRune(v.value.Reveal(), 0) {
			return nil, usagef("%s (%s) holds a NUL character, which no variable can", v.name, v.from).hinted("--files gives it as a file")
		}
		names[v.name] = true
	}
	environ = slices.DeleteFunc(environ, func(line string) bool {
		name, _, _ := strings.Cut(line, "=")
		return names[name]
	})
	for _, v := range list {
		environ = append(environ, v.name+"="+v.value.Reveal())
	}
	return environ, nil
}
