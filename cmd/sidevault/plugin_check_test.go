package main

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
)

// A program that is no plugin is told what it does wrong, and is not configured. Not in
// parallel: a process that another test starts could hold the script open for writing,
// and then nobody can run it.
func TestPluginCheckFails(t *testing.T) {
	dir := t.TempDir()
	program := writeFile(t, filepath.Join(dir, "sidevault-validator-acme"), "#!/bin/sh\necho oh no >&2\necho hello\n", 0o755)
	got := sidevault(t, "plugin", "check", program, "--kind", "validator")
	got.wants(t, exitError, "FAIL     handshake", "hello", "to do:", "oh no", "SHA-256: ", "checks failed")
	if strings.Contains(got.out, "sidevault.yaml") || strings.Contains(got.out, "\x1b") {
		t.Errorf("prints\n%s", got.out)
	}
	got = sidevault(t, "plugin", "check", program, "--json")
	var report struct {
		Path, SHA256 string
		OK           bool
		Results      []struct{ Name, Status, Advice string }
	}
	if err := json.Unmarshal([]byte(got.out), &report); err != nil || got.code != int(exitError) || report.OK || report.Path != program || len(report.SHA256) != 64 || len(report.Results) < 20 {
		t.Errorf("exit code %d, %v:\n%s", got.code, err, got.out)
	}
}

func TestPluginCheckRefuses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := func(name, text string) string { return writeFile(t, filepath.Join(dir, name), text, 0o644) }
	program := writeFile(t, filepath.Join(dir, "program"), "#!/bin/sh\n", 0o755)
	const canary = "canary-5d1c"
	for _, c := range []struct {
		want string
		args []string
	}{
		{"no such file", []string{filepath.Join(dir, "none")}},
		{"not a file", []string{dir}},
		{"chmod +x", []string{file("data", "x")}},
		{"neither validator nor syncer", []string{program, "--kind", "oracle"}},
		{"NAME=VALUE", []string{program, "--env", "=x"}},
		{"not a JSON object", []string{program, "--config", file("c.json", "[]")}},
		{"not a JSON object", []string{program, "--config", file("null.json", "null")}},
		{"is not a JSON list", []string{program, "--good", file("g1.json", `{"value": "`+canary+`"}`)}},
		{"is not a JSON list", []string{program, "--good", file("g2.json", `[{"key": "`+canary+`"}]`)}},
		{"is not a JSON list", []string{program, "--good", file("g3.json", `[`+canary)}},
		{"after the list", []string{program, "--good", file("g4.json", `[{"value": "x"}] `+canary)}},
		{"has no credentials", []string{program, "--bad", file("b1.json", `[]`)}},
		{"neither a value nor fields", []string{program, "--bad", file("b2.json", `[{"name": "x"}]`)}},
		{"or both", []string{program, "--bad", file("b3.json", `[{"value": "x", "fields": {"a": "`+canary+`"}}]`)}},
		{"PATH is missing", []string{"--", program}},
		{"1 expected", []string{program, "more"}},
	} {
		got := sidevault(t, append([]string{"plugin", "check"}, c.args...)...)
		if got.wants(t, exitUsage, c.want); strings.Contains(got.out+got.err, canary) {
			t.Errorf("%v: the answer quotes the file", c.args)
		}
	}
}
