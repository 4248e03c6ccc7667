package main

import (
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/sidevault/sidevault/plugins/host"
)

const someSum = "60303AE22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752"

func TestPluginSettings(t *testing.T) {
	dir := t.TempDir()
	file := writeFile(t, filepath.Join(dir, "sidevault.yaml"), `
plugins:
  dir: plugins
  sandbox: required
  programs:
    format: {sha256: `+someSum+`}
    py_checks:
      path: /usr/bin/python3
      sha256: `+someSum+`
      args: [main.py, -5]
      env: {A: b, N: 12, E: ""}
      files: {checks/main.py: `+someSum+`, /abs: `+someSum+`}
      read: [checks, /opt/x]
      user: nobody
      instances: 16
      calls: 256
      eager: true
`, 0o600)
	cfg, err := load(t, nil, "--config", file)
	if err != nil {
		t.Fatal(err)
	}
	got, err := cfg.programs(false)
	if err != nil {
		t.Fatal(err)
	}
	want := []host.Program{
		{Name: "format", Path: filepath.Join(dir, "plugins", "sidevault-validator-format"), SHA256: someSum},
		{
			Name: "py_checks", Path: "/usr/bin/python3", SHA256: someSum, Args: []string{"main.py", "-5"},
			Env:   map[string]string{"A": "b", "N": "12", "E": ""},
			Files: map[string]string{filepath.Join(dir, "checks/main.py"): someSum, "/abs": someSum},
			Read:  []string{filepath.Join(dir, "checks"), "/opt/x"}, User: "nobody", Instances: 16, Calls: 256, Eager: true,
		},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if names := cfg.programNames(); cfg.Sandbox != host.Required || strings.Join(names, " ") != "format py_checks" {
		t.Errorf("%q, %v", cfg.Sandbox, names)
	}
	if cfg, err = load(t, []string{"SIDEVAULT_PLUGINS_DIR=/other", "SIDEVAULT_PLUGINS_SANDBOX=off"}, "--config", file); err != nil || cfg.PluginDir != "/other" || cfg.Sandbox != host.Off {
		t.Errorf("%q, %q, %v", cfg.PluginDir, cfg.Sandbox, err)
	}
	if cfg, err = load(t, []string{"SIDEVAULT_PLUGINS_PROGRAMS=x"}); err != nil || cfg.PluginDir != defaultPluginDir || cfg.Sandbox != host.Auto || len(cfg.Programs) != 0 {
		t.Errorf("the defaults: %q, %q, %v, %v", cfg.PluginDir, cfg.Sandbox, cfg.Programs, err)
	}
}

// The path that is not given is whichever of the two is there.
func TestPluginPath(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct{ make, path, want string }{
		{"", "", "sidevault-validator-a"},
		{"sidevault-syncer-a", "", "sidevault-syncer-a"},
		{"", "sub/x", "sub/x"},
		{"sidevault-validator-a", "", ""},
	} {
		if c.make != "" {
			writeFile(t, filepath.Join(dir, c.make), "", 0o700)
		}
		got, err := programSpec{Name: "a", Path: c.path}.find(dir)
		if (err != nil) != (c.want == "") || err == nil && got != filepath.Join(dir, c.want) {
			t.Errorf("%+v: %q, %v", c, got, err)
		}
	}
}

func TestPluginSettingsErrors(t *testing.T) {
	for says, program := range map[string]string{
		`3:13: unknown key "sha265" (did you mean "sha256"?)`:            "sha265: x",
		"3:13: sha256: 64 hexadecimal digits are expected":               "sha256: abc",
		"3:21: files.a: 64 hexadecimal digits are expected":              "files: {a: b}",
		"3:13: files: a mapping is expected":                             "files: [a]",
		"3:13: env: a mapping is expected":                               "env: A=b",
		"3:22: env.A: a single value is expected":                        "env: {A: [b]}",
		`3:13: instances: "17" is not a number from 1 to 16`:             "instances: 17",
		`3:13: instances: "0" is not a number from 1 to 16`:              "instances: 0",
		`3:13: calls: "many" is not a number from 1 to 256`:              "calls: many",
		"3:13: eager: true or false is expected":                         "eager: 1",
		"3:13: args: a list is expected, as in [a, b]":                   "args: a",
		"3:13: read: a list is expected, as in [a, b]":                   "read: {a: b}",
		"3:13: path: it is empty: give a value, or leave the key out":    "path: ''",
		"3:13: user: a value is missing: give one, or leave the key out": "user: ",
		"3:29: anchors and aliases are not accepted":                     "sha256: x, env: *e",
	} {
		path := writeFile(t, filepath.Join(t.TempDir(), "sidevault.yaml"), "plugins:\n  programs:\n    check: {"+program+"}\n", 0o600)
		_, err := load(t, nil, "--config", path)
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v\ndoes not say %s", program, err, says)
		}
	}
	for says, programs := range map[string]string{
		`2:14: plugins.programs: "A" is not a name`:       "{A: {}}",
		"2:17: plugins.programs.a: a mapping is expected": "{a: b}",
		"2:3: plugins.programs: a mapping is expected":    "[a]",
		`2:15: plugins.programs: "a b" is not a name`:     "{ a b: {}}",
	} {
		path := writeFile(t, filepath.Join(t.TempDir(), "sidevault.yaml"), "plugins:\n  programs: "+programs+"\n", 0o600)
		if _, err := load(t, nil, "--config", path); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v\ndoes not say %s", programs, err, says)
		}
	}
}

// The example in docs/configuration.md is read as it stands.
func TestDocumentedPlugins(t *testing.T) {
	_, section, _ := strings.Cut(readFile(t, "../../docs/configuration.md"), "\n## Plugins\n")
	_, example, _ := strings.Cut(section, "```yaml\n")
	example, _, _ = strings.Cut(example, "```")
	dir := t.TempDir()
	cfg, err := load(t, nil, "--config", writeFile(t, filepath.Join(dir, "sidevault.yaml"), example, 0o600))
	if err != nil {
		t.Fatal(err)
	}
	if programs, err := cfg.programs(false); err != nil || len(programs) != 3 || programs[1].Read[0] != filepath.Join(dir, "trustradius.token") {
		t.Errorf("%+v, %v", programs, err)
	}
}
