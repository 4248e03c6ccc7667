package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

func load(t *testing.T, environ []string, args ...string) (settings, error) {
	t.Helper()
	flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
	addSettings(flags)
	if err := flags.Parse(args); err != nil {
		t.Fatal(err)
	}
	return loadSettings(flags, &shell{environ: environ})
}

func TestSettingsPrecedence(t *testing.T) {
	file := writeFile(t, filepath.Join(t.TempDir(), "sidevault.yaml"),
		"listen: ['127.0.0.1:1', '127.0.0.1:2']\nlog: {level: warn, format: text}\naudit:\n  reads: each\nkeep-versions: 3\n", 0o600)
	environ := []string{"SIDEVAULT_LISTEN=127.0.0.1:3, 127.0.0.1:4", "SIDEVAULT_LOG_LEVEL=error", "SIDEVAULT_KEEP_VERSIONS=",
		"SIDEVAULT_PORT=tcp://10.0.0.1:80", "SIDEVAULT_CONFIG=" + file}
	cfg, err := load(t, environ, "--listen", "127.0.0.1:5")
	if err != nil {
		t.Fatal(err)
	}
	if len(cfg.Listen) != 1 || cfg.Listen[0].at != "127.0.0.1:5" {
		t.Errorf("the flag does not win: %v", cfg.Listen)
	}
	if got := cfg.LogLevel.String(); got != "ERROR" {
		t.Errorf("the variable does not win over the file: %s", got)
	}
	if cfg.LogFormat != "text" || cfg.ReadAudit != "each" || cfg.KeepVersions != 3 {
		t.Errorf("the file does not win over the defaults: %+v", cfg)
	}
	if cfg.ShutdownTimeout.String() != "10s" || len(cfg.Environments.Names()) != 3 || cfg.DataDir != defaultDataDir {
		t.Errorf("the defaults are not there: %+v", cfg)
	}
	if cfg, err = load(t, environ); err != nil || len(cfg.Listen) != 2 || cfg.Listen[1].at != "127.0.0.1:4" {
		t.Errorf("a list from a variable: %v, %v", cfg.Listen, err)
	}
}

func TestSettingsFromDesign(t *testing.T) {
	dir := t.TempDir()
	file := writeFile(t, filepath.Join(dir, "sidevault.yaml"), `# a comment
backend: bbolt:///var/lib/sidevault/vault.db
listen: ["127.0.0.1:8271", "unix:///run/sidevault/sidevault.sock"]
environments:
  - {name: development}
  - {name: preview, parent: development}
  - {name: production, protected: true}
catalog: [catalog.yaml]
trusted-proxies: [127.0.0.1, 10.0.0.0/8]
`, 0o600)
	cfg, err := load(t, nil, "--config", file)
	if err != nil {
		t.Fatal(err)
	}
	if cfg.DataDir != "/var/lib/sidevault" || !slices.Equal(cfg.Identities, []string{"/var/lib/sidevault/identity.txt"}) {
		t.Errorf("paths: %q, %q", cfg.DataDir, cfg.Identities)
	}
	if e, _ := cfg.Environments.Lookup("preview"); e.Parent != "development" {
		t.Errorf("preview: %+v", e)
	}
	if e, _ := cfg.Environments.Lookup("production"); !e.Protected {
		t.Errorf("production: %+v", e)
	}
	if cfg.Catalog[0] != filepath.Join(dir, "catalog.yaml") {
		t.Errorf("a path in a file is not relative to it: %s", cfg.Catalog[0])
	}
	if cfg.Listen[1].String() != "unix:///run/sidevault/sidevault.sock" || len(cfg.TrustedProxies) != 2 {
		t.Errorf("lists: %v, %v", cfg.Listen, cfg.TrustedProxies)
	}
}

func TestSettingsEnvironmentsFlag(t *testing.T) {
	cfg, err := load(t, nil, "--environments", "dev,preview:parent=dev:protected")
	if err != nil {
		t.Fatal(err)
	}
	if e, _ := cfg.Environments.Lookup("preview"); e.Parent != "dev" || !e.Protected {
		t.Errorf("preview: %+v", e)
	}
}

func TestSettingsErrors(t *testing.T) {
	cases := map[string]struct{ yaml, says string }{
		"unknown key":        {"listn: [a]\n", `sidevault.yaml:1:1: unknown key "listn" (did you mean "listen"?)`},
		"unknown in section": {"log:\n  levle: info\n", `sidevault.yaml:2:3: unknown key "levle" (did you mean "level"?)`},
		"not yet a key":      {"recipients: [age1]\n", `sidevault.yaml:1:1: unknown key "recipients"`},
		"plugins":            {"plugins:\n  dri: /x\n", `sidevault.yaml:2:3: unknown key "dri" (did you mean "dir"?)`},
		"sandbox":            {"plugins: {sandbox: of}\n", `sidevault.yaml:1:11: plugins.sandbox: "of" is none of auto, required, off (did you mean "off"?)`},
		"unknown in list":    {"environments:\n  - {name: dev, protcted: true}\n", `unknown key "protcted" (did you mean "protected"?)`},
		"anchor":             {"listen: &a ['127.0.0.1:1']\n", "sidevault.yaml:1:9: anchors and aliases are not accepted"},
		"tag":                {"listen: !!str x\n", "tags and directives are not accepted"},
		"twice":              {"backend: a\nbackend: b\n", "sidevault.yaml:2:1"},
		"second document":    {"backend: ''\n---\nbackend: ''\n", "second document"},
		"no list":            {"listen: '127.0.0.1:1'\n", "sidevault.yaml:1:1: listen: a list is expected"},
		"no value":           {"data-dir:\n", "data-dir: a value is missing"},
		"a list":             {"data-dir: [a]\n", "data-dir: a single value is expected"},
		"no mapping":         {"log: info\n", "log: a mapping is expected"},
		"text":               {"just text\n", "a mapping is expected"},
		"not YAML":           {"listen: [\n", "sidevault.yaml"},
		"bad value":          {"keep-versions: 1000\n", `sidevault.yaml:1:1: keep-versions: "1000" is not a number from 1 to 24`},
		"bad parent":         {"environments: [{name: a, parent: b}]\n", "environments"},
		"bad name":           {"environments: [{name: 'a:protected'}]\n", "is not a name"},
		"no receiver":        {"tracing: {endpoint: 'localhost:4318'}\n", "tracing.endpoint: it is not a URL"},
		"receiver's user":    {"tracing: {endpoint: 'http://u:p@localhost:4318'}\n", "OTEL_EXPORTER_OTLP_HEADERS"},
		"bad ratio":          {"tracing: {ratio: '1.5'}\n", "is not a number from 0 to 1"},
		"bad storage":        {"backend: mysql://x\n", `there is no storage "mysql"`},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			path := writeFile(t, filepath.Join(t.TempDir(), "sidevault.yaml"), c.yaml, 0o600)
			_, err := load(t, nil, "--config", path)
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v\ndoes not say: %s", err, c.says)
			}
		})
	}
	if _, err := load(t, []string{"SIDEVAULT_LOG_LEVEL=loud"}); err == nil || !strings.HasPrefix(err.Error(), "SIDEVAULT_LOG_LEVEL: ") {
		t.Errorf("a variable's error does not name it: %v", err)
	}
	if _, err := load(t, nil, "--audit-reads", "ech"); err == nil || !strings.Contains(err.Error(), `--audit-reads: "ech" is none of coalesced, each (did you mean "each"?)`) {
		t.Errorf("a flag's error does not name it: %v", err)
	}
}

func FuzzParseConfig(f *testing.F) {
	f.Add("listen: ['127.0.0.1:1']\nlog: {level: info}\n")
	f.Add("environments: [{name: a, parent: b}]\n")
	f.Add("? a\n: b\n")
	f.Add("plugins: {sandbox: off, programs: {a: {env: {B: c}, files: {d: e}, instances: 2, eager: true}, f: }}\n")
	f.Fuzz(func(t *testing.T, text string) {
		file, err := parseConfig("sidevault.yaml", []byte(text))
		for key := range file.values {
			if file.places[key] == "" || err != nil {
				t.Errorf("key %q without a place, or with an error: %v", key, err)
			}
		}
	})
}

// Files made to cost the parser a multiple of their size are refused before it sees
// them: without that, a quarter of a megabyte of brackets takes ten minutes.
func TestHostileConfigs(t *testing.T) {
	for _, unit := range []string{
		"[", "{", "{a: ", "- ", "? ", "&a ", "\"", "|\n", "a:\n b:\n", "{a: b}\n", "---\n", "a:\n", "- - - a\n", "[a, b]\n", "{a: b, c: d,", "[a,", "- a:\n  b:\n", "a:\n- x\n", "'',",
	} {
		if _, err := parseConfig("c.yaml", []byte(strings.Repeat(unit, maxConfig/len(unit)))); err == nil || len(err.Error()) > 8<<10 {
			t.Errorf("%q accepted, or refused at length", unit)
		}
	}
	// The parser drops a document that follows an empty one.
	for _, text := range []string{"---\n---\nlog: {level: info}\n", "log: {level: info}\n---\n---\nlog: {level: debug}\n", "log: {level: info}\n...\nlog: {level: debug}\n"} {
		if _, err := parseConfig("c.yaml", []byte(text)); err == nil || !strings.Contains(err.Error(), "a second document") {
			t.Errorf("%q: %v", text, err)
		}
	}
	if f, err := parseConfig("c.yaml", []byte("# comment\n---\nlog: {level: info}\n")); err != nil || f.values["log.level"] != "info" {
		t.Errorf("a document with a header: %v", err)
	}
}

// Environments that a file must not be able to make.
func TestHostileEnvironments(t *testing.T) {
	for name, list := range map[string]string{
		"a parent of itself": "{name: a, parent: a}", "parents in a ring": "{name: a, parent: b}, {name: b, parent: c}, {name: c, parent: a}",
		"an unknown parent": "{name: a, parent: b}", "a name twice": "{name: a}, {name: a}", "no name": "{parent: a}", "an empty name": "{name: ''}",
		"a name that climbs": "{name: ../x}", "a reserved name": "{name: '@shared'}", "a reserved name of a key": "{name: '@control'}", "a name with a slash": "{name: a/b}",
		"a name with a NUL": `{name: "a\0b"}`, "a name with a line end": `{name: "a\nb"}`, "a name of everything": "{name: '*'}", "an endless name": "{name: " + strings.Repeat("x", 1000) + "}",
		"no mapping": "[[a]]", "aliases": "&a {name: a}, *a", "a recipient that is none": "{name: a, recipients: [age1evil]}", "a key twice": "{name: a, name: b}",
		"an unknown key": "{name: a, protect: true}", "many": strings.Repeat("{name: a}, ", 5000) + "{name: a}",
	} {
		path := writeFile(t, filepath.Join(t.TempDir(), "sidevault.yaml"), "environments: ["+list+"]\n", 0o600)
		if _, err := load(t, nil, "--config", path); err == nil || len(err.Error()) > 8<<10 {
			t.Errorf("%s: accepted, or refused at length", name)
		}
	}
}

// The table and docs/configuration.md say the same.
func TestConfigurationDocument(t *testing.T) {
	const path = "../../docs/configuration.md"
	text := readFile(t, path)
	want := text
	for mark, generate := range map[string]func() string{"settings": settingsTable, "programs": programsTable} {
		begin, end := "<!-- "+mark+": begin -->\n", "<!-- "+mark+": end -->"
		before, rest, ok := strings.Cut(want, begin)
		_, after, ok2 := strings.Cut(rest, end)
		if !ok || !ok2 {
			t.Fatalf("the marks of the table of %s are missing", mark)
		}
		want = before + begin + generate() + end + after
	}
	if want != text {
		if os.Getenv("UPDATE_DOCS") == "" {
			t.Fatal("docs/configuration.md is not up to date: run UPDATE_DOCS=1 go test ./cmd/sidevault -run Document")
		}
		writeFile(t, path, want, 0o644)
	}
}

func programsTable() string {
	var b strings.Builder
	b.WriteString("| key | type | meaning |\n|---|---|---|\n")
	for _, k := range programKeys() {
		b.WriteString("| `" + k.key + "` | " + k.kind + " | " + k.help + " |\n")
	}
	return b.String()
}

func settingsTable() string {
	var b strings.Builder
	b.WriteString("| YAML key | flag | variable | default | meaning |\n|---|---|---|---|---|\n")
	for _, s := range table() {
		def := strings.Join(s.def, ",")
		if def != "" {
			def = "`" + def + "`"
		}
		kind := ""
		if s.entry != nil {
			kind = " (mapping)"
		} else if s.list {
			kind = " (list)"
		}
		flag, variable := "`--"+s.flag()+"`", "`"+s.variable()+"`"
		if s.fileOnly {
			flag, variable = "", ""
		}
		b.WriteString("| `" + s.key + "`" + kind + " | " + flag + " | " + variable + " | " + def + " | " +
			strings.ReplaceAll(s.help, "`", "") + " |\n")
	}
	return b.String()
}
