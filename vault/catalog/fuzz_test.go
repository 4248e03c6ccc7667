package catalog

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/sidevault/sidevault/vault"
)

// FuzzParse holds reading to its promises: no panic, problems of one printable
// line each, and from what is accepted only entries fit to be shown.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"", "# x", "integrations:", "integrations: [{}]", "integrations: [{key: a, name: A, category: b}]",
		entryOf("fields:", "  - {name: a, pattern: '[a-z]+', required: true}"), entryOf("rotation: |", "  x", "  y"),
		entryOf("credentialOf: jira"), entryOf("environments: [a, b]"), entryOf("docs: &a https://x", "rotation: *a"),
		entryOf("validators: [{plugin: format, config: {a: [1, -0, 1.50, null, {b: 010}]}, timeout: 2s, onUnavailable: allow, fields: []}]"),
		entryOf("validators:", "  - plugin: http", "    config:", "      a: |", "        b", "      1: 2", "    fields: [value, nope]"),
		entryOf("syncers: [{plugin: webhook, name: a, mode: swallow}, {plugin: webhook, mode: {set: surface, remove: swallow}, config: {x: 1e999}}]"),
		"<<: *a", "!!str a", "%YAML 1.2\n---\n", "---\n---\n", "? a\n: b", "a: 'x' y", "\ta: 1", "- a\nb: 1", "a: b: c",
		strings.Repeat("- ", 300), strings.Repeat("[{", 50), "a: |9\n x", "\ufeffa: 1", "a: \"\\x", "a: 0x1F", "~: ~", "!", ": :", "a: >-\n\n", "{a: b, a: b}",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s := parse("c.yaml", data)
		for _, p := range s.problems {
			if text := p.Error(); !printable(text, "") || !strings.HasPrefix(text, "c.yaml:") || len(text) > 500 {
				t.Errorf("a problem that is not one short line: %q", text)
			}
		}
		c, err := merge(builtin(), s)
		if (c == nil) == (err == nil) {
			t.Fatalf("catalog %v, error %v", c != nil, err)
		}
		if err != nil {
			if _, ok := errors.AsType[*Problem](err); !ok {
				t.Errorf("not a problem: %v", err)
			}
			return
		}
		for _, in := range c.All() {
			checkSound(t, in)
		}
	})
}

func checkSound(t *testing.T, in vault.Integration) {
	t.Helper()
	if checkKey(in.Key) != nil || checkName(in.Name) != nil || checkSlug(in.Category) != nil || len(in.Fields) > vault.MaxFields {
		t.Errorf("accepted %+v", in)
	}
	for _, f := range in.Fields {
		if checkField(f.Name) != nil || f.Pattern != nil && !bytes.HasPrefix([]byte(f.Pattern.String()), []byte("^(?:")) {
			t.Errorf("%s: accepted the field %+v", in.Key, f)
		}
	}
	for _, v := range in.Validators {
		checkSoundBinding(t, v.Binding)
	}
	for _, s := range in.Syncers {
		checkSoundBinding(t, s.Binding)
		for _, m := range []vault.SyncMode{s.OnSet, s.OnRemove} {
			if m != "" && m != vault.Surface && m != vault.Swallow {
				t.Errorf("%s: accepted the mode %q", in.Key, m)
			}
		}
	}
	if len(in.Validators) > vault.MaxBindings || len(in.Syncers) > vault.MaxBindings {
		t.Errorf("%s: %d validators, %d syncers", in.Key, len(in.Validators), len(in.Syncers))
	}
}

func checkSoundBinding(t *testing.T, b vault.Binding) {
	t.Helper()
	if checkSlug(b.Name) != nil || checkSlug(b.Plugin) != nil || b.Timeout != 0 && (b.Timeout < minTimeout || b.Timeout > maxTimeout) {
		t.Errorf("accepted the binding %+v", b)
	}
	var config map[string]any
	if b.Config != nil && (len(b.Config) > maxConfig || json.Unmarshal(b.Config, &config) != nil) {
		t.Errorf("%s: accepted the config %s", b.Name, b.Config)
	}
	for _, f := range b.Fields {
		if checkField(f) != nil {
			t.Errorf("%s: accepted the field %q", b.Name, f)
		}
	}
}

// Files made to cost the parser a multiple of their size are refused before it
// sees them: without the screen, the worst of these takes minutes.
func TestHostileFiles(t *testing.T) {
	if testing.Short() {
		t.Skip("reads many large files")
	}
	for _, unit := range []string{"[", "{", "- ", "a: ", "? ", "&a ", "\"", "|\n", "a:\n b:\n", "{a: b}\n", "---\n", "x ", "a:\n", "- - - a\n", "[a, b]\n", "- {a: [b]}\n", "{a: b, c: d,", "[a,", "a,", "- a:\n  b:\n", "a:\n- x\n", "'',", "é: ü\n"} {
		file := strings.Repeat(unit, MaxFile/8/len(unit))
		if _, err := Parse("c.yaml", []byte(file)); err == nil {
			t.Errorf("%q accepted", unit)
		}
	}
}
