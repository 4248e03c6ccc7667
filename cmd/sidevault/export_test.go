package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

func TestExport(t *testing.T) {
	t.Parallel()
	p, _ := protectedVault(t)
	dir := t.TempDir()
	p.cli(t, "=c4n4ry", "set", "salesforce", "-e", "staging", "--label", "team=a").wants(t, exitOK)
	p.cli(t, `{"sftp":{"host":"c4n4ry-h","username":"c4n4ry'u\n2"}}`, "import", "-", "-e", "staging").wants(t, exitOK)
	p.cli(t, "c4n4ry-s", "set", "slack").wants(t, exitOK)
	for _, format := range []string{"json", "csv", "env"} {
		got := p.cli(t, "", "export", "-e", "staging", "--format", format)
		got.wants(t, exitOK, "salesforce", "sftp", "without values")
		if strings.Contains(got.out+got.err, "c4n4ry") || strings.Contains(got.out, "slack") {
			t.Errorf("%s: more is exported than was asked for:\n%s", format, got.out)
		}
	}
	if n := reads(t, p); n != 0 {
		t.Errorf("%d reads for metadata", n)
	}
	for _, format := range []string{"json", "csv", "env"} {
		file := filepath.Join(dir, "out."+format)
		got := p.cli(t, "", "export", "-e", "staging", "--format", format, "--reveal", "--out", file)
		if got.wants(t, exitOK, "2 credentials with values in clear"); got.out != "" || strings.Contains(got.err, "c4n4ry") {
			t.Errorf("%s: printed %d bytes", format, len(got.out))
		}
		if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", format, info.Mode(), err)
		}
		if !strings.Contains(readFile(t, file), "c4n4ry-h") {
			t.Errorf("%s: there are no values in the file", format)
		}
		p.cli(t, "", "export", "-e", "staging", "--reveal", "--out", file).wants(t, exitError, "does not exist yet")
		into := []string{"import", file, "--dry-run"}
		if format == "env" {
			into = append(into, "-e", "staging")
		}
		p.cli(t, "", into...).wants(t, exitOK, changeUnchanged, "sftp in staging")
	}
	p.cli(t, "", "import", filepath.Join(dir, "out.json"), "-e", "production", "--yes").wants(t, exitUsage, "is of staging, and not of production")
	p.cli(t, "", "import", filepath.Join(dir, "out.env"), "-e", "production", "--yes").wants(t, exitOK, "created")
	// Each of the exports read two, and so did each import that compared.
	eventually(t, "the reads are audited", func() bool { return reads(t, p) >= 12 })
	wantsValue(t, p, "c4n4ry'u\n2", "sftp", "-e", "production", "--field", "username")
	p.cli(t, "", "export").wants(t, exitOK, "slack", "1 credential,")
	p.cli(t, "", "export", "--all", "--reveal").wants(t, exitUsage, "production is protected", "--yes to sidevault export")
	p.cli(t, "", "export", "--all", "--reveal", "--yes").wants(t, exitOK, "=c4n4ry", "c4n4ry-s")
	p.cli(t, "", "export", "sftp", "--all", "--format", "csv", "--reveal", "--yes").wants(t, exitOK, "integration,environment,name", "c4n4ry-h")
	if got := p.cli(t, "", "export", "-e", "staging", "--format", "csv", "--reveal"); !strings.Contains(got.out, ",'=c4n4ry") {
		t.Error("a formula is written to CSV as one")
	}
}

// reads counts the reads in the audit log.
func reads(t *testing.T, p *process) (n int) {
	t.Helper()
	got := p.cli(t, "", "audit", "list", "--action", "read_integration_credentials", "--limit", "100", "--json")
	var list []struct{ Metadata struct{ Count int } }
	if err := json.Unmarshal([]byte(got.out), &list); err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		n += max(1, e.Metadata.Count)
	}
	return n
}

// --output is for looking at it: the same data, in the forms of the other commands.
func TestExportOutput(t *testing.T) {
	t.Parallel()
	p, _ := protectedVault(t)
	p.cli(t, "c4n4ry", "set", "salesforce", "-e", "staging").wants(t, exitOK)
	p.cli(t, "", "export", "--all", "-o", "table").wants(t, exitOK, "INTEGRATION", "salesforce", "staging")
	p.cli(t, "", "export", "--all", "-o", "table", "--reveal").wants(t, exitUsage, "no values")
	p.cli(t, "", "export", "--all", "-o", "yaml", "--format", "csv").wants(t, exitUsage, "--format and --output")
	if asJSON := p.cli(t, "", "export", "--all", "--json"); asJSON.out != p.cli(t, "", "export", "--all").out {
		t.Error("--json is another than --format json")
	}
	got := p.cli(t, "", "export", "--all", "-o", "yaml", "--reveal")
	var list []struct{ IntegrationID, Value string }
	data, err := yaml.YAMLToJSON([]byte(got.out))
	if err == nil {
		err = json.Unmarshal(data, &list)
	}
	if err != nil || len(list) != 1 || list[0].IntegrationID != "salesforce" || list[0].Value != "c4n4ry" {
		t.Errorf("%d credentials, %v", len(list), err)
	}
}

func TestExportRefuses(t *testing.T) {
	t.Parallel()
	p, _ := protectedVault(t)
	dir := t.TempDir()
	p.cli(t, "c4n4ry", "set", "slack", "-e", "staging").wants(t, exitOK)
	p.cli(t, "c4n4ry", "set", "slack", "-e", "staging", "--name", "emea").wants(t, exitOK)
	p.cli(t, "", "export", "-e", "staging", "--format", "env").wants(t, exitUsage, `the name "emea"`, "--format json")
	p.cli(t, "", "export", "-e", "staging", "--format", "toml").wants(t, exitUsage, "json, csv, env")
	p.cli(t, "", "export", "-e", "staging", "--all").wants(t, exitUsage, "both given")
	p.cli(t, "", "export", "--all", "--format", "env").wants(t, exitUsage, "several environments")
	p.cli(t, "", "export", "-e", "production").wants(t, exitNotFound, "nothing to export", "production")
	p.cli(t, "", "export", "slack", "--raw", "--all").wants(t, exitUsage, "--all and --raw")

	userKey := filepath.Join(dir, "user.key")
	p.cli(t, "", "key", "create", "--name", "reader", "-e", "staging", "--key-file", userKey).wants(t, exitOK)
	user := &process{addr: p.addr, keyFile: userKey}
	got := user.cli(t, "", "export", "-e", "staging", "--reveal")
	if got.wants(t, exitDenied, `"reader" has scope user`, "sidevault get"); strings.Contains(got.out, "c4n4ry") {
		t.Error("a value is printed")
	}
	user.cli(t, "", "export", "-e", "staging").wants(t, exitOK, "slack")
}
