package main

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/sidevault/sidevault/vault/secret"
)

// template is a text with places for fields. It has no logic, so that what a
// configuration can do is seen by reading it:
//
//	text = { character | "{{" "field:" name { "|" filter } "}}" }
//
// White space around the words is passed over. "{{" always opens a place; "}}" alone
// is text.
type template []piece

// piece is literal text, or a place.
type piece struct {
	text    string
	field   string // "": literal
	filters []string
}

var fieldRE = regexp.MustCompile(`\A[A-Za-z0-9_.-]{1,64}\z`)

// filters change a field's text on its way into the request.
var filters = map[string]func(string) string{
	"base64": func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) },
	"host":   hostOf,
	"json": func(s string) string {
		b, _ := json.Marshal(s) // a string always marshals
		return string(b[1 : len(b)-1])
	},
	"query": url.QueryEscape,
}

// hostOf returns the host of a field that holds a URL, and any other field as it is.
func hostOf(s string) string {
	if u, err := url.Parse(strings.TrimSpace(s)); err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.User == nil {
		return u.Host
	}
	return s
}

// parse reads a template. Which filters make sense depends on where it stands.
func parse(s string, allowed ...string) (template, error) {
	var t template
	for {
		before, rest, found := strings.Cut(s, "{{")
		if before != "" {
			t = append(t, piece{text: before})
		}
		if !found {
			return t, nil
		}
		inner, after, closed := strings.Cut(rest, "}}")
		if !closed {
			return nil, fmt.Errorf("a {{ has no }}")
		}
		p, err := parsePlace(inner, allowed)
		if err != nil {
			return nil, err
		}
		t, s = append(t, p), after
	}
}

func parsePlace(inner string, allowed []string) (piece, error) {
	words := strings.Split(inner, "|")
	for i := range words {
		words[i] = strings.TrimSpace(words[i])
	}
	name, ok := strings.CutPrefix(words[0], "field:")
	if !ok || !fieldRE.MatchString(name) {
		return piece{}, fmt.Errorf("{{%s}} is not {{field:NAME}}", inner)
	}
	for _, f := range words[1:] {
		if !slices.Contains(allowed, f) {
			return piece{}, fmt.Errorf("{{%s}}: no filter %q here; there are: %s", inner, f, strings.Join(allowed, ", "))
		}
	}
	return piece{field: name, filters: words[1:]}, nil
}

// String returns the template as it can be parsed again.
func (t template) String() string {
	var b strings.Builder
	for _, p := range t {
		if p.field == "" {
			b.WriteString(p.text)
			continue
		}
		b.WriteString("{{" + strings.Join(append([]string{"field:" + p.field}, p.filters...), "|") + "}}")
	}
	return b.String()
}

// fields returns the names of the fields that have a place in it.
func (t template) fields() []string {
	var names []string
	for _, p := range t {
		if p.field != "" {
			names = append(names, p.field)
		}
	}
	return names
}

// fill returns the text with the fields in it.
func (t template) fill(fields map[string]secret.Value) string {
	var b strings.Builder
	for _, p := range t {
		b.WriteString(p.fill(fields))
	}
	return b.String()
}

func (p piece) fill(fields map[string]secret.Value) string {
	if p.field == "" {
		return p.text
	}
	s := fields[p.field].Reveal()
	for _, f := range p.filters {
		s = filters[f](s)
	}
	return s
}
