package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/sidevault/sidevault/plugins/sdk"
)

// config is the configuration of a binding.
type config struct {
	Fields   map[string]field `json:"fields"`
	Required []string         `json:"required"`
}

// field is what one field must look like.
type field struct {
	Pattern   *string         `json:"pattern"`
	MinLength *int            `json:"minLength"`
	MaxLength *int            `json:"maxLength"`
	Prefix    oneOrMore       `json:"prefix"`
	Suffix    oneOrMore       `json:"suffix"`
	OneOf     []string        `json:"oneOf"`
	Format    *string         `json:"format"`
	Schema    json.RawMessage `json:"schema"`
	Message   string          `json:"message"`
}

// oneOrMore is a string, or a list of which one must fit.
type oneOrMore []string

func (o *oneOrMore) UnmarshalJSON(b []byte) error {
	var one string
	if json.Unmarshal(b, &one) == nil {
		*o = oneOrMore{one}
		return nil
	}
	var more []string
	if err := json.Unmarshal(b, &more); err != nil {
		return errors.New("prefix and suffix are a string or a list of strings")
	}
	*o = more
	return nil
}

// rules are a configuration that has been found sound.
type rules struct {
	required []string // sorted
	fields   []rule   // by name
}

// rule is what one field must satisfy.
type rule struct {
	name    string
	message string
	checks  []check
}

// check returns what is wrong with a text, as the rest of a sentence that begins with
// the field; "" when nothing is. It never repeats any of the text.
type check func(text string) string

// compile reads a configuration. One that checks nothing is a fault: it would accept
// everything.
func compile(c sdk.Config) (rules, error) {
	var from config
	if err := c.Decode(&from); err != nil {
		return rules{}, err
	}
	r := rules{required: slices.Compact(slices.Sorted(slices.Values(from.Required)))}
	for _, name := range slices.Sorted(maps.Keys(from.Fields)) {
		f := from.Fields[name]
		checks, err := f.compile()
		if err == nil && len(checks) == 0 && !slices.Contains(r.required, name) {
			err = errors.New("has nothing to check; give it a pattern, a length, a prefix, a format or the like")
		}
		if err != nil {
			return rules{}, fmt.Errorf("the config of the catalog: field %s: %w", name, err)
		}
		r.fields = append(r.fields, rule{name: name, message: f.Message, checks: checks})
	}
	if slices.Contains(r.required, "") {
		return rules{}, errors.New("the config of the catalog: required holds an empty name")
	}
	if len(r.fields)+len(r.required) == 0 {
		return rules{}, errors.New("the config of the catalog checks nothing; give it fields, required or both")
	}
	return r, nil
}

func (f field) compile() ([]check, error) {
	var checks []check
	for _, part := range []func() (check, error){
		f.length, f.prefixes, f.suffixes, f.choice, f.pattern, f.format, f.schema,
	} {
		c, err := part()
		if err != nil {
			return nil, err
		}
		if c != nil {
			checks = append(checks, c)
		}
	}
	return checks, nil
}

func (f field) pattern() (check, error) {
	if f.Pattern == nil {
		return nil, nil
	}
	if *f.Pattern == "" {
		return nil, errors.New("pattern is empty, and would accept nothing")
	}
	// By itself first: a)|(b would be sound only within the group.
	if _, err := regexp.Compile(*f.Pattern); err != nil {
		return nil, fmt.Errorf("pattern: %w", err)
	}
	re, err := regexp.Compile(`\A(?:` + *f.Pattern + `)\z`)
	if err != nil {
		return nil, fmt.Errorf("pattern: %w", err)
	}
	return orSay(re.MatchString, "must match "+cut(*f.Pattern, 100)), nil
}

func (f field) prefixes() (check, error) {
	return f.edges(f.Prefix, "prefix", "begin", strings.HasPrefix)
}

func (f field) suffixes() (check, error) {
	return f.edges(f.Suffix, "suffix", "end", strings.HasSuffix)
}

func (f field) edges(list []string, key, verb string, fits func(s, edge string) bool) (check, error) {
	if list == nil {
		return nil, nil
	}
	if len(list) == 0 || slices.Contains(list, "") {
		return nil, fmt.Errorf("%s is empty, and would accept everything or nothing", key)
	}
	return orSay(func(text string) bool {
		return slices.ContainsFunc(list, func(edge string) bool { return fits(text, edge) })
	}, "must "+verb+" with "+alternatives(list)), nil
}

func (f field) choice() (check, error) {
	if f.OneOf == nil {
		return nil, nil
	}
	if len(f.OneOf) == 0 {
		return nil, errors.New("oneOf is empty, and would accept nothing")
	}
	return orSay(func(text string) bool { return slices.Contains(f.OneOf, text) }, "must be "+alternatives(f.OneOf)), nil
}

func (f field) format() (check, error) {
	if f.Format == nil {
		return nil, nil
	}
	form, ok := forms[*f.Format]
	if !ok {
		return nil, fmt.Errorf("format %q is not known; it can be %s", *f.Format, strings.Join(slices.Sorted(maps.Keys(forms)), ", "))
	}
	return orSay(form.fits, "must be "+form.is), nil
}

func (f field) schema() (check, error) {
	if len(f.Schema) == 0 {
		return nil, nil
	}
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(string(f.Schema)))
	if err != nil {
		return nil, fmt.Errorf("schema: %w", err)
	}
	s, err := compileSchema(doc)
	if err != nil {
		return nil, fmt.Errorf("schema: %w", err)
	}
	return s.check, nil
}

// orSay makes a check of a predicate.
func orSay(fits func(string) bool, otherwise string) check {
	return func(text string) string {
		if fits(text) {
			return ""
		}
		return otherwise
	}
}

func alternatives(list []string) string {
	quoted := make([]string, len(list))
	for i, s := range list {
		quoted[i] = fmt.Sprintf("%q", s)
	}
	return cut(strings.Join(quoted, " or "), 200)
}

// cut shortens a text to so many characters.
func cut(s string, most int) string {
	if r := []rune(s); len(r) > most {
		return string(r[:most]) + "..."
	}
	return s
}
