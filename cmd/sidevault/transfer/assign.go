package transfer

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/sidevault/sidevault/vault/secret"
	"github.com/sidevault/sidevault/vault/suggest"
)

// Integration is what entries can belong to.
type Integration struct {
	Key    string
	Fields []string // that its credentials have; none: any
}

// Credential is what entries amount to: the credential of an integration.
type Credential struct {
	Lines       []int
	Sources     []string
	Integration string
	Environment *string // nil: what all environments share
	Name        string  // "": the default one
	Fields      map[string]secret.Value
	AuthType    string
	ExpiresAt   time.Time
	Labels      map[string]string
}

// Skipped is an entry that is left out.
type Skipped struct {
	Line   int
	Source string
	Why    string
}

// Options are the optional parts of Assign.
type Options struct {
	// Environment is where entries belong that do not say; nil is what all environments
	// share. With Only an entry whose file says another environment is a problem; what the
	// mapping says counts.
	Environment *string
	Only        bool
	// Integration is what an entry without a name belongs to, and what variables are
	// fields of.
	Integration string
	Mapping     Mapping
}

// assignment is the work of Assign.
type assignment struct {
	Options
	names   names
	p       problems
	skipped []Skipped
	list    []Credential
	places  map[string]int // index in list
}

// Assign finds the credential that each entry is of. What fits no integration is
// skipped, with the reason; a credential that is there twice, or in an environment that
// is not meant, is a problem, and then there is no result.
func Assign(entries []Entry, integrations []Integration, o Options) ([]Credential, []Skipped, error) {
	a := &assignment{Options: o, names: newNames(integrations), places: map[string]int{}}
	for _, e := range entries {
		a.entry(e)
	}
	if err := a.p.err(); err != nil {
		return nil, nil, err
	}
	return a.list, a.skipped, nil
}

func (a *assignment) skip(e Entry, why string) {
	a.skipped = append(a.skipped, Skipped{Line: e.Line, Source: e.Source, Why: why})
}

func (a *assignment) entry(e Entry) {
	if e.Skip != "" {
		a.skip(e, e.Skip)
		return
	}
	t, mapped := a.Mapping.of(e.Source)
	if mapped && t.Skip {
		a.skip(e, "the mapping says so")
		return
	}
	c := Credential{
		Lines: []int{e.Line}, Sources: []string{e.Source}, Integration: e.Integration, Environment: e.Environment,
		Name: e.Name, Fields: e.Fields, AuthType: e.AuthType, ExpiresAt: e.ExpiresAt, Labels: e.Labels,
	}
	if !a.scope(&c, e, t) {
		return
	}
	if why := a.integration(&c, e, t, mapped); why != "" {
		a.skip(e, why)
		return
	}
	if t.Name != "" {
		c.Name = t.Name
	}
	if c.Name == defaultName {
		c.Name = ""
	}
	a.add(c)
}

// defaultName is the name of a credential that is given none.
const defaultName = "default"

// scope decides about the environment, and reports whether there is one.
func (a *assignment) scope(c *Credential, e Entry, t Target) bool {
	if t.Environment != "" {
		c.Environment = &t.Environment
		return true
	}
	if !e.Scoped {
		c.Environment = a.Environment
		return true
	}
	if a.Only && !same(c.Environment, a.Environment) {
		a.p.add(e.Line, "%s is of %s, and not of %s as the command line says", e.Source, scopeName(c.Environment), scopeName(a.Environment))
		return false
	}
	return true
}

func same(a, b *string) bool {
	return a == b || a != nil && b != nil && *a == *b
}

func scopeName(environment *string) string {
	if environment == nil {
		return "all environments"
	}
	return *environment
}

// integration decides about the integration and the fields, or returns why the entry
// fits none.
func (a *assignment) integration(c *Credential, e Entry, t Target, mapped bool) (why string) {
	switch {
	case mapped && t.Integration != "":
		c.Integration = t.Integration
		if e.Variable {
			c.Fields = map[string]secret.Value{fieldOr(t.Field): e.Fields[""]}
			return ""
		}
	case e.Integration != "":
	case e.Variable && a.Integration != "":
		field, _ := a.names.byKey[a.Integration].field(Variable(e.Source, ""))
		c.Integration, c.Fields = a.Integration, map[string]secret.Value{field: e.Fields[""]}
		return ""
	case e.Variable:
		key, field, why := a.names.variable(e.Source)
		if why != "" {
			return why
		}
		c.Integration, c.Fields = key, map[string]secret.Value{field: e.Fields[""]}
		return ""
	case e.Source == "" && a.Integration == "":
		a.p.add(e.Line, "the file does not say what this is: give --integration")
	case e.Source == "":
		c.Integration = a.Integration
	default:
		if c.Integration, why = a.names.record(e.Source); why != "" {
			return why
		}
	}
	c.Fields = a.names.fields(c.Integration, e.Fields, t.Fields)
	if len(c.Fields) == 0 {
		return "the mapping leaves none of its fields"
	}
	return ""
}

// add adds a credential, or fields of one that is there.
func (a *assignment) add(c Credential) {
	key := strings.Join([]string{c.Integration, scopeName(c.Environment), fmt.Sprint(c.Environment == nil), c.Name}, "\x00")
	at, there := a.places[key]
	if !there {
		a.places[key] = len(a.list)
		c.Fields = maps.Clone(c.Fields)
		a.list = append(a.list, c)
		return
	}
	first := &a.list[at]
	for _, field := range slices.Sorted(maps.Keys(c.Fields)) {
		if _, twice := first.Fields[field]; twice {
			a.p.add(c.Lines[0], "%s is the %s of %s in %s, which line %d has, too: map one of them elsewhere", c.Sources[0], field, c.Integration, scopeName(c.Environment), first.Lines[0])
			return
		}
		first.Fields[field] = c.Fields[field]
	}
	first.Lines, first.Sources = append(first.Lines, c.Lines...), append(first.Sources, c.Sources...)
}

// names finds integrations and fields by what they are called elsewhere.
type names struct {
	byName map[string][]Integration // by variable prefix
	byKey  map[string]Integration
	all    []string // prefixes
}

func newNames(list []Integration) names {
	n := names{byName: map[string][]Integration{}, byKey: map[string]Integration{}}
	for _, i := range list {
		prefix := Variable(i.Key, "")
		n.byName[prefix] = append(n.byName[prefix], i)
		n.byKey[i.Key] = i
		n.all = append(n.all, prefix)
	}
	slices.SortFunc(n.all, func(a, b string) int { return len(b) - len(a) })
	return n
}

// Variable returns the name of the variable for a field of an integration's credential:
// KEY_FIELD in upper case, with _ for every other character, and before a digit at the
// start. Without a field it is what such names begin with.
func Variable(integration, field string) string {
	text := integration
	if field != "" {
		text += "_" + field
	}
	upper := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			return r
		}
		return '_'
	}, text)
	if upper != "" && upper[0] >= '0' && upper[0] <= '9' {
		return "_" + upper
	}
	return upper
}

// variable finds the integration and the field of a variable: the longest key that it
// begins with and that has such a field.
func (n names) variable(name string) (key, field, why string) {
	asked := Variable(name, "")
	why = "no integration is called so" + n.hint(asked) + "; --map FILE says where it belongs"
	for _, prefix := range n.all {
		rest, ok := strings.CutPrefix(asked, prefix)
		if !ok || rest != "" && rest[0] != '_' {
			continue
		}
		candidates := n.byName[prefix]
		if len(candidates) > 1 {
			return "", "", fmt.Sprintf("it may be of %s or of %s; --map FILE says which", candidates[0].Key, candidates[1].Key)
		}
		if field, ok := candidates[0].field(strings.TrimPrefix(rest, "_")); ok {
			return candidates[0].Key, field, ""
		}
		if strings.HasPrefix(why, "no ") {
			why = fmt.Sprintf("%s has no such field; --map FILE says where it belongs", candidates[0].Key)
		}
	}
	return "", "", why
}

func (n names) hint(asked string) string { return suggest.Hint(asked, n.all) }

// field finds a field by the end of a variable's name.
func (i Integration) field(rest string) (string, bool) {
	if rest == "" || rest == Variable(ValueField, "") {
		return ValueField, true
	}
	for _, f := range i.Fields {
		if Variable(f, "") == rest {
			return f, true
		}
	}
	return strings.ToLower(rest), len(i.Fields) == 0
}

// record finds the integration of a path or a title: the one whose key is its last
// segment, or all of it.
func (n names) record(source string) (key, why string) {
	last := source[strings.LastIndexByte(strings.TrimRight(source, "/"), '/')+1:]
	if i, ok := n.byKey[last]; ok {
		return i.Key, ""
	}
	found := n.byName[Variable(strings.TrimRight(last, "/"), "")]
	switch len(found) {
	case 0:
		return "", "no integration is called so" + n.hint(Variable(last, "")) + "; --map FILE says where it belongs"
	case 1:
		return found[0].Key, ""
	}
	return "", fmt.Sprintf("it may be of %s or of %s; --map FILE says which", found[0].Key, found[1].Key)
}

// fields renames fields: as the mapping says, else to the integration's own spelling.
// What the sidecar does not know it refuses by name.
func (n names) fields(key string, given map[string]secret.Value, renamed map[string]string) map[string]secret.Value {
	out := make(map[string]secret.Value, len(given))
	for _, name := range slices.Sorted(maps.Keys(given)) {
		to, mapped := renamed[name]
		if !mapped {
			to = n.byKey[key].spelling(name)
		}
		if to != "" {
			out[to] = given[name]
		}
	}
	return out
}

func (i Integration) spelling(name string) string {
	if slices.Contains(i.Fields, name) {
		return name
	}
	for _, f := range i.Fields {
		if Variable(f, "") == Variable(name, "") {
			return f
		}
	}
	return name
}
