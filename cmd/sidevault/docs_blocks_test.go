package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var shellBlockRE = regexp.MustCompile("(?s)```sh\n(.*?)```")

// foreign are the command lines of others, as far as the guides call them: each prints
// what the real one does for these arguments, and fails for all others.
func foreign() map[string]string {
	const kv = `{"request_id": "1", "lease_id": "", "data": {"data": %s, "metadata": {"created_time": "2026-01-02T03:04:05Z", "version": 2, "destroyed": false}}, "warnings": null}`
	secret := func(fields string) string { return strings.Replace(kv, "%s", fields, 1) }
	answers := map[string]map[string]string{
		"vault": {
			"kv get -format=json secret/production/sftp":   secret(`{"host": "v.example.com", "username": "v"}`),
			"kv get -format=json secret/production/openai": secret(`{"api_key": "sk-v"}`),
		},
		"op": {
			"item list --vault Staging --format json": `[{"id": "a", "title": "HubSpot", "category": "PASSWORD"}]`,
			"item get - --format json --reveal":       `{"id": "a", "title": "HubSpot", "category": "PASSWORD", "fields": [{"id": "password", "type": "CONCEALED", "purpose": "PASSWORD", "label": "password", "value": "o"}]}`,
		},
		"doppler": {"secrets download --no-file --format json --config stg": `{"NOTION_VALUE": "d", "DOPPLER_CONFIG": "stg"}`},
		"aws":     {"secretsmanager get-secret-value --secret-id staging/sftp --query SecretString --output text": `{"host":"a.example.com","username":"a"}`},
		"gcloud":  {"secrets versions access latest --secret=openai": "sk-g"},
		"az":      {"keyvault secret show --vault-name staging --name openai --query value --output tsv": "sk-z"},
	}
	scripts := map[string]string{}
	for name, by := range answers {
		// What writes into a pipe must find a reader.
		script := "#!/bin/sh\ncase \"$*\" in *' - '*) cat > /dev/null ;; esac\ncase \"$*\" in\n"
		for args, prints := range by {
			script += "'" + args + "') printf '%s\\n' '" + prints + "' ;;\n"
		}
		scripts[name] = script + "*) echo \"" + name + ": $*\" >&2; exit 9 ;;\nesac\n"
	}
	return scripts
}

// The sh blocks of the guides work when they are pasted, one after the other.
func TestGuidesWork(t *testing.T) {
	t.Parallel()
	for guide, blocks := range map[string]int{"import": 9, "doctor": 2} {
		t.Run(guide, func(t *testing.T) {
			t.Parallel()
			found := shellBlockRE.FindAllStringSubmatch(readFile(t, "../../docs/"+guide+".md"), -1)
			if len(found) < blocks {
				t.Fatalf("%d blocks", len(found))
			}
			p, _ := serveVault(t)
			bin := t.TempDir()
			for name, script := range foreign() {
				writeFile(t, filepath.Join(bin, name), script, 0o755)
			}
			if err := os.Symlink(self(t), filepath.Join(bin, "sidevault")); err != nil {
				t.Fatal(err)
			}
			for _, block := range found {
				pasteBlock(t, p, bin, block[1])
			}
			if guide == "import" {
				wantsValue(t, p, "a.example.com", "sftp", "-e", "staging", "--field", "host")
				wantsValue(t, p, "sk-v", "openai", "-e", "production", "--no-fallback")
				wantsValue(t, p, "o", "hubspot", "-e", "staging")
				wantsValue(t, p, "d", "notion", "-e", "staging")
				wantsValue(t, p, "one", "servicenow", "-e", "development", "--name", "hook")
				wantsValue(t, p, "sk-proj-example", "openai", "-e", "development", "--name", "batch")
			}
		})
	}
}

func pasteBlock(t *testing.T, p *process, bin, block string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*deadline)
	defer cancel()
	// Of each pipe every program must succeed, not only the last.
	cmd := exec.CommandContext(ctx, "bash", "-euo", "pipefail", "-c", block)
	cmd.Dir = filepath.Dir(p.keyFile)
	cmd.Env = []string{asProgram + "=1", "PATH=" + bin + ":" + os.Getenv("PATH"), "HOME=" + bin, "GORACE=atexit_sleep_ms=0",
		addrVariable + "=" + p.addr, tokenFileVariable + "=" + p.keyFile}
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s\n%s", err, block, text)
	}
}
