package main

import (
	"bufio"
	"encoding/json"
	"strings"
	"syscall"
	"testing"

	"github.com/sidevault/sidevault/api/client"
	"github.com/sidevault/sidevault/api/wire"
)

// createCredential creates a credential and returns its ID.
func createCredential(t *testing.T, p *process, value string, args ...string) string {
	t.Helper()
	got := p.cli(t, value, append([]string{"credential", "create", "--json"}, args...)...)
	got.wants(t, exitOK)
	var c wire.Credential
	if err := json.Unmarshal([]byte(got.out), &c); err != nil || c.ID == "" {
		t.Fatalf("created: %v\n%s", err, got.out)
	}
	return c.ID
}

func TestCredentialCommands(t *testing.T) {
	t.Parallel()
	p, dir := serveVault(t)
	id := createCredential(t, p, "one", "servicenow", "-e", "production", "--name", "EMEA", "--label", "team=a")
	p.cli(t, "x", "credential", "create", "servicenow", "-e", "production", "--name", "EMEA").wants(t, exitConflict, "already exists")
	p.cli(t, "", "credential", "list", "--integration", "servicenow", "-e", "production").wants(t, exitOK, id, "EMEA", "active")
	p.cli(t, "", "credential", "list", "--status", "inactive").wants(t, exitOK, "INTEGRATION")
	p.cli(t, "", "credential", "list", "--status", "gone").wants(t, exitUsage, "active, inactive, expired")
	p.cli(t, "", "credential", "show", id).wants(t, exitOK, "servicenow in production", "team=a")
	p.cli(t, "", "credential", "show", strings.TrimPrefix(id, "cred-"), "--json").wants(t, exitOK, `"labels"`)
	p.cli(t, "", "credential", "show", "1").wants(t, exitUsage, "cred- and a UUID")

	p.cli(t, "", "credential", "update", id).wants(t, exitUsage, "Nothing to change")
	p.cli(t, "", "credential", "update", id, "--status", "inactive").wants(t, exitOK, "Updated servicenow", "inactive")
	p.cli(t, "", "get", "servicenow", "-e", "production", "--name", "EMEA").wants(t, exitConflict, "--status active")
	p.cli(t, "", "credential", "update", id, "--status", "active", "--name", "second", "--expires", "720h", "--no-labels").wants(t, exitOK, `"second"`)
	got := p.cli(t, "", "credential", "show", id)
	if got.wants(t, exitOK, "expires"); strings.Contains(got.out, "labels") {
		t.Errorf("the labels stayed:\n%s", got.out)
	}
	got = p.cli(t, "", "credential", "update", id, "--expires", "never", "--json")
	if got.wants(t, exitOK); strings.Contains(got.out, "expiresAt") {
		t.Errorf("the expiry stayed:\n%s", got.out)
	}

	p.cli(t, "two", "set", "servicenow", "-e", "production", "--name", "second").wants(t, exitOK, "version 2")
	p.cli(t, "", "credential", "versions", id).wants(t, exitOK, "yes", "no", "admin")
	p.cli(t, "", "credential", "rollback", id, "x").wants(t, exitUsage, "whole number")
	p.cli(t, "", "credential", "rollback", id, "9").wants(t, exitNotFound, "no longer kept")
	p.cli(t, "", "credential", "rollback", id, "1").wants(t, exitOK, "version 3")
	p.cli(t, "", "credential", "usage", id).wants(t, exitOK, "Nobody has read it")
	if got := p.cli(t, "", "get", "servicenow", "-e", "production", "--name", "second"); got.out != "one" {
		t.Errorf("after the rollback the value is %q", got.out)
	}
	p.cli(t, "", "credential", "usage", id).wants(t, exitOK, "admin", "api_key")
	deleteAndRestore(t, p, dir, id)
}

func deleteAndRestore(t *testing.T, p *process, dir, id string) {
	p.cli(t, "", "credential", "delete", id).wants(t, exitOK, "Deleted servicenow", "used by 1 integration, read by 1 caller")
	p.cli(t, "", "credential", "delete", id).wants(t, exitConflict, "was deleted on")
	p.cli(t, "", "credential", "delete", id, "--if-exists").wants(t, exitOK, "Nothing to delete")
	p.cli(t, "", "credential", "delete", "cred-550e8400-e29b-41d4-a716-446655440099").wants(t, exitNotFound)
	p.cli(t, "", "credential", "show", id).wants(t, exitNotFound)
	sidevault(t, "credential", "restore", id, "--data-dir", dir).wants(t, exitError, "in use")
	p.signalled(t, syscall.SIGTERM)

	sidevault(t, "purge", "--data-dir", dir).wants(t, exitUsage, "90d")
	sidevault(t, "purge", "--older-than", "-3d", "--data-dir", dir).wants(t, exitUsage, "not an age")
	sidevault(t, "purge", "--older-than", "90d", "--data-dir", dir).wants(t, exitOK, "Purged 0 credentials")
	sidevault(t, "credential", "restore", id, "--org", "nosuch", "--data-dir", dir).wants(t, exitUsage, "nosuch")
	sidevault(t, "credential", "restore", id, "--data-dir", dir).wants(t, exitOK, "Restored servicenow in production", "version 3")
	sidevault(t, "credential", "restore", id, "--data-dir", dir).wants(t, exitConflict, "not deleted")

	p = startServe(t, p.keyFile, "--data-dir", dir)
	if got := p.cli(t, "", "get", "servicenow", "-e", "production", "--name", "second"); got.out != "one" {
		t.Errorf("after the restoration the value is %q", got.out)
	}
	p.cli(t, "", "credential", "delete", id).wants(t, exitOK)
	p.signalled(t, syscall.SIGTERM)
	sidevault(t, "purge", "--older-than", "0s", "--data-dir", dir).wants(t, exitOK, "Purged 1 credential, 3 versions")
	sidevault(t, "credential", "restore", id, "--data-dir", dir).wants(t, exitNotFound, "purged", "backup")
	sidevault(t, "audit", "verify", "--data-dir", dir).wants(t, exitOK, "intact")
}

func TestTestCommand(t *testing.T) {
	t.Parallel()
	p, _ := serveVault(t)
	p.cli(t, "s3cret", "test", "slack", "-e", "staging").wants(t, exitOK, "Passed: slack in staging")
	p.cli(t, "", "test", "slack", "-e", "staging", "--stored").wants(t, exitNotFound)
	p.cli(t, "", "test", "sftp", "--stored", "--field", "host=-").wants(t, exitUsage, "one of them")
	p.cli(t, "s3cret", "test", "sftp", "--field", "hots=-").wants(t, exitUsage, `did you mean "host"?`)
	p.cli(t, "s3cret", "set", "slack").wants(t, exitOK)
	p.cli(t, "", "test", "slack", "--stored", "--json").wants(t, exitOK, `"valid": true`)
}

func TestWatchCommand(t *testing.T) {
	t.Parallel()
	p, _ := serveVault(t)
	p.cli(t, "one", "set", "slack", "-e", "staging").wants(t, exitOK)
	cmd := invocation{
		env: []string{addrVariable + "=" + p.addr, tokenFileVariable + "=" + p.keyFile}, args: []string{"watch", "--json", "--after", "1"},
	}.command(t.Context(), t)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	lines := bufio.NewScanner(out)
	waitFor(t, lines, func(e shownEvent) bool { return e.ID != "" })
	p.cli(t, "two", "set", "slack", "-e", "staging").wants(t, exitOK)
	waitFor(t, lines, func(e shownEvent) bool { return e.Type == wire.WatchSet && e.Credential.Version == 2 })
	p.cli(t, "", "delete", "slack", "-e", "staging").wants(t, exitOK)
	waitFor(t, lines, func(e shownEvent) bool { return e.Type == wire.WatchRemoved && e.IntegrationID == "slack" })
	p.cli(t, "", "watch", "--after", "x").wants(t, exitUsage, "Last-Event-ID")
}

// waitFor reads lines of a watch until one is such.
func waitFor(t *testing.T, lines *bufio.Scanner, such func(shownEvent) bool) {
	t.Helper()
	for lines.Scan() {
		var e shownEvent
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			t.Fatalf("%v: %s", err, lines.Bytes())
		}
		if such(e) {
			return
		}
	}
	t.Fatal("the watch ended")
}

func TestWatchLines(t *testing.T) {
	var out strings.Builder
	o := watchOptions{remote: remote{sh: &shell{out: &out}}}
	env := "staging"
	for _, e := range []wire.WatchEvent{
		{Type: wire.WatchSet, IntegrationID: "slack", Environment: &env, Name: "a\nb", Credential: &wire.Credential{Version: 2, Status: "active"}},
		{Type: wire.WatchRemoved, IntegrationID: "slack", Name: "default"},
		{Type: wire.WatchReset},
	} {
		if err := o.print(client.Event{WatchEvent: e}); err != nil {
			t.Fatal(err)
		}
	}
	const want = "set      slack in staging (name \"a\\nb\"): version 2, active, 0001-01-01 00:00:00Z by \n" +
		"removed  slack in all environments\nreset    changes were missed\n"
	if out.String() != want {
		t.Errorf("printed\n%s", out.String())
	}
}

func TestProgressNeedsATerminal(t *testing.T) {
	var out strings.Builder
	p := newProgress(&shell{err: &out})
	p.next = p.next.Add(-patience)
	p.show("%d", 1)
	p.end()
	terminal := &progress{w: &out}
	if out.Len() > 0 {
		t.Errorf("printed %q without a terminal", out.String())
	}
	terminal.show("%d done", 1)
	terminal.show("%d done", 2)
	terminal.end()
	if got := out.String(); strings.Count(got, "done") != 1 || !strings.HasSuffix(got, "\r\x1b[K") {
		t.Errorf("printed %q", got)
	}
}
