package catalog

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/sidevault/sidevault/vault"
)

func mustParse(t *testing.T, file string) *Catalog {
	t.Helper()
	c, err := Parse("c.yaml", []byte(file))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// load writes the files and loads them over the built-in catalog.
func load(t *testing.T, files ...string) (*Catalog, error) {
	t.Helper()
	t.Chdir(t.TempDir())
	var names []string
	for i, text := range files {
		name := fmt.Sprintf("%d.yaml", i+1)
		if err := os.WriteFile(filepath.Join(".", name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		names = append(names, name)
	}
	return Load(names...)
}

func TestEntry(t *testing.T) {
	c := mustParse(t, `
integrations:
  - key: Acme-1.x
    name: "Acme & Söhne"
    category: 2nd-hand_crm
    description: |
      Things.
    docs: https://acme.example/keys?x=1#y
    rotation: >-
      One
      paragraph.

      Another.
    enabled: false
    authTypes: [basic, custom-type]
    fields:
      - {name: value}
      - name: host
        description: Host name.
        required: true
        pattern: a|b
        secret: false
    environments: [staging, qa-2]
`)
	got, ok := c.Lookup("Acme-1.x")
	if !ok {
		t.Fatal("no entry")
	}
	pattern := got.Fields[1].Pattern
	for s, want := range map[string]bool{"a": true, "b": true, "ab": false, "a\n": false, "xb": false} {
		if pattern.MatchString(s) != want {
			t.Errorf("%s matches %q: %t", pattern, s, !want)
		}
	}
	want := vault.Integration{
		Key: "Acme-1.x", Name: "Acme & Söhne", Category: "2nd-hand_crm",
		Description: "Things.", Docs: "https://acme.example/keys?x=1#y", Rotation: "One paragraph.\nAnother.",
		AuthTypes:    []string{"basic", "custom-type"},
		Fields:       []vault.Field{{Name: "value", Secret: true}, {Name: "host", Description: "Host name.", Required: true, Pattern: pattern}},
		Environments: []string{"staging", "qa-2"},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestEntryDefaults(t *testing.T) {
	got, _ := mustParse(t, "integrations: [{key: a}]").Lookup("a")
	want := vault.Integration{Key: "a", Name: "a", Category: "custom", Enabled: true}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestNoEntries(t *testing.T) {
	for _, file := range []string{"", "\n", "# nothing\n", "---\n", "---\n...\n", "{}", "null", "integrations:", "integrations: []", "\ufeffintegrations: []\r\n"} {
		if c := mustParse(t, file); len(c.All()) != len(Builtin().All()) {
			t.Errorf("%q: %d entries", file, len(c.All()))
		}
	}
}

func TestLaterFileReplacesWhole(t *testing.T) {
	c, err := load(t,
		"integrations: [{key: slack, name: One, category: chat, docs: 'https://one.example', enabled: false}, {key: new, name: New, category: chat}]",
		"integrations: [{key: slack, name: Two, category: chat}]")
	if err != nil {
		t.Fatal(err)
	}
	got, _ := c.Lookup("slack")
	want := vault.Integration{Key: "slack", Name: "Two", Category: "chat", Enabled: true}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if n := len(Builtin().All()); len(c.All()) != n+1 {
		t.Errorf("%d entries over %d built-in ones", len(c.All()), n)
	}
	if in, _ := Builtin().Lookup("slack"); in.Name != "Slack" {
		t.Error("the built-in catalog changed")
	}
}

func TestAllIsInTheOrderOfKeys(t *testing.T) {
	c := mustParse(t, "integrations: [{key: zz, name: Z, category: b}, {key: Aa, name: A, category: b}]")
	var keys []string
	for _, in := range c.All() {
		keys = append(keys, in.Key)
		if got, ok := c.Lookup(in.Key); !ok || !reflect.DeepEqual(got, in) {
			t.Errorf("Lookup(%q) differs from All", in.Key)
		}
	}
	if !slices.IsSorted(keys) || keys[0] != "Aa" || keys[len(keys)-1] != "zz" {
		t.Errorf("keys: %v", keys)
	}
	if _, ok := c.Lookup("SLACK"); ok {
		t.Error("Lookup ignores case")
	}
}

// An entry with credentialOf follows the other entry, wherever that comes from.
func TestCredentialOf(t *testing.T) {
	c, err := load(t,
		"integrations: [{key: wiki, name: Wiki, category: x, credentialOf: later, description: Own.}]",
		"integrations: [{key: later, name: L, category: x, authTypes: [basic], fields: [{name: a}], environments: [staging]}, {key: jira, name: J, category: x, fields: [{name: pat}]}]")
	if err != nil {
		t.Fatal(err)
	}
	wiki, _ := c.Lookup("wiki")
	if wiki.CredentialOf != "later" || wiki.Description != "Own." || len(wiki.Fields) != 1 || wiki.AuthTypes[0] != "basic" || wiki.Environments[0] != "staging" {
		t.Errorf("wiki: %+v", wiki)
	}
	if confluence, _ := c.Lookup("confluence"); len(confluence.Fields) != 1 || confluence.Fields[0].Name != "pat" {
		t.Errorf("confluence: %+v", confluence)
	}
}

func TestCredentialOfChain(t *testing.T) {
	_, err := load(t, "integrations: [{key: jira, name: J, category: x, credentialOf: slack}]")
	for _, want := range []string{
		`1.yaml:1:64: credentialOf: "confluence" (builtin.yaml:`,
		`) uses the credential of "jira", which must therefore have its own`,
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v\nwant %s", err, want)
		}
	}
	_, err = load(t, "integrations: [{key: a, name: A, category: x, credentialOf: b}, {key: b, name: B, category: x, credentialOf: a}]")
	if err == nil || strings.Count(err.Error(), "\n") != 1 {
		t.Errorf("a circle: %v", err)
	}
}

// What is missing from a file that could not be read is not said to be unknown.
func TestNoLinkProblemsBesideABrokenFile(t *testing.T) {
	_, err := load(t, "integrations: [{key: a, name: A, category: x, credentialOf: b}]", "integrations: [{key: b")
	if err == nil || strings.Contains(err.Error(), "credentialOf") || !strings.HasPrefix(err.Error(), "2.yaml:1:16: ") {
		t.Errorf("got %v", err)
	}
}
