package main

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/quick"

	"github.com/goccy/go-yaml"
)

const page = `url: {{ with fields "sftp" }}sftp://{{ .username }}:{{ url .password }}@{{ .host }}{{ end }}
value: {{ credential "salesforce" "value" "" "staging" | yaml }}
bot: {{ credential "slack" "" "bot-2" | json }} {{ credential "slack" "value" "bot-2" | base64 }}
`

const rendered = `url: sftp://me:it%27s%20%24secret@h.example.com
value: "shared"
bot: "two\nlines" dHdvCmxpbmVz
`

func TestTemplate(t *testing.T) {
	t.Parallel()
	p, _ := serveVault(t)
	fillVault(t, p)
	dir := t.TempDir()
	in, out := writeFile(t, filepath.Join(dir, "in"), page, 0o600), filepath.Join(dir, "out")
	p.cli(t, "", "template", "-e", "production", in, out).wants(t, exitOK)
	if info, err := os.Stat(out); err != nil || info.Mode().Perm() != 0o600 || readFile(t, out) != rendered {
		t.Errorf("the file is not what it should be (%v)", err)
	}
	p.cli(t, "", "template", "-e", "production", in, out, "--mode", "0640", "--exec", "touch "+out+".told").wants(t, exitOK)
	if info, err := os.Stat(out); err != nil || info.Mode().Perm() != 0o640 || !exists(out+".told") {
		t.Errorf("the mode is %v, and the command was run: %v", info.Mode(), exists(out+".told"))
	}
	p.cli(t, "", "template", "-e", "production", in, out, "--mode", "0640", "--exec", "touch "+out+".again").wants(t, exitOK)
	if exists(out + ".again") {
		t.Error("the command was run after nothing had changed")
	}
	os.Remove(out)
	p.cli(t, "", "template", "-e", "production", in, out, "--exec", "env >"+out+".env; exit 3").wants(t, exitError, "was written", "exit status 3")
	if env := readFile(t, out+".env"); strings.Contains(env, variablePrefix) || !strings.Contains(env, "PATH=") {
		t.Errorf("the command gets what is ours")
	}
	if got := p.cli(t, page, "template", "-e", "production", "-", "-"); got.out != rendered {
		t.Errorf("standard output has %d bytes\n%s", len(got.out), got.err)
	}
	if list := left(t, dir); len(list) != 4 {
		t.Errorf("%v", list)
	}
}

// Whatever is wrong, the file stays, and no value is shown.
func TestTemplateFailsClosed(t *testing.T) {
	t.Parallel()
	p, _ := serveVault(t)
	fillVault(t, p)
	dir := t.TempDir()
	out := writeFile(t, filepath.Join(dir, "out"), "before", 0o600)
	for text, says := range map[string][]string{
		`{{ credential "salesforce" }}{{ credential "slack" }}`:            {"line 1", "slack in production", "credential"},
		"\n" + `{{ credential "nonsense" }}`:                               {"line 2", "catalog list"},
		`{{ credential "salesforce" "value" "" "prod" }}`:                  {`did you mean "production"?`},
		`{{ credential "sftp" "pasword" }}`:                                {`did you mean "password"?`},
		`{{ credential "sftp" }}`:                                          {"several fields"},
		`{{ (fields "sftp").pasword }}`:                                    {"line 1", "not there"},
		`{{ index (credential "sftp" "password") "x" }}`:                   {"line 1"},
		`{{ slice (credential "sftp" "password") 99 }}`:                    {"line 1"},
		`{{ template "x" (credential "sftp" "password") }}`:                {"line 1"},
		`{{ credential "sftp" "password" | printf "%s" | len | index 1 }}`: {"line 1"},
		`{{ call (credential "sftp" "password") }}`:                        {"line 1"},
		`{{ credential "sftp" (credential "sftp" "password") }}`:           {"line 1", "computed"},
		`{{ fields (credential "sftp" "password") }}`:                      {"line 1", "computed"},
		"\n{{ credentail }}":                                               {"line 2", "credentail"},
		"{{ if }}":                                                         {"line 1"},
	} {
		got := p.cli(t, text, "template", "-e", "production", "-", out)
		if got.code == 0 || strings.Contains(got.err, "secret") || strings.Contains(got.err, "panic") || strings.Count(got.err, "\n") > 2 {
			t.Errorf("%s: %d\n%s", text, got.code, got.err)
		}
		for _, s := range says {
			if !strings.Contains(got.err, s) {
				t.Errorf("%s: %q is not in\n%s", text, s, got.err)
			}
		}
	}
	if readFile(t, out) != "before" || len(left(t, dir)) != 1 {
		t.Error("the file was touched")
	}
	p.cli(t, "x", "template", "-", filepath.Join(dir, "no", "out")).wants(t, exitError, "it is as it was")
	p.cli(t, "x", "template", "-", dir).wants(t, exitError, "directory")
	p.cli(t, "x", "template", "-", out, "--mode", "0999").wants(t, exitUsage, "--mode")
	p.cli(t, "x", "template", "-", "-", "--watch").wants(t, exitUsage, "need a file")
	p.cli(t, "", "template", dir+"/none", out).wants(t, exitUsage, dir+"/none")
	p.cli(t, "", "template", out).wants(t, exitUsage, "OUT is missing")
	away := &process{addr: "http://127.0.0.1:1", keyFile: p.keyFile}
	away.cli(t, `{{ credential "salesforce" }}`, "template", "-", out).wants(t, exitUnavailable, "http://127.0.0.1:1", "sidevault serve")
}

// The quotes hold whatever is put between them.
func TestTemplateQuotes(t *testing.T) {
	same := func(s string) bool {
		s = strings.ToValidUTF8(strings.ReplaceAll(s, "\x00", "\r\n'\"$`\\\u0085\u2028\x7f"), "")
		var fromJSON, fromYAML string
		j, err := quoteJSON(s)
		y, err2 := quoteYAML(s)
		return err == nil && err2 == nil && json.Unmarshal([]byte(j), &fromJSON) == nil && fromJSON == s &&
			yaml.Unmarshal([]byte(y), &fromYAML) == nil && fromYAML == s && !strings.ContainsAny(j+y, "\n\r")
	}
	for _, s := range []string{"", "\x00", "null", "-", "a: b # c", "\U000e0001", "\ufeff", "trailing ", "\ttab"} {
		if !same(s) {
			t.Errorf("%q is another after JSON or YAML", s)
		}
	}
	if err := quick.Check(same, nil); err != nil {
		t.Error(err)
	}
	for _, s := range []string{"", "a b", "it's", "$(x)`y`\\", "\n"} {
		got, err := exec.Command("sh", "-c", "printf %s "+quoteShell(s)).Output()
		if err != nil || string(got) != s {
			t.Errorf("%q is %q in a shell (%v)", s, got, err)
		}
	}
	if got := quoteURL("a b/c?d#e@f:g+h%"); got != "a%20b%2Fc%3Fd%23e%40f%3Ag%2Bh%25" {
		t.Errorf("in a URL: %s", got)
	}
}

func TestTemplateWatch(t *testing.T) {
	t.Parallel()
	p, _ := serveVault(t)
	p.cli(t, "one", "set", "salesforce").wants(t, exitOK)
	dir := t.TempDir()
	in, out := writeFile(t, filepath.Join(dir, "in"), `{{ credential "salesforce" | len }} {{ credential "salesforce" }}`, 0o600), filepath.Join(dir, "out")
	told := filepath.Join(dir, "told")
	cmd := invocation{
		env:  []string{addrVariable + "=" + p.addr, tokenFileVariable + "=" + p.keyFile},
		args: []string{"template", "--watch", "--exec", "cat " + out + " >>" + told + "; echo >>" + told, in, out},
	}.command(context.Background(), t)
	var log lockedBuffer
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() { cmd.Process.Kill() })
	has := func(text string) {
		t.Helper()
		eventually(t, "the file has "+text, func() bool { b, _ := os.ReadFile(told); return string(b) == text })
	}
	has("3 one\n")
	p.cli(t, "three", "set", "salesforce").wants(t, exitOK)
	has("3 one\n5 three\n")
	p.cli(t, "three", "set", "salesforce").wants(t, exitOK)
	p.cli(t, "", "delete", "salesforce").wants(t, exitOK)
	eventually(t, "it says so", func() bool { return strings.Contains(log.String(), "stays in use") })
	if readFile(t, out) != "5 three" {
		t.Error("the file did not stay")
	}
	p.cli(t, "seven", "set", "salesforce").wants(t, exitOK)
	has("3 one\n5 three\n5 seven\n")
	cmd.Process.Signal(syscall.SIGINT)
	if err := <-ended; err != nil {
		t.Errorf("%v\n%s", err, &log)
	}
	if list := left(t, dir); len(list) != 3 {
		t.Errorf("%v", list)
	}
}
