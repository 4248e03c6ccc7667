package catalog

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sidevault/sidevault/envs"
)

// entryOf returns a file with one sound entry and the given further lines of it.
func entryOf(lines ...string) string {
	head := "integrations:\n  - key: acme\n    name: Acme\n    category: crm\n"
	return head + "    " + strings.Join(lines, "\n    ") + "\n"
}

func TestProblems(t *testing.T) {
	long := strings.Repeat("x", 600)
	for name, test := range map[string]struct{ file, want string }{
		"text":               {"hello", `c.yaml:1:1: a mapping is expected, not "hello"`},
		"list":               {"- key: a", `c.yaml:1:1: a mapping is expected, not a list`},
		"unknown at the top": {"integration: []", `c.yaml:1:1: unknown key "integration" (did you mean "integrations"?)`},
		"not a list":         {"integrations: {a: b}", `c.yaml:1:15: integrations: a list is expected, not a mapping`},
		"not an entry":       {"integrations: [acme]", `c.yaml:1:16: integrations: a mapping is expected, not "acme"`},

		"unknown key":         {entryOf("doc: https://x.example"), `c.yaml:5:5: unknown key "doc" (did you mean "docs"?)`},
		"unknown, in a flow":  {"integrations: [{key: a, name: é, category: b, foo: 1}]", `c.yaml:1:47: unknown key "foo"`},
		"almost a binding":    {entryOf("validator: []"), `c.yaml:5:5: unknown key "validator" (did you mean "validators"?)`},
		"case matters":        {entryOf("authtypes: [basic]"), `c.yaml:5:5: unknown key "authtypes" (did you mean "authTypes"?)`},
		"a key like a number": {entryOf("12: x"), `c.yaml:5:5: unknown key "12"`},
		"a huge key":          {entryOf(long + ": x"), `c.yaml:5:5: unknown key "` + long[:40] + `..."`},
		"key twice":           {entryOf("name: Other"), `c.yaml:5:5: key "name" is given twice`},
		"unknown in a field":  {entryOf("fields:", "  - name: a", "    requird: true"), `c.yaml:7:9: unknown key "requird" (did you mean "required"?)`},

		"no key":      {"integrations:\n  - name: A\n    category: b\n", `c.yaml:2:5: an integration without a key`},
		"empty entry": {"integrations: [{}]", "c.yaml:1:16: an integration without a key"},

		"key":               {"integrations: [{key: a b, name: A, category: b}]", `c.yaml:1:22: key: "a b": 1 to 255 of A-Z a-z 0-9 . _ -, a letter or digit first; credentials and categories are reserved`},
		"reserved key":      {"integrations: [{key: credentials, name: A, category: b}]", `c.yaml:1:22: key: "credentials": 1 to 255 of A-Z a-z 0-9 . _ -, a letter or digit first; credentials and categories are reserved`},
		"key is a number":   {"integrations: [{key: 12, name: A, category: b}]", `c.yaml:1:22: key: text is expected, not the number 12 (quote it)`},
		"entry twice":       {"integrations:\n  - {key: a, name: A, category: b}\n  - {key: a, name: A, category: b}", `c.yaml:3:6: key: "a" has an entry in this file already, on line 2`},
		"name is a boolean": {"integrations: [{key: a, name: true, category: b}]", `c.yaml:1:31: name: text is expected, not the boolean true (quote it)`},
		"empty name":        {`integrations: [{key: a, name: "", category: b}]`, `c.yaml:1:31: name: "": 1 to 128 bytes of printable text, without space at its ends`},
		"name over lines":   {`integrations: [{key: a, name: "b\nc", category: b}]`, `c.yaml:1:31: name: "b\nc": 1 to 128 bytes of printable text, without space at its ends`},
		"category":          {"integrations: [{key: a, name: A, category: CRM}]", `c.yaml:1:44: category: "CRM": 1 to 63 of a-z 0-9 _ -, a letter or digit first and last`},
		"no description":    {entryOf("description:"), `c.yaml:5:5: description: text is expected, not nothing`},
		"description":       {entryOf("description: " + long), `c.yaml:5:18: description: 1 to 500 characters, not 600`},
		"hidden text":       {entryOf(`rotation: "a\u202eb"`), `c.yaml:5:15: rotation: printable text is expected`},
		"docs":              {entryOf("docs: http://acme.example"), `c.yaml:5:11: docs: "http://acme.example": an https URL is expected`},
		"docs with a user":  {entryOf("docs: https://me@acme.example"), `c.yaml:5:11: docs: "https://me@acme.example": an https URL is expected`},
		"enabled":           {entryOf("enabled: yes"), `c.yaml:5:14: enabled: true or false is expected, not "yes"`},
		"authTypes":         {entryOf("authTypes: [Basic, api_key, api_key]"), "c.yaml:5:17: authTypes: \"Basic\": 1 to 63 of a-z 0-9 _ -, a letter or digit first and last\nc.yaml:5:33: authTypes: \"api_key\" is given twice"},
		"authTypes as text": {entryOf("authTypes: basic"), `c.yaml:5:16: authTypes: a list is expected, not "basic"`},

		"environments":       {entryOf("environments: [Prod, dev, dev]"), "c.yaml:5:20: environments: \"Prod\": 1 to 63 of a-z 0-9 -, a letter or digit first and last\nc.yaml:5:31: environments: \"dev\" is given twice"},
		"empty environments": {entryOf("environments: []"), `c.yaml:5:19: environments: the list is empty: leave it out to allow every environment`},

		"field name":     {entryOf("fields: [{name: a b}]"), `c.yaml:5:21: name: "a b": 1 to 64 of A-Z a-z 0-9 _ . -`},
		"field unnamed":  {entryOf("fields:", "  - required: true"), `c.yaml:6:9: a field without a name`},
		"field twice":    {entryOf("fields: [{name: a}, {name: a}]"), `c.yaml:5:26: name: the field "a" is given twice`},
		"field as text":  {entryOf("fields: [a]"), `c.yaml:5:14: fields: a mapping is expected, not "a"`},
		"secret as text": {entryOf("fields: [{name: a, secret: no}]"), `c.yaml:5:32: secret: true or false is expected, not "no"`},
		"value shown":    {entryOf("fields: [{name: value, secret: false}]"), `c.yaml:5:28: secret: the field named value is the whole credential, and always secret`},
		"fields":         {entryOf("fields: [" + strings.Repeat("{name: a},", 33) + "]"), `c.yaml:5:13: fields: at most 32, not 33`},

		"pattern":             {entryOf("fields: [{name: a, pattern: '(b'}]"), "c.yaml:5:33: pattern: missing closing ): \"(b\""},
		"pattern breaks out":  {entryOf("fields: [{name: a, pattern: 'a)|(?:b'}]"), "c.yaml:5:33: pattern: unexpected ): \"a)|(?:b\""},
		"pattern left open":   {entryOf(`fields: [{name: a, pattern: '\Qa'}]`), `c.yaml:5:33: pattern: missing closing ): "^(?:\\Qa)$"`},
		"pattern not RE2":     {entryOf("fields: [{name: a, pattern: 'a(?=b)'}]"), "c.yaml:5:33: pattern: invalid or unsupported Perl syntax: \"(?=\""},
		"empty pattern":       {entryOf("fields: [{name: a, pattern: ''}]"), `c.yaml:5:33: pattern: 1 to 512 bytes, not 0`},
		"long pattern":        {entryOf("fields: [{name: a, pattern: " + long + "}]"), `c.yaml:5:33: pattern: 1 to 512 bytes, not 600`},
		"pattern that grows":  {entryOf("fields: [{name: a, pattern: '((a{100}){100}){100}'}]"), "c.yaml:5:33: pattern: invalid repeat count: \"{100}\""},
		"pattern is a number": {entryOf("fields: [{name: a, pattern: 0x1F}]"), `c.yaml:5:33: pattern: text is expected, not the number 0x1F (quote it)`},

		"credentialOf":            {entryOf("credentialOf: jiraa"), `c.yaml:5:19: credentialOf: no integration has the key "jiraa" (did you mean "jira"?)`},
		"credentialOf itself":     {entryOf("credentialOf: acme"), `c.yaml:5:19: credentialOf: an entry cannot name itself: leave it out`},
		"credentialOf, chained":   {entryOf("credentialOf: confluence"), `c.yaml:5:19: credentialOf: "confluence" itself uses the credential of "jira": name the one that has its own`},
		"credentialOf and fields": {entryOf("credentialOf: jira", "fields: []"), `c.yaml:6:5: fields: not with credentialOf: they are those of the entry that it names`},

		"anchor":           {entryOf("rotation: &a b", "docs: *a"), "c.yaml:5:15: anchors and aliases are not accepted: write the value out, or quote it if it is text\nc.yaml:6:11: anchors and aliases are not accepted: write the value out, or quote it if it is text"},
		"merge key":        {entryOf("<<: {enabled: true}"), `c.yaml:5:5: merge keys are not accepted: write the keys out`},
		"tag":              {entryOf("rotation: !!str b"), `c.yaml:5:15: tags are not accepted: quote the value if it is text`},
		"directive":        {"%YAML 1.2\n---\nintegrations: []", `c.yaml:1:1: directives are not accepted: quote the value if it is text` + "\n" + `c.yaml:2:1: a second document: a catalog file has one`},
		"explicit key":     {"? integrations\n: []", `c.yaml:1:1: "? key" is not accepted: write "key: value"`},
		"two documents":    {"integrations: []\n---\nintegrations: []", `c.yaml:2:1: a second document: a catalog file has one`},
		"after the end":    {"integrations: []\n...\nintegrations: []", `c.yaml:3:1: a second document: a catalog file has one`},
		"deep flow":        {"integrations: " + strings.Repeat("[", 1000), `c.yaml:1:23: nested too deeply`},
		"deep flow, mixed": {strings.Repeat("[{", 1000), `c.yaml:1:17: nested too deeply`},
		"deep block":       {strings.Repeat("- ", 1000), `c.yaml:1:201: nested too deeply`},
		"wide block":       {"a:\n" + strings.Repeat("- x\na:\n", 1000), `c.yaml:2001:2: too many keys in one mapping`},
		"wide flow":        {"a: [" + strings.Repeat("b,", 1000), `c.yaml:1:2004: too many entries between brackets: begin each on a line of its own with a hyphen`},
		"many values":      {strings.Repeat("- a:\n  b:\n", 50_000), `c.yaml:80001:1: too much for one file: split it`},
		"space that hides": {"a\u00a0b", `c.yaml:1:1: a mapping is expected, not "a\u00a0b"`},
		"open string":      {"integrations: \"x\n", `c.yaml:1:15: could not find end character of double-quoted text`},
		"open list":        {"integrations: [a", `c.yaml:1:15: sequence end token ']' not found`},
		"tab":              {"integrations:\n\t- a\n", `c.yaml:2:1: found character '\t' that cannot start any token`},
		"not YAML at all":  {"!!!!", `c.yaml: not a catalog: no YAML in it`},
		"not UTF-8":        {"# é\n#  \xff\n", `c.yaml:2:4: not UTF-8`},
		"NUL":              {"integrations: []\x00", `c.yaml:1:17: a control character, U+0000`},
		"lone CR":          {"integrations: []\r# x", `c.yaml:1:17: a control character, U+000D`},
		"large":            {strings.Repeat("#\n", 1<<19) + "#", `c.yaml: larger than 1048576 bytes`},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := Parse("c.yaml", []byte(test.file))
			if c != nil || err == nil {
				t.Fatal("accepted")
			}
			if err.Error() != test.want {
				t.Errorf("got  %s\nwant %s", err, test.want)
			}
		})
	}
}

func TestProblemsOfAFileTogether(t *testing.T) {
	_, err := Parse("c.yaml", []byte(`integrations:
  - key: b
    credentialOf: none
    naem_: B
  - key: a
    name: A
    category: ""
    fields:
      - {name: x, secrt: false}
      - secret: false
`))
	want := `c.yaml:3:19: credentialOf: no integration has the key "none"
c.yaml:4:5: unknown key "naem_"
c.yaml:7:15: category: "": 1 to 63 of a-z 0-9 _ -, a letter or digit first and last
c.yaml:9:19: unknown key "secrt" (did you mean "secret"?)
c.yaml:10:9: a field without a name`
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
	p, ok := errors.AsType[*Problem](err)
	if !ok || p.File != "c.yaml" || p.Line != 3 || p.Column != 19 || !strings.HasPrefix(p.Msg, "credentialOf: ") {
		t.Errorf("the first problem is %+v", p)
	}
}

func TestProblemsAreCounted(t *testing.T) {
	_, err := Parse("c.yaml", []byte("integrations:\n"+strings.Repeat("  - x\n", 5000)))
	lines := strings.Split(err.Error(), "\n")
	if len(lines) != maxProblems+1 || lines[0] != "c.yaml: 5000 problems, of which these are 100" {
		t.Errorf("%d lines, the first: %s", len(lines), lines[0])
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good := write("good.yaml", entryOf("enabled: false"))
	bad := write("bad.yaml", entryOf("foo: 1"))
	huge := write("huge.yaml", strings.Repeat(" ", MaxFile+1))
	missing := filepath.Join(dir, "missing.yaml")

	c, err := Load(good)
	if err != nil {
		t.Fatal(err)
	}
	if in, ok := c.Lookup("acme"); !ok || in.Enabled {
		t.Errorf("acme: %+v, %t", in, ok)
	}
	c, err = Load(good, missing, huge, bad, dir)
	want := fmt.Sprintf("%s: no such file or directory\n%s: larger than 1048576 bytes\n%s:5:5: unknown key \"foo\"\n%s: is a directory", missing, huge, bad, dir)
	if c != nil || err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		t.Error("not recognisable as fs.ErrNotExist")
	}
}

func TestCheckEnvironments(t *testing.T) {
	c, err := Parse("c.yaml", []byte(`integrations:
  - {key: b, name: B, category: x, environments: [production, prod]}
  - {key: a, name: A, category: x, environments: [qa]}
`))
	if err != nil {
		t.Fatal(err)
	}
	tree, err := envs.New(envs.Default())
	if err != nil {
		t.Fatal(err)
	}
	want := `c.yaml:2:63: environments: unknown environment "prod" (did you mean "production"?)
c.yaml:3:51: environments: unknown environment "qa"`
	if err := c.CheckEnvironments(tree); err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
	if err := Builtin().CheckEnvironments(tree); err != nil {
		t.Error(err)
	}
}
