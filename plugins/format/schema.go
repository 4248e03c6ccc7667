package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
)

// schemaURL is the base of the schema's own references.
const schemaURL = "config:///schema"

// maxExponent is how many digits the exponent of a number may have. Schemas compare
// numbers exactly, and the exact 1e999999999 takes all of the memory.
const maxExponent = 3

type schema struct{ compiled *jsonschema.Schema }

func compileSchema(doc any) (schema, error) {
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	c.UseLoader(nowhere{})
	if err := c.AddResource(schemaURL, doc); err != nil {
		return schema{}, err
	}
	compiled, err := c.Compile(schemaURL)
	return schema{compiled}, err
}

// nowhere keeps a schema from reading files and URLs.
type nowhere struct{}

func (nowhere) Load(string) (any, error) {
	return nil, errors.New("a schema must be complete in itself, with references into itself only")
}

// check says where in the schema a text is at fault. The library's own text, and the
// place in the document, would quote the secret: they are dropped.
func (s schema) check(text string) string {
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	if err != nil {
		return "must be JSON"
	}
	if !modest(doc) {
		return "holds a number that is out of range"
	}
	err = s.compiled.Validate(doc)
	if err == nil {
		return ""
	}
	invalid, ok := errors.AsType[*jsonschema.ValidationError](err)
	if !ok {
		return "does not fit the schema"
	}
	faults := leaves(invalid, nil)
	slices.Sort(faults)
	faults = slices.Compact(faults)
	return cut(strings.Join(faults[:min(3, len(faults))], "; "), 300)
}

// leaves lists the faults that have no others below them.
func leaves(e *jsonschema.ValidationError, list []string) []string {
	for _, cause := range e.Causes {
		list = leaves(cause, list)
	}
	if len(e.Causes) > 0 {
		return list
	}
	// The names that are missing are the schema's, not the document's.
	if r, ok := e.ErrorKind.(*kind.Required); ok {
		return append(list, "lacks "+strings.Join(r.Missing, ", "))
	}
	return append(list, fmt.Sprintf("does not fit the schema at %s", place(e)))
}

// place is the keyword's place within the schema.
func place(e *jsonschema.ValidationError) string {
	_, fragment, _ := strings.Cut(e.SchemaURL, "#")
	if plain, err := url.PathUnescape(fragment); err == nil {
		fragment = plain
	}
	return "/" + strings.TrimPrefix(fragment+"/"+strings.Join(e.ErrorKind.KeywordPath(), "/"), "/")
}

func modest(doc any) bool {
	switch d := doc.(type) {
	case json.Number:
		at := strings.LastIndexAny(d.String(), "eE")
		return at < 0 || len(strings.TrimLeft(d.String()[at+1:], "+-")) <= maxExponent
	case []any:
		return !slices.ContainsFunc(d, func(v any) bool { return !modest(v) })
	case map[string]any:
		for _, v := range d {
			if !modest(v) {
				return false
			}
		}
	}
	return true
}
