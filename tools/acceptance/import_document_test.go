package acceptance

import (
	"strings"
	"testing"

	"github.com/sidevault/sidevault/tools/acceptance/guide"
)

// besideStores has the command lines of other stores, as far as docs/import.md calls them:
// each prints what the real one does for these arguments, and fails for all others.
func besideStores(t *testing.T) *guide.Reader {
	r := besides(t, binary.Serve(t))
	const kv = `{"request_id": "1", "lease_id": "", "data": {"data": %s, "metadata": {"created_time": "2026-01-02T03:04:05Z", "version": 2, "destroyed": false}}, "warnings": null}`
	secret := func(fields string) string { return strings.Replace(kv, "%s", fields, 1) }
	for name, answers := range map[string]map[string]string{
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
	} {
		// What writes into a pipe must find a reader.
		script := "#!/bin/sh\ncase \"$*\" in *' - '*) cat > /dev/null ;; esac\ncase \"$*\" in\n"
		for args, prints := range answers {
			script += "'" + args + "') printf '%s\\n' '" + prints + "' ;;\n"
		}
		install(t, r, name, script+"*) echo \""+name+": $*\" >&2; exit 9 ;;\nesac\n")
	}
	return r
}

// imported asks for what docs/import.md has brought over by its end.
func imported() []guide.Block {
	var b guide.Block
	b.Document, b.Language = "what docs/import.md imports", "text"
	for _, want := range [][2]string{
		{"a.example.com", "sftp -e staging --field host"},
		{"sk-v", "openai -e production --no-fallback"},
		{"o", "hubspot -e staging"},
		{"d", "notion -e staging"},
		{"sk-g", "openai -e staging --name gcp"},
		{"sk-z", "openai -e staging --name azure"},
		{"one", "servicenow -e development --name hook"},
		{"sk-proj-example", "openai -e development --name batch"},
	} {
		b.Text += "sidevault get " + want[1] + "; echo\n"
		b.Prints += want[0] + "\n"
	}
	return []guide.Block{b}
}
