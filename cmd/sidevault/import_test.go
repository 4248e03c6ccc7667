package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// wantsValue fails the test unless a credential has that value.
func wantsValue(t *testing.T, p *process, value string, args ...string) {
	t.Helper()
	got := p.cli(t, "", append([]string{"get"}, args...)...)
	if got.wants(t, exitOK); got.out != value {
		t.Errorf("get %v does not print the %d bytes that were set", args, len(value))
	}
}

// changesOf decodes what import and copy print.
func changesOf(t *testing.T, o outcome) map[string]string {
	t.Helper()
	var list []change
	if err := json.Unmarshal([]byte(o.out), &list); err != nil {
		t.Fatalf("%v\n%s%s", err, o.out, o.err)
	}
	become := map[string]string{}
	for _, c := range list {
		become[c.Source] = c.Change
	}
	return become
}

// protectedVault serves a vault whose production is protected.
func protectedVault(t *testing.T) (*process, string) {
	t.Helper()
	environments := []string{"--environments", "development,staging,production:protected"}
	dir, keyFile := makeVault(t, environments...)
	return startServe(t, keyFile, append(environments, "--data-dir", dir)...), dir
}

const dotEnv = `# credentials of the service
export SFTP_HOST=sftp.example.com
SFTP_USERNAME=me
SFTP_PASSWORD='c4n4ry$1 #x'
OPENAI_API_KEY="sk-c4n4ry"
PORT=8080
`

func TestImportEnv(t *testing.T) {
	t.Parallel()
	p, _ := protectedVault(t)
	file := writeFile(t, filepath.Join(t.TempDir(), ".env"), dotEnv, 0o600)
	dry := p.cli(t, "", "import", file, "-e", "staging", "--dry-run")
	dry.wants(t, exitOK, "line 2: SFTP_HOST, SFTP_USERNAME, SFTP_PASSWORD", "sftp in staging", "would create", "openai in staging", "line 6: PORT", "skipped", "--map FILE", "dry run")
	p.cli(t, "", "list", "--configured", "--json").wants(t, exitOK, "[]")

	done := p.cli(t, "", "import", file, "-e", "staging")
	done.wants(t, exitOK, "created")
	if strings.Contains(dry.out+dry.err+done.out+done.err, "c4n4ry") {
		t.Error("a value is printed")
	}
	if strings.Contains(done.err, "warning") {
		t.Errorf("a warning for a file of mode 0600: %s", done.err)
	}
	wantsValue(t, p, "c4n4ry$1 #x", "sftp", "-e", "staging", "--field", "password", "--no-fallback")
	wantsValue(t, p, "sk-c4n4ry", "openai", "-e", "staging")

	writeFile(t, file, strings.Replace(dotEnv, "sk-c4n4ry", "sk-other", 1), 0o644)
	again := p.cli(t, "", "import", file, "-e", "staging", "--json")
	again.wants(t, exitOK, "others can read it (mode 0644): chmod 600")
	got := changesOf(t, again)
	if got["SFTP_HOST, SFTP_USERNAME, SFTP_PASSWORD"] != changeUnchanged || got["OPENAI_API_KEY"] != changeRotate || got["PORT"] != changeSkip {
		t.Errorf("again: %v", got)
	}
	p.cli(t, "", "status", "openai", "-e", "staging", "--json").wants(t, exitOK, `"version": 2`)
	p.cli(t, "", "status", "sftp", "-e", "staging", "--json").wants(t, exitOK, `"version": 1`)

	p.cli(t, "", "import", file, "-e", "production").wants(t, exitUsage, "production is protected", "--yes")
	p.cli(t, "", "list", "--configured", "-e", "production", "--json").wants(t, exitOK, "[]")
	p.cli(t, "", "import", file, "-e", "production", "--yes").wants(t, exitOK, "created")
}

// A file with anything wrong changes nothing, and every wrong line is named.
func TestImportRefuses(t *testing.T) {
	t.Parallel()
	p, _ := protectedVault(t)
	dir := t.TempDir()
	file := func(name, text string) string { return writeFile(t, filepath.Join(dir, name), text, 0o600) }
	for name, c := range map[string]struct {
		args []string
		says []string
	}{
		"broken lines":     {[]string{file("a.env", "OPENAI_API_KEY=sk-ok\nc4n4ry\nA='c4n4ry\n")}, []string{"line 2: not NAME=VALUE", "line 3: A has no closing quote", "nothing was changed"}},
		"pattern":          {[]string{file("b.env", "OPENAI_API_KEY=sk-ok\nSLACK_BOT_TOKEN=c4n4ry\n")}, []string{"line 2: SLACK_BOT_TOKEN, slack in all environments", "nothing was changed", "1 of 2"}},
		"missing field":    {[]string{file("c.env", "SFTP_HOST=c4n4ry\n")}, []string{"line 1: SFTP_HOST", "username"}},
		"unknown field":    {[]string{file("d.json", `{"openai":{"api_key":"sk-ok"},"sftp":{"hots":"c4n4ry"}}`)}, []string{`did you mean "host"?`}},
		"unknown":          {[]string{file("e.csv", "integration,value\nopenai,sk-ok\nnosuch,c4n4ry\n")}, []string{"line 3: nosuch"}},
		"environment":      {[]string{file("f.csv", "integration,environment,value\nopenai,,sk-ok\nslack,prod,c4n4ry\n")}, []string{`did you mean "production"?`}},
		"other scope":      {[]string{file("g.csv", "integration,environment,value\nopenai,staging,c4n4ry\n"), "-e", "development"}, []string{"line 2", "is of staging, and not of development"}},
		"expired":          {[]string{file("h.csv", "integration,value,expires_at\nopenai,c4n4ry,2020-01-01T00:00:00Z\n")}, []string{"expired on 2020"}},
		"too long":         {[]string{file("i.env", "OPENAI_API_KEY="+strings.Repeat("c4n4ry", 2000))}, []string{"8192"}},
		"what is it":       {[]string{file("j", "c4n4ry")}, []string{"--format", "1password"}},
		"format":           {[]string{file("k.env", "A=c4n4ry"), "--format", "jsn"}, []string{`did you mean "json"?`}},
		"nothing":          {[]string{file("l.env", "# c4n4ry")}, []string{"nothing to import"}},
		"no file":          {[]string{filepath.Join(dir, "none")}, []string{"none"}},
		"mapping":          {[]string{file("m.env", "A=c4n4ry"), "--map", file("m.yaml", "A: {integratoin: slack}")}, []string{"m.yaml", "integratoin"}},
		"no name":          {[]string{file("n.json", `{"data":{"data":{"host":"c4n4ry"},"metadata":{}}}`)}, []string{"--integration"}},
		"two at one place": {[]string{file("o.env", "OPENAI=c4n4ry\nOPENAI_VALUE=c4n4ry")}, []string{"line 2: OPENAI_VALUE is the value of openai", "line 1"}},
	} {
		t.Run(name, func(t *testing.T) {
			got := p.cli(t, "", append([]string{"import"}, c.args...)...)
			got.wants(t, exitUsage, c.says...)
			if strings.Contains(got.out+got.err, "c4n4ry") {
				t.Error("a value is printed")
			}
		})
	}
	p.cli(t, "", "list", "--configured", "--json").wants(t, exitOK, "[]")
	p.cli(t, "", "audit", "list", "--action", "create_integration_credentials", "--json").wants(t, exitOK, "[]")
	(&process{addr: "http://127.0.0.1:1", keyFile: p.keyFile}).cli(t, "A=1", "import", "-", "--format", "env").wants(t, exitUnavailable, "http://127.0.0.1:1")
}

// A denial says what the key may, and which command makes one that may more.
func TestImportDenied(t *testing.T) {
	t.Parallel()
	p, _ := protectedVault(t)
	dir := t.TempDir()
	file := writeFile(t, filepath.Join(dir, "a.csv"), "integration,environment,value\nslack,development,c4n4ry\nslack,staging,c4n4ry\n", 0o600)
	for name, c := range map[string]struct{ grant, says []string }{
		"environment": {[]string{"--scope", "admin", "-e", "development"}, []string{"line 3: slack, slack in staging", "the grant of k covers these environments: development", "sidevault key create"}},
		"scope":       {[]string{"-e", "*"}, []string{"k has user scope", "sidevault key create --name NAME --scope admin"}},
	} {
		key := filepath.Join(dir, name+".key")
		p.cli(t, "", append([]string{"key", "create", "--name", "k", "--key-file", key}, c.grant...)...).wants(t, exitOK)
		(&process{addr: p.addr, keyFile: key}).cli(t, "", "import", file).wants(t, exitDenied, c.says...)
	}
	p.cli(t, "", "list", "--configured", "--json").wants(t, exitOK, "[]")
}

func TestImportForeign(t *testing.T) {
	t.Parallel()
	p, _ := protectedVault(t)
	mapping := writeFile(t, filepath.Join(t.TempDir(), "map.yaml"), "secret/apps/files: {integration: sftp, name: files, fields: {user: username}}\nHOOK: {integration: servicenow, environment: development}\n", 0o600)
	for _, c := range []struct {
		stdin string
		args  []string
		sets  []string // what get prints, and its arguments
	}{
		{`{"request_id":"1","data":{"data":{"host":"h","username":"u1"},"metadata":{"version":3}}}`, []string{"--integration", "sftp", "-e", "staging"},
			[]string{"u1", "sftp", "-e", "staging", "--field", "username"}},
		{`{"secret/apps/files":{"data":{"data":{"host":"h","user":"u2"},"metadata":{}}}}`, []string{"--map", mapping, "-e", "staging"},
			[]string{"u2", "sftp", "-e", "staging", "--name", "files", "--field", "username"}},
		{`{"id":"1","title":"HubSpot","category":"API_CREDENTIAL","fields":[{"id":"credential","type":"CONCEALED","label":"credential","value":"u3"}]}`, []string{"-e", "development"},
			[]string{"u3", "hubspot", "-e", "development"}},
		{`{"HOOK":"u4","DOPPLER_CONFIG":"dev"}`, []string{"--map", mapping}, []string{"u4", "servicenow", "-e", "development"}},
		{`{"ZENDESK_VALUE":{"computed":"u5","note":""}}`, nil, []string{"u5", "zendesk"}},
		{"key,value\nNOTION_VALUE,u6\n", nil, []string{"u6", "notion"}},
	} {
		got := p.cli(t, c.stdin, append([]string{"import", "-"}, c.args...)...)
		if got.wants(t, exitOK, "created"); strings.Contains(got.out+got.err, c.sets[0]) {
			t.Errorf("a value is printed: %v", c.args)
		}
		wantsValue(t, p, c.sets[0], c.sets[1:]...)
	}
}

// stalled passes requests on to a sidecar until the nth creation, which it keeps.
func stalled(t *testing.T, p *process, nth int) (through *process, reached <-chan struct{}) {
	t.Helper()
	target, err := url.Parse(p.addr)
	if err != nil {
		t.Fatal(err)
	}
	// Without X-Forwarded-For, which a sidecar refuses.
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) }}
	created, at := 0, make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost && r.URL.Path == "/v1/credentials" {
			if created++; created == nth {
				// Only then does a server notice that its client is gone.
				io.Copy(io.Discard, r.Body)
				close(at)
				<-r.Context().Done()
				return
			}
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	return &process{addr: s.URL, keyFile: p.keyFile}, at
}

// An import that is interrupted says how far it came, and another goes on.
func TestImportInterrupted(t *testing.T) {
	t.Parallel()
	p, _ := serveVault(t)
	through, reached := stalled(t, p, 3)
	var csv strings.Builder
	csv.WriteString("integration,name,value\n")
	for i := range 5 {
		fmt.Fprintf(&csv, "salesforce,n%d,c4n4ry%d\n", i, i)
	}
	file := writeFile(t, filepath.Join(t.TempDir(), "a.csv"), csv.String(), 0o600)
	cmd := invocation{env: []string{addrVariable + "=" + through.addr, tokenFileVariable + "=" + p.keyFile}, args: []string{"import", file}}.command(t.Context(), t)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case <-reached:
		cmd.Process.Signal(os.Interrupt)
		<-ended
	case <-ended:
		t.Errorf("the import ended before it was interrupted")
	}
	outcome{cmd.ProcessState.ExitCode(), out.String(), errs.String()}.wants(t, exitError, "interrupted", "2 of 5 are done", "run sidevault import again", "created", "not done")
	p.cli(t, "", "import", file).wants(t, exitOK, changeUnchanged, "created")
	for i := range 5 {
		wantsValue(t, p, fmt.Sprint("c4n4ry", i), "salesforce", "--name", fmt.Sprint("n", i))
	}
	p.cli(t, "", "credential", "list", "--json").wants(t, exitOK, `"version": 1`)
	if got := p.cli(t, "", "credential", "list", "--json"); strings.Contains(got.out, `"version": 2`) {
		t.Error("what was done is done twice")
	}
}

func TestCopy(t *testing.T) {
	t.Parallel()
	p, _ := protectedVault(t)
	p.cli(t, "c4n4ry", "set", "salesforce", "-e", "staging", "--label", "team=a", "--auth-type", "basic", "--expires", "720h").wants(t, exitOK)
	p.cli(t, "shared", "set", "slack").wants(t, exitOK)
	p.cli(t, "", "copy", "salesforce").wants(t, exitUsage, "--from")
	p.cli(t, "", "copy", "salesforce", "--from", "staging", "--to", "staging").wants(t, exitUsage, "same place")
	p.cli(t, "", "copy", "slack", "--from", "staging", "--to", "development").wants(t, exitNotFound)
	p.cli(t, "", "copy", "salesforce", "--from", "staging", "--to", "production").wants(t, exitUsage, "production is protected", "--yes to sidevault copy")
	p.cli(t, "", "copy", "salesforce", "--from", "staging", "--to", "production", "--dry-run").wants(t, exitOK, "would create")
	p.cli(t, "", "status", "salesforce", "-e", "production").wants(t, exitOK, "Nothing is set")
	got := p.cli(t, "", "copy", "salesforce", "--from", "staging", "--to", "production", "--yes")
	if got.wants(t, exitOK, "salesforce in production", "created"); strings.Contains(got.out+got.err, "c4n4ry") {
		t.Error("a value is printed")
	}
	wantsValue(t, p, "c4n4ry", "salesforce", "-e", "production", "--no-fallback")
	p.cli(t, "", "status", "salesforce", "-e", "production", "--json").wants(t, exitOK, `"team": "a"`, `"authType": "basic"`, "expiresAt")
	p.cli(t, "", "copy", "salesforce", "--from", "staging", "--to", "production", "--yes").wants(t, exitOK, changeUnchanged)

	p.cli(t, "newer", "set", "salesforce", "-e", "staging").wants(t, exitOK)
	p.cli(t, "", "copy", "salesforce", "--from", "staging", "--to", "production", "--yes").wants(t, exitConflict, "the value is another", "--replace")
	p.cli(t, "", "copy", "salesforce", "--from", "staging", "--to", "production", "--dry-run").wants(t, exitOK, "would rotate", "it takes --replace")
	wantsValue(t, p, "c4n4ry", "salesforce", "-e", "production")
	p.cli(t, "", "copy", "salesforce", "--from", "staging", "--to", "production", "--yes", "--replace").wants(t, exitOK, "rotated")
	wantsValue(t, p, "newer", "salesforce", "-e", "production")
	p.cli(t, "", "copy", "salesforce", "--from", "production", "--to", "development").wants(t, exitUsage, "production is protected", "--yes")
	p.cli(t, "", "status", "salesforce", "-e", "development").wants(t, exitOK, "Nothing is set")
	p.cli(t, "", "copy", "slack", "--from", "@shared", "--to", "development", "--to-name", "second").wants(t, exitOK, `slack in development (name "second")`)
	wantsValue(t, p, "shared", "slack", "-e", "development", "--name", "second")
}

func TestRename(t *testing.T) {
	t.Parallel()
	p, _ := protectedVault(t)
	p.cli(t, "one", "set", "servicenow", "-e", "staging").wants(t, exitOK)
	p.cli(t, "two", "set", "servicenow", "-e", "staging", "--name", "emea").wants(t, exitOK)
	wantsValue(t, p, "one", "servicenow", "-e", "staging")
	p.cli(t, "", "rename", "servicenow", "emea", "-e", "staging").wants(t, exitConflict, "set already", "another name")
	p.cli(t, "", "rename", "servicenow", "default", "-e", "staging").wants(t, exitUsage, "already")
	p.cli(t, "", "rename", "servicenow", "us", "-e", "staging", "--dry-run").wants(t, exitOK, "Would rename servicenow in staging", "1 caller read it under the old name", "credential usage cred-")
	wantsValue(t, p, "one", "servicenow", "-e", "staging")
	p.cli(t, "", "rename", "servicenow", "us", "-e", "staging").wants(t, exitOK, `Renamed to servicenow in staging (name "us")`)
	wantsValue(t, p, "one", "servicenow", "-e", "staging", "--name", "us")
	p.cli(t, "", "get", "servicenow", "-e", "staging").wants(t, exitNotFound)
	p.cli(t, "", "rename", "servicenow", "x", "-e", "development").wants(t, exitNotFound)
	p.cli(t, "three", "set", "servicenow", "-e", "production").wants(t, exitOK)
	p.cli(t, "", "rename", "servicenow", "x", "-e", "production").wants(t, exitUsage, "is protected", "--yes")
	p.cli(t, "", "rename", "servicenow", "x", "-e", "production", "--yes", "--json").wants(t, exitOK, `"name": "x"`)
}
