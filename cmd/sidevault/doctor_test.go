package main

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// examine runs doctor and returns what it found.
func examine(t *testing.T, p *process, args ...string) (list []finding, code exitCode) {
	t.Helper()
	got := p.cli(t, "", append([]string{"doctor", "--json"}, args...)...)
	if err := json.Unmarshal([]byte(got.out), &list); err != nil || len(list) == 0 {
		t.Fatalf("%v\n%s%s", err, got.out, got.err)
	}
	return list, exitCode(got.code)
}

// found reports whether there is a finding of that check and severity with that text.
func found(list []finding, severity, check, says string) bool {
	for _, f := range list {
		if f.Severity == severity && f.Check == check && strings.Contains(f.Message+" / "+f.Cure, says) {
			return true
		}
	}
	return false
}

func wantsFinding(t *testing.T, list []finding, severity, check, says string) {
	t.Helper()
	if !found(list, severity, check, says) {
		text, _ := json.MarshalIndent(list, "", " ")
		t.Errorf("no %s of %s that says %q:\n%s", severity, check, says, text)
	}
}

// Every finding that needs mending says how.
func wantsCures(t *testing.T, list []finding) {
	t.Helper()
	for _, f := range list {
		if f.Severity != severityOK && f.Cure == "" {
			t.Errorf("no cure: %+v", f)
		}
	}
}

func TestDoctorFindsNothing(t *testing.T) {
	t.Parallel()
	p, dir := serveVault(t)
	p.cli(t, "one", "set", "salesforce", "-e", "staging").wants(t, exitOK)
	list, _ := examine(t, p, "--data-dir", dir)
	for _, f := range list {
		if f.Severity == severityError {
			t.Errorf("%+v", f)
		}
	}
	wantsCures(t, list)
	for check, says := range map[string]string{
		"data directory": dir, "disk": "MiB are free", "catalog": "valid", "vault": "ready", "keys": "production", "outbox": "nothing waits",
		"audit log": "intact", "credentials": "1 credential, none of them", "clock": "agrees", "API keys": "1 key",
	} {
		wantsFinding(t, list, severityOK, check, says)
	}
	if entries, err := os.ReadDir(dir); err != nil || strings.Contains(snapshot(t, dir), "doctor") || len(entries) == 0 {
		t.Errorf("something is left in the directory: %v", err)
	}
	wantsFinding(t, list, severityInfo, "identity", "lies beside the vault")
	wantsFinding(t, list, severityInfo, "keys", "recovery key")
	if pid := holder(filepath.Join(dir, vaultFile)); pid != 0 && pid != p.cmd.Process.Pid {
		t.Errorf("the file is held by %d, not by %d", pid, p.cmd.Process.Pid)
	} else if pid != 0 {
		wantsFinding(t, list, severityOK, "core dumps", "none")
	}
	got := p.cli(t, "", "doctor", "--data-dir", dir, "--all")
	// How long a write takes is the machine's affair.
	got.wants(t, listVerdictOf(got), "ok       audit log: its chain of", "a write takes")
}

func TestDoctorOnCredentials(t *testing.T) {
	t.Parallel()
	p, _ := serveVault(t)
	set := func(args ...string) {
		p.cli(t, "one", append([]string{"set"}, args...)...).wants(t, exitOK)
	}
	set("salesforce", "-e", "staging", "--expires", "24h")
	set("slack", "--expires", "1s")
	set("servicenow", "-e", "staging", "--name", "emea")
	set("notion")
	wantsValue(t, p, "one", "notion")
	id := createCredential(t, p, "one", "zendesk")
	p.cli(t, "", "credential", "update", id, "--status", "inactive").wants(t, exitOK)
	p.cli(t, "", "key", "create", "--name", "soon", "-e", "staging", "--expires", "24h").wants(t, exitOK)

	var list []finding
	eventually(t, "slack is expired", func() bool {
		list, _ = examine(t, p)
		return found(list, severityError, "expiry", "slack in all environments expired on")
	})
	wantsCures(t, list)
	wantsFinding(t, list, severityWarning, "expiry", "salesforce in staging expires on")
	wantsFinding(t, list, severityWarning, "API keys", "soon (")
	wantsFinding(t, list, severityInfo, "unused", "credential update "+id+" --status active")
	if found(list, severityWarning, "rotation", "") || found(list, severityInfo, "unused", "ever read") {
		t.Error("a new credential is taken for an old one")
	}
	list, code := examine(t, p, "--max-age", "0s", "--unread", "0s")
	wantsFinding(t, list, severityWarning, "rotation", "sidevault set notion")
	wantsFinding(t, list, severityInfo, "unused", "nobody ever read it")
	wantsFinding(t, list, severityInfo, "unused", "notion in all environments was last read on")
	if code != exitError {
		t.Errorf("exit code %d with an error", code)
	}
	p.cli(t, "", "delete", "slack").wants(t, exitOK)
	p.cli(t, "", "doctor", "--max-age", "0s").wants(t, exitWarnings, "0 errors")
	p.cli(t, "", "doctor", "--max-age", "soon").wants(t, exitUsage, "--max-age", "90d")
}

func TestDoctorOnPermissionsAndChain(t *testing.T) {
	t.Parallel()
	p, dir := serveVault(t)
	p.cli(t, "one", "set", "slack").wants(t, exitOK)
	p.signalled(t, syscall.SIGTERM)
	list, code := examine(t, p, "--data-dir", dir)
	wantsCures(t, list)
	wantsFinding(t, list, severityError, "sidecar", p.addr)
	wantsFinding(t, list, severityOK, "backend", vaultFile)
	wantsFinding(t, list, severityUnseen, "audit log", "sidevault audit verify --data-dir")
	if code != exitError {
		t.Errorf("exit code %d without a sidecar", code)
	}

	breakEntry(t, filepath.Join(dir, vaultFile), 3)
	p = startServe(t, p.keyFile, "--data-dir", dir)
	for path, mode := range map[string]os.FileMode{filepath.Join(dir, identityFile): 0o640, p.keyFile: 0o644, filepath.Join(dir, vaultFile): 0o644} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	list, _ = examine(t, p, "--data-dir", dir)
	wantsCures(t, list)
	wantsFinding(t, list, severityError, "audit log", "broken at entry 3")
	wantsFinding(t, list, severityError, "identity", "chmod 600 "+filepath.Join(dir, identityFile))
	wantsFinding(t, list, severityWarning, "API key", "chmod 600 "+p.keyFile)
	wantsFinding(t, list, severityWarning, "vault file", "mode 0644")
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	list, _ = examine(t, p, "--data-dir", dir)
	wantsFinding(t, list, severityError, "data directory", "chmod 700")
	p.cli(t, "", "doctor", "--backend", "nonsense:").wants(t, exitError, "error    settings: --backend")
}

func TestDoctorOnPluginsAndTLS(t *testing.T) {
	t.Parallel()
	g := newGuarded(t)
	dir, keyFile := makeVault(t)
	p := startServe(t, keyFile, "--data-dir", dir, "--config", g.config)
	p.cli(t, "", "set", "acme", "--field", "api_key=@"+g.key("acme_1")).wants(t, exitError)
	base := t.TempDir()
	cert, key := filepath.Join(base, "cert.pem"), filepath.Join(base, "key.pem")
	makeCertificate(t, cert, key)
	list, _ := examine(t, p, "--data-dir", dir, "--config", g.config, "--tls-cert", cert, "--tls-key", key)
	wantsFinding(t, list, severityWarning, "outbox", "acme in all environments: tell does not take the change")
	wantsFinding(t, list, severityOK, "plugin files", "check")
	wantsFinding(t, list, severityOK, "plugins", "tell")
	wantsFinding(t, list, severityWarning, "certificate", "expires on")

	writeFile(t, g.config, strings.Replace(readFile(t, g.config), g.sum, strings.Repeat("0", 64), 1), 0o622)
	list, code := examine(t, p, "--data-dir", dir, "--config", g.config, "--tls-cert", g.config, "--tls-key", key)
	wantsCures(t, list)
	wantsFinding(t, list, severityError, "plugin files", "sha256: "+g.sum)
	wantsFinding(t, list, severityError, "certificate", "")
	wantsFinding(t, list, severityWarning, "settings", "chmod go-w")
	if code != exitError {
		t.Errorf("exit code %d", code)
	}
	g.reload(p, "reloaded")
	list, _ = examine(t, p)
	wantsFinding(t, list, severityError, "plugins", "check is unusable")
	wantsFinding(t, list, severityWarning, "plugins", "plugin list")
}

// The certificate that the sidecar answers with is seen from anywhere.
func TestDoctorOnEndpoint(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	cert, key := filepath.Join(base, "cert.pem"), filepath.Join(base, "key.pem")
	makeCertificate(t, cert, key)
	p, _ := serveVault(t, "--tls-cert", cert, "--tls-key", key)
	address := strings.Replace(p.addr, "http:", "https:", 1)
	env := []string{addrVariable + "=" + address, tokenFileVariable + "=" + p.keyFile, "SSL_CERT_FILE=" + cert}
	invocation{env: env, args: []string{"doctor"}}.run(t).wants(t, exitWarnings, "certificate: "+address+" expires on", "renew it")
	invocation{env: env[:2], args: []string{"doctor"}}.run(t).wants(t, exitError, "certificate")
}

// Someone without rights is told what was not seen, and nothing is taken for broken.
func TestDoctorOfOthers(t *testing.T) {
	t.Parallel()
	p, dir := serveVault(t)
	userKey := filepath.Join(t.TempDir(), "user.key")
	p.cli(t, "", "key", "create", "--name", "reader", "-e", "staging", "--key-file", userKey).wants(t, exitOK)
	list, _ := examine(t, &process{addr: p.addr, keyFile: userKey})
	wantsFinding(t, list, severityUnseen, "audit log, plugins, outbox, API keys, usage", `"reader" has scope user`)
	got := invocation{env: []string{addrVariable + "=" + p.addr}, args: []string{"doctor"}}.run(t)
	if got.wants(t, listVerdictOf(got), "unseen   credentials: no API key is given", "unseen   data directory", tokenVariable); got.code == int(exitError) {
		t.Errorf("an error for what was not seen:\n%s", got.out)
	}

	// A program that anybody can run, and a user who may not look into the directory.
	public, err := os.MkdirTemp("", "doctor-*")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(public) })
	if err := os.Chmod(public, 0o755); err != nil {
		t.Fatal(err)
	}
	program := copyProgram(t, filepath.Join(public, "sidevault"))
	closed := filepath.Join(public, "closed")
	if err := os.Rename(dir, closed); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() != 0 {
		if err := os.Chmod(closed, 0); err != nil {
			t.Fatal(err)
		}
	}
	list = examineAsOther(t, program, p.addr, closed)
	wantsFinding(t, list, severityUnseen, "data directory", "sudo -u")
	for _, f := range examineAsOther(t, program, "http://127.0.0.1:1", closed) {
		if f.Severity == severityError && f.Check != "sidecar" {
			t.Errorf("what was not seen is an error: %+v", f)
		}
	}
}

// examineAsOther runs doctor as a user who may not look into the directory.
func examineAsOther(t *testing.T, program, addr, dir string) (list []finding) {
	t.Helper()
	cmd := invocation{env: []string{addrVariable + "=" + addr}, dir: filepath.Dir(program), args: []string{"doctor", "--data-dir", dir, "--json"}}.command(t.Context(), t)
	cmd.Path = program
	if os.Geteuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	cmd.Run()
	if err := json.Unmarshal(out.Bytes(), &list); err != nil {
		t.Fatalf("%v\n%s%s", err, &out, &errs)
	}
	return list
}

// listVerdictOf is the exit code that the text of findings calls for.
func listVerdictOf(o outcome) exitCode {
	if strings.Contains(o.out, "\nwarning ") || strings.HasPrefix(o.out, "warning ") {
		return exitWarnings
	}
	return exitOK
}

func copyProgram(t *testing.T, to string) string {
	t.Helper()
	from, err := os.Open(self(t))
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	f, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(f, from); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return to
}
