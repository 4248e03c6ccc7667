package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A person is asked for the name of the protected environment.
func TestConsent(t *testing.T) {
	t.Parallel()
	p, _ := protectedVault(t)
	p.cli(t, "x", "set", "slack", "-e", "production").wants(t, exitOK)
	for _, c := range []struct {
		answer string
		code   exitCode
	}{{"yes\n", exitError}, {"production\n", exitOK}} {
		person, terminal := openPTY(t)
		cmd := invocation{env: []string{addrVariable + "=" + p.addr, tokenFileVariable + "=" + p.keyFile}, args: []string{"rename", "slack", "x", "-e", "production"}}.command(t.Context(), t)
		var out bytes.Buffer
		cmd.Stdin, cmd.Stdout, cmd.Stderr = terminal, &out, terminal
		if _, err := person.WriteString(c.answer); err != nil {
			t.Fatal(err)
		}
		cmd.Run()
		if got := cmd.ProcessState.ExitCode(); got != int(c.code) || strings.Contains(out.String(), "Renamed") != (c.code == exitOK) {
			t.Errorf("after %q: exit code %d\n%s", c.answer, got, out.String())
		}
	}
}

// Values are not written where others may see them, unless that is said.
func TestExportGuardsOutput(t *testing.T) {
	t.Parallel()
	p, _ := serveVault(t)
	dir := t.TempDir()
	p.cli(t, "c4n4ry", "set", "slack", "-e", "staging").wants(t, exitOK)
	_, terminal := openPTY(t)
	loose, err := os.OpenFile(filepath.Join(dir, "loose"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer loose.Close()
	if err := loose.Chmod(0o644); err != nil {
		t.Fatal(err)
	}
	for says, out := range map[string]*os.File{"is a terminal": terminal, "others can read (mode 0644)": loose} {
		cmd := invocation{env: []string{addrVariable + "=" + p.addr, tokenFileVariable + "=" + p.keyFile}, args: []string{"export", "-e", "staging", "--reveal"}}.command(t.Context(), t)
		var errs strings.Builder
		cmd.Stdout, cmd.Stderr = out, &errs
		cmd.Run()
		if code := cmd.ProcessState.ExitCode(); code != int(exitUsage) || !strings.Contains(errs.String(), says) || !strings.Contains(errs.String(), "--insecure-output") {
			t.Errorf("%s: exit code %d: %s", says, code, errs.String())
		}
		told := invocation{env: cmd.Env, args: []string{"export", "-e", "staging", "--reveal", "--insecure-output"}}.command(t.Context(), t)
		told.Stdout = out
		if err := told.Run(); err != nil {
			t.Errorf("%s: told to: %v", says, err)
		}
	}
	if !strings.Contains(readFile(t, loose.Name()), "c4n4ry") {
		t.Error("nothing is written when told to")
	}
}

// Ctrl-C is an answer, too.
func TestConsentInterrupted(t *testing.T) {
	t.Parallel()
	p, _ := protectedVault(t)
	file := writeFile(t, filepath.Join(t.TempDir(), "a.env"), "SLACK=c4n4ry\n", 0o600)
	s := startSession(t, invocation{
		env: []string{addrVariable + "=" + p.addr, tokenFileVariable + "=" + p.keyFile}, args: []string{"import", file, "-e", "production"},
	}.command(t.Context(), t))
	s.shows(t, "Type its name to go on", 1)
	s.types(t, "\x03")
	select {
	case <-s.done:
	case <-time.After(deadline):
		t.Fatal("it goes on waiting")
	}
	if s.cmd.ProcessState.Success() {
		t.Error("it succeeded")
	}
	p.cli(t, "", "list", "--configured", "--json").wants(t, exitOK, "[]")
}
