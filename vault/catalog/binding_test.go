package catalog

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/sidevault/sidevault/vault"
)

func TestBindings(t *testing.T) {
	c := mustParse(t, `
integrations:
  - key: acme
    validators:
      - plugin: format
      - plugin: format
        name: strict
        config: {api_key: {prefix: acme_}}
        timeout: 100ms
        onUnavailable: allow
        fields: [api_key, value]
      - {plugin: audit-only, fields: [], onUnavailable: refuse, timeout: 1m}
    syncers:
      - plugin: webhook
      - {plugin: webhook, name: quiet, mode: swallow}
      - {plugin: trustradius, mode: {set: swallow, remove: surface}}
      - {plugin: other_1, mode: {remove: surface}}
    fields: [{name: api_key}]
  - {key: reports, credentialOf: acme, validators: [{plugin: http, fields: [api_key]}]}
  - {key: free, syncers: [{plugin: webhook, fields: [whatever]}]}
`)
	acme, _ := c.Lookup("acme")
	validators := []vault.Validator{
		{Binding: vault.Binding{Name: "format", Plugin: "format"}},
		{Binding: vault.Binding{
			Name: "strict", Plugin: "format", Config: []byte(`{"api_key":{"prefix":"acme_"}}`), Timeout: 100 * time.Millisecond, Fields: []string{"api_key", "value"},
		}, AllowUnavailable: true},
		{Binding: vault.Binding{Name: "audit-only", Plugin: "audit-only", Timeout: time.Minute, Fields: []string{}}},
	}
	syncers := []vault.Syncer{
		{Binding: vault.Binding{Name: "webhook", Plugin: "webhook"}},
		{Binding: vault.Binding{Name: "quiet", Plugin: "webhook"}, OnSet: vault.Swallow, OnRemove: vault.Swallow},
		{Binding: vault.Binding{Name: "trustradius", Plugin: "trustradius"}, OnSet: vault.Swallow, OnRemove: vault.Surface},
		{Binding: vault.Binding{Name: "other_1", Plugin: "other_1"}, OnRemove: vault.Surface},
	}
	if !reflect.DeepEqual(acme.Validators, validators) {
		t.Errorf("got  %+v\nwant %+v", acme.Validators, validators)
	}
	if !reflect.DeepEqual(acme.Syncers, syncers) {
		t.Errorf("got  %+v\nwant %+v", acme.Syncers, syncers)
	}
	if reports, _ := c.Lookup("reports"); len(reports.Validators) != 1 || len(reports.Syncers) != 0 {
		t.Errorf("an entry with credentialOf has bindings of its own: %+v", reports)
	}
	err := c.CheckPlugins([]string{"format", "webhook", "http", "trust-radius"})
	want := `c.yaml:12:10: validators: no plugin "audit-only" is configured: add it to plugins.programs of the configuration
c.yaml:16:10: syncers: no plugin "trustradius" is configured (did you mean "trust-radius"?): add it to plugins.programs of the configuration
c.yaml:17:10: syncers: no plugin "other_1" is configured: add it to plugins.programs of the configuration`
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
	if err := c.CheckPlugins([]string{"format", "webhook", "http", "audit-only", "trustradius", "other_1"}); err != nil {
		t.Error(err)
	}
	if err := Builtin().CheckPlugins(nil); err != nil {
		t.Error(err)
	}
}

// What a replaced entry bound is not held against the one that replaces it.
func TestReplacedBindings(t *testing.T) {
	c, err := load(t,
		"integrations: [{key: a, validators: [{plugin: gone, fields: [nope]}], fields: [{name: x}]}]",
		"integrations: [{key: a}]")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.CheckPlugins(nil); err != nil {
		t.Error(err)
	}
}

func TestConfigAsJSON(t *testing.T) {
	for yaml, want := range map[string]string{
		"{}": `{}`,
		"{a: text, b: 'quoted', c: \"two\\nlines\"}": `{"a":"text","b":"quoted","c":"two\nlines"}`,
		"{z: 1, a: -5, m: 0, hex: 0x1F}":             `{"z":1,"a":-5,"m":0,"hex":31}`,
		"{a: 1.0, b: 1.50, c: -2e3, d: .5}":          `{"a":1.0,"b":1.50,"c":-2e3,"d":0.5}`,
		"{a: true, b: false, c: null, d: ~, e: }":    `{"a":true,"b":false,"c":null,"d":null,"e":null}`,
		"{a: yes, b: '12', c: 2020-01-01, d: 1.2.3}": `{"a":"yes","b":"12","c":"2020-01-01","d":"1.2.3"}`,
		"{a: 18446744073709551615}":                  `{"a":18446744073709551615}`,
		"{a: 123456789012345678901, b: +1e3, c: -0}": `{"a":123456789012345678901,"b":1000,"c":0}`,
		"{a: [1, [b, {c: d}], []], e: {f: {g: {}}}}": `{"a":[1,["b",{"c":"d"}],[]],"e":{"f":{"g":{}}}}`,
		"{'': 1, 'a b': 2, '1': 3}":                  `{"":1,"a b":2,"1":3}`,
		"\n            a: |\n              x\n              y\n            b:\n              - c: 1\n                d: 2\n              - e": `{"a":"x\ny\n","b":[{"c":1,"d":2},"e"]}`,
	} {
		c, err := Parse("c.yaml", []byte(entryOf("validators:", "  - plugin: p", "    config: "+yaml)))
		if err != nil {
			t.Errorf("%s: %v", yaml, err)
			continue
		}
		acme, _ := c.Lookup("acme")
		if got := string(acme.Validators[0].Config); got != want {
			t.Errorf("%s\nis   %s\nwant %s", yaml, got, want)
		}
	}
}

func TestBindingProblems(t *testing.T) {
	validator := func(rest string) string { return entryOf("validators: [{plugin: p" + rest + "}]") }
	syncer := func(rest string) string { return entryOf("syncers: [{plugin: p" + rest + "}]") }
	nine := strings.Repeat("{plugin: p},", 9)
	for name, test := range map[string]struct{ file, want string }{
		"no list":            {entryOf("validators: {plugin: p}"), `c.yaml:5:17: validators: a list is expected, not a mapping`},
		"no mapping":         {entryOf("syncers: [p]"), `c.yaml:5:15: syncers: a mapping is expected, not "p"`},
		"too many":           {entryOf("validators: [" + nine + "]"), `c.yaml:5:17: validators: at most 8, not 9`},
		"no plugin":          {entryOf("validators: [{name: p}]"), `c.yaml:5:18: one of validators without a plugin`},
		"no plugin, syncer":  {entryOf("syncers: [{}]"), `c.yaml:5:15: one of syncers without a plugin`},
		"plugin":             {entryOf("validators: [{plugin: ../p}]"), `c.yaml:5:27: plugin: "../p": 1 to 63 of a-z 0-9 _ -, a letter or digit first and last`},
		"unknown key":        {validator(", plugn: q"), `c.yaml:5:30: unknown key "plugn" (did you mean "plugin"?)`},
		"a validator's mode": {validator(", mode: surface"), `c.yaml:5:30: unknown key "mode"`},
		"a syncer's failure": {syncer(", onUnavailable: allow"), `c.yaml:5:27: unknown key "onUnavailable"`},
		"name":               {validator(", name: A"), `c.yaml:5:36: name: "A": 1 to 63 of a-z 0-9 _ -, a letter or digit first and last`},
		"twice":              {entryOf("validators: [{plugin: p}, {plugin: p}]"), `c.yaml:5:32: validators: "p" is bound twice: give each a name of its own`},
		"named like another": {entryOf("syncers: [{plugin: p, name: q}, {plugin: q}]"), `c.yaml:5:38: syncers: "q" is bound twice: give each a name of its own`},

		"timeout without unit": {validator(", timeout: 5"), `c.yaml:5:39: timeout: a duration from 100ms to 60s is expected, as in 2s`},
		"timeout as text":      {validator(", timeout: soon"), `c.yaml:5:39: timeout: "soon": a duration from 100ms to 60s is expected, as in 2s`},
		"short timeout":        {validator(", timeout: 99ms"), `c.yaml:5:39: timeout: "99ms": a duration from 100ms to 60s is expected, as in 2s`},
		"long timeout":         {validator(", timeout: 61s"), `c.yaml:5:39: timeout: "61s": a duration from 100ms to 60s is expected, as in 2s`},
		"onUnavailable":        {validator(", onUnavailable: alow"), `c.yaml:5:45: onUnavailable: "alow" is neither refuse nor allow (did you mean "allow"?)`},
		"mode":                 {syncer(", mode: loud"), `c.yaml:5:33: mode: "loud" is neither surface nor swallow`},
		"mode of a change":     {syncer(", mode: {set: surfac}"), `c.yaml:5:39: set: "surfac" is neither surface nor swallow (did you mean "surface"?)`},
		"mode of no change":    {syncer(", mode: {delete: surface}"), `c.yaml:5:34: unknown key "delete"`},
		"mode, empty":          {syncer(", mode: {}"), `c.yaml:5:33: mode: give set, remove or both`},

		"fields, no list": {validator(", fields: value"), `c.yaml:5:38: fields: a list is expected, not "value"`},
		"fields, a name":  {validator(", fields: [a b]"), `c.yaml:5:39: fields: "a b": 1 to 64 of A-Z a-z 0-9 _ . -`},
		"fields, twice":   {validator(", fields: [a, a]"), `c.yaml:5:42: fields: "a" is given twice`},
		"fields, unknown": {entryOf("syncers: [{plugin: p, fields: [key, value]}]", "fields: [{name: api_key}]"), `c.yaml:5:36: fields: "acme" has no field "key"`},
		"fields, of another": {entryOf("credentialOf: trello", "validators: [{plugin: p, fields: [api_tokn]}]"),
			`c.yaml:6:39: fields: "acme" has no field "api_tokn" (did you mean "api_token"?)`},

		"config, a list":      {validator(", config: [a]"), `c.yaml:5:38: config: a mapping is expected, not a list`},
		"config, nothing":     {validator(", config: "), `c.yaml:5:30: config: a mapping is expected, not nothing`},
		"config, key twice":   {validator(", config: {a: {b: 1, b: 2}}"), `c.yaml:5:49: config: key "b" is given twice`},
		"config, no text key": {validator(", config: {a: {1: b}}"), `c.yaml:5:43: config: the key "1" is not text (quote it)`},
		"config, infinity":    {validator(", config: {a: .inf}"), `c.yaml:5:42: config: text, a number, true, false, null, a list or a mapping is expected`},
		"config, octal":       {validator(", config: {a: 0755}"), `c.yaml:5:42: config: the number 0755 has a leading zero: quote it if it is text`},
		"config, huge float":  {validator(", config: {a: 1e999}"), `c.yaml:5:42: config: the number 1e999 is too large: quote it if it is text`},
		"config, alias":       {validator(", config: {a: *b}"), `c.yaml:5:42: anchors and aliases are not accepted: write the value out, or quote it if it is text`},
		"config, too long":    {validator(", config: {a: " + strings.Repeat("x", maxConfig) + "}"), `c.yaml:5:38: config: 16392 bytes as JSON; at most 16384 are allowed`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse("c.yaml", []byte(test.file))
			if err == nil || err.Error() != test.want {
				t.Errorf("got  %v\nwant %s", err, test.want)
			}
		})
	}
}
