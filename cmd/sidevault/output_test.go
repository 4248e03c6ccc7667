package main

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/quick"

	"filippo.io/age"
	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
)

// What is printed as YAML is what is printed as JSON.
func TestOutput(t *testing.T) {
	t.Parallel()
	p, _ := serveVault(t)
	fillVault(t, p)
	for _, args := range [][]string{
		{"list", "--configured"}, {"status", "salesforce"}, {"credential", "list"}, {"catalog", "show", "sftp"}, {"env", "list"},
		{"key", "list"}, {"get", "sftp", "-e", "production"}, {"sync", "list"}, {"plugin", "list"}, {"version"},
		{"audit", "list", "--action", "set_integration_credentials"},
	} {
		var fromJSON, fromYAML any
		asJSON, asYAML := p.cli(t, "", append(args, "-o", "json")...), p.cli(t, "", append(args, "--output", "yaml")...)
		if err := json.Unmarshal([]byte(asJSON.out), &fromJSON); err != nil {
			t.Fatalf("%v: %v", args, err)
		}
		data, err := yaml.YAMLToJSON([]byte(asYAML.out))
		if err := json.Unmarshal(data, &fromYAML); err != nil {
			t.Fatalf("%v: %v", args, err)
		}
		// The values of "get" are made up here, and no secrets.
		if diff := cmp.Diff(fromJSON, fromYAML); err != nil || diff != "" || fromJSON == nil {
			t.Errorf("%v: %v\n%s", args, err, diff)
		}
		if short := p.cli(t, "", append(args, "--json")...); short.out != asJSON.out {
			t.Errorf("%v: --json prints something else", args)
		}
		if table := p.cli(t, "", append(args, "--output", "table")...); table.out != p.cli(t, "", args...).out && args[0] != "get" {
			t.Errorf("%v: the table is not the default", args)
		}
	}
	p.cli(t, "", "list", "-o", "xml").wants(t, exitUsage, "table, json and yaml", "--help")
}

func TestYAMLHolds(t *testing.T) {
	same := func(s string) bool {
		s = strings.ToValidUTF8(s, "")
		var b bytes.Buffer
		var back map[string]string
		return asYAML.print(&b, map[string]string{"v": s, "k" + s: s}) == nil && yaml.Unmarshal(b.Bytes(), &back) == nil &&
			back["v"] == s && back["k"+s] == s
	}
	for _, s := range []string{"", "null", "~", "yes", "no", "1.0", "0x1f", "1e3", "2026-01-01", "- a", "a: b", "#c", " x ", "a\nb\n", "\n", "\ta\n  b", "'\"", "{a}", "*a", "&a", "!a", "%a", "@a", "a\rb", "a\r\nb", "a #b", "|", ">", "\u2028", "\u0085", "\x7f", "\x1b[1m", "a\n\n", "\n\na", "  a\nb", "Yes", "off", "e", "a -", "a  b", "a ", "ab/c.d-e_f g"} {
		if !same(s) {
			t.Errorf("%q is another after YAML", s)
		}
	}
	if err := quick.Check(same, nil); err != nil {
		t.Error(err)
	}
}

func TestYAMLForm(t *testing.T) {
	type inner struct {
		A []any          `json:"a"`
		B map[string]any `json:"b"`
	}
	var b bytes.Buffer
	v := []inner{{A: []any{1, "x", nil, []int{2, 3}, map[string]any{}}, B: map[string]any{"c": true, "d": 1.5e300}}, {}}
	if err := asYAML.print(&b, v); err != nil {
		t.Fatal(err)
	}
	var back []inner
	if err := yaml.Unmarshal(b.Bytes(), &back); err != nil {
		t.Fatalf("%v\n%s", err, &b)
	}
	before, _ := json.Marshal(v)
	after, _ := json.Marshal(back)
	if string(before) != string(after) {
		t.Errorf("%s became %s\n%s", before, after, &b)
	}
	for _, empty := range []any{[]int{}, map[string]int{}, "x", nil} {
		b.Reset()
		if err := asYAML.print(&b, empty); err != nil || strings.HasPrefix(b.String(), " ") || strings.Count(b.String(), "\n") != 1 {
			t.Errorf("%v is %q, %v", empty, &b, err)
		}
	}
}

// Whoever has --json has --output.
func TestOutputFlags(t *testing.T) {
	n := 0
	eachCommand(newRoot(&shell{}), func(cmd *cobra.Command) {
		if j, o := cmd.Flags().Lookup(jsonFlag), cmd.Flags().Lookup(outputFlag); (j == nil) != (o == nil) {
			t.Errorf("%s: one of --json and --output", cmd.CommandPath())
		} else if o != nil {
			n++
		}
	})
	if n < 25 {
		t.Errorf("%d commands print data", n)
	}
}

// What changes the storage itself reports to programs, too.
func TestOutputOfStorage(t *testing.T) {
	t.Parallel()
	p, dir := serveVault(t)
	fillVault(t, p)
	id := p.cli(t, "", "credential", "list", "--integration", "slack", "-o", "json")
	var list []struct{ ID string }
	if err := json.Unmarshal([]byte(id.out), &list); err != nil || len(list) != 1 {
		t.Fatalf("%v\n%s", err, id.out)
	}
	p.cli(t, "", "delete", "slack", "-e", "production", "--name", "bot-2").wants(t, exitOK)
	base := t.TempDir()
	backup, to, identity := filepath.Join(base, "b.age"), filepath.Join(base, "to"), filepath.Join(dir, identityFile)
	report := func(o outcome, parts ...string) {
		t.Helper()
		var v any
		if o.wants(t, exitOK, parts...); json.Unmarshal([]byte(o.out), &v) != nil {
			t.Errorf("not JSON: %s", o.out)
		}
	}
	report(p.cli(t, "", "backup", backup, "--json"), backup, `"bytes"`)
	p.signalled(t, syscall.SIGTERM)
	stranger, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	recipient := stranger.Recipient().String()
	report(sidevault(t, "credential", "restore", list[0].ID, "--data-dir", dir, "--json"), `"name": "bot-2"`, `"environment": "production"`)
	report(sidevault(t, "env", "share", "staging", "--recipient", recipient, "--data-dir", dir, "--json"), recipient, `"keyHeld": true`)
	report(sidevault(t, "purge", "--older-than", "0d", "--data-dir", dir, "--json"), `"credentials": 0`)
	report(sidevault(t, "restore", backup, "--data-dir", to, "--identity", identity, "--json"), `"versionsChecked": 3`, `"auditHead"`)
	report(sidevault(t, "export", "salesforce", "--raw", "--data-dir", to, "--identity", identity, "--out", filepath.Join(base, "raw"), "--json"), `"record"`, keyFile)
	other, _ := moveTo(t, dir)
	report(sidevault(t, "migrate", "--from", fileURL(to), "--to", fileURL(other), "--json"), `"records"`, `"auditEntries"`)
	sidevault(t, "purge", "--older-than", "0d", "--data-dir", dir, "-o", "yaml").wants(t, exitOK, "credentials: 0")
}
