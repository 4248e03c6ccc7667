package mcp

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/jsonschema-go/jsonschema"

	"github.com/sidevault/sidevault/vault"
	"github.com/sidevault/sidevault/vault/secret"
	"github.com/sidevault/sidevault/vault/suggest"
)

// kind is the type of a parameter.
type kind int

const (
	text   kind = iota
	flag        // true or false
	number      // a whole number
	moment      // an RFC 3339 time
	opaque      // one secret string
	fields      // an object of secret strings
)

// param is a parameter of a tool.
type param struct {
	name     string
	kind     kind
	doc      string
	required bool
	// sensitive ones are replaced by a placeholder before anything is logged,
	// counted or said in an error.
	sensitive bool
	min, max  int // characters of a text, bounds of a number
	pattern   string
}

// schema describes the parameter to clients, which may check it themselves.
func (p param) schema() *jsonschema.Schema {
	s := &jsonschema.Schema{Type: "string", Description: p.doc, Pattern: p.pattern}
	switch p.kind {
	case flag:
		s.Type = "boolean"
	case number:
		low, high := float64(p.min), float64(p.max)
		s.Type, s.Minimum, s.Maximum = "integer", &low, &high
	case moment:
		s.Format = "date-time"
	case fields:
		one, most := 1, p.max
		value := &jsonschema.Schema{Type: "string", MinLength: &one, MaxLength: &most}
		names := vault.MaxFields
		s.Type, s.AdditionalProperties, s.MinProperties, s.MaxProperties = "object", value, &one, &names
	default:
		low, high := p.min, p.max
		s.MinLength, s.MaxLength = &low, &high
	}
	return s
}

// arguments are a call's parameters, decoded.
type arguments struct {
	texts   map[string]string
	flags   map[string]bool
	numbers map[string]int
	moments map[string]time.Time
	value   *secret.Value
	fields  map[string]secret.Value
}

// optional returns a text that may be left out, nil when it was.
func (a arguments) optional(name string) *string {
	if s, given := a.texts[name]; given {
		return &s
	}
	return nil
}

func (a arguments) flag(name string) *bool {
	if b, given := a.flags[name]; given {
		return &b
	}
	return nil
}

// decode reads a call's arguments. Its error names every parameter that is wrong,
// and quotes no value.
func (t tool) decode(raw []byte) (arguments, error) {
	a := arguments{texts: map[string]string{}, flags: map[string]bool{}, numbers: map[string]int{}, moments: map[string]time.Time{}}
	var given map[string]jsontext.Value
	if len(raw) > 0 {
		if err := json.Unmarshal(raw, &given); err != nil {
			return a, invalid("arguments is not a JSON object")
		}
	}
	var faults []string
	for _, p := range t.params {
		raw, ok := given[p.name]
		delete(given, p.name)
		if !ok && p.required {
			faults = append(faults, p.name+" is missing")
		}
		if !ok {
			continue
		}
		if fault := a.read(p, raw); fault != "" {
			faults = append(faults, p.name+" "+fault)
		}
	}
	for _, name := range sorted(given) {
		faults = append(faults, t.unknown(name))
	}
	if len(faults) > 0 {
		return a, invalid(strings.Join(faults, "; "))
	}
	return a, nil
}

// plainRE is what the name of a parameter looks like, and a secret hardly.
var plainRE = regexp.MustCompile(`^[a-z]{1,16}([_A-Z]?[a-z]{1,16}){0,3}$`)

func (t tool) unknown(name string) string {
	known := t.names()
	if !plainRE.MatchString(name) {
		return "there is an unknown parameter; the parameters are: " + strings.Join(known, ", ")
	}
	return fmt.Sprintf("the parameter %s is unknown%s; the parameters are: %s", name, suggest.Hint(name, known), strings.Join(known, ", "))
}

func (t tool) names() []string {
	var names []string
	for _, p := range t.params {
		names = append(names, p.name)
	}
	return names
}

// read decodes one parameter and returns what is wrong with it, or "".
func (a *arguments) read(p param, raw jsontext.Value) string {
	if raw.Kind() == 'n' {
		return "is null: leave it out instead"
	}
	switch p.kind {
	case flag:
		return a.readFlag(p, raw)
	case number:
		return a.readNumber(p, raw)
	case fields:
		return a.readFields(raw)
	}
	var s string
	if raw.Kind() != '"' || json.Unmarshal(raw, &s) != nil {
		return "has the wrong type: it must be a string"
	}
	return a.readText(p, s)
}

func (a *arguments) readText(p param, s string) string {
	switch p.kind {
	case opaque:
		// Its length is for the vault to judge: what it refuses, it records.
		v := secret.New(s)
		a.value = &v
	case moment:
		at, err := time.Parse(time.RFC3339, s)
		if err != nil {
			return "is not an RFC 3339 time, as in 2026-04-29T14:00:00Z"
		}
		a.moments[p.name] = at
	default:
		if n := utf8.RuneCountInString(s); n == 0 && !p.required {
			return "is empty: leave it out instead"
		} else if n < p.min || n > p.max {
			return fmt.Sprintf("has %d characters: it must have %d to %d", n, p.min, p.max)
		}
		a.texts[p.name] = s
	}
	return ""
}

func (a *arguments) readFlag(p param, raw jsontext.Value) string {
	if k := raw.Kind(); k != 't' && k != 'f' {
		return "has the wrong type: it must be true or false"
	}
	a.flags[p.name] = raw.Kind() == 't'
	return ""
}

func (a *arguments) readNumber(p param, raw jsontext.Value) string {
	n, err := strconv.Atoi(string(raw))
	if raw.Kind() != '0' || err != nil || n < p.min || n > p.max {
		return fmt.Sprintf("must be a whole number from %d to %d", p.min, p.max)
	}
	a.numbers[p.name] = n
	return ""
}

func (a *arguments) readFields(raw jsontext.Value) string {
	var given map[string]jsontext.Value
	if raw.Kind() != '{' || json.Unmarshal(raw, &given) != nil {
		return "has the wrong type: it must be an object of strings"
	}
	a.fields = make(map[string]secret.Value, len(given))
	for name, raw := range given {
		var s string
		if raw.Kind() != '"' || json.Unmarshal(raw, &s) != nil {
			return "has a member of the wrong type: each must be a string"
		}
		a.fields[name] = secret.New(s)
	}
	if len(given) == 0 {
		return "is empty: give at least one field, or value"
	}
	return ""
}

func sorted(m map[string]jsontext.Value) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
