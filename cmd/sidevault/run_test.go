package main

import (
	"context"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// runtimeDir returns an empty directory in memory, for XDG_RUNTIME_DIR.
func runtimeDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "sidevault-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// fillVault sets one value that is shared and two credentials of production.
func fillVault(t *testing.T, p *process) {
	t.Helper()
	dir := t.TempDir()
	file := func(name, text string) string {
		return name + "=@" + writeFile(t, filepath.Join(dir, name), text, 0o600)
	}
	p.cli(t, "shared", "set", "salesforce").wants(t, exitOK)
	p.cli(t, "two\nlines", "set", "slack", "-e", "production", "--name", "bot-2").wants(t, exitOK)
	p.cli(t, "", "set", "sftp", "-e", "production", "--field", file("host", "h.example.com"), "--field", file("username", "me"),
		"--field", file("password", "it's $secret")).wants(t, exitOK)
}

// show prints the variables that a program was given.
const show = `printf '[%s]' "$SALESFORCE_VALUE" "$SLACK_BOT_2_VALUE" "$SFTP_HOST" "$SFTP_PASSWORD"`

func TestRun(t *testing.T) {
	t.Parallel()
	p, _ := serveVault(t)
	p.cli(t, "", "run", "--", "true").wants(t, exitNotFound, "no credential is set for all environments", "list --configured")
	fillVault(t, p)
	for want, args := range map[string][]string{
		"[shared][two\nlines][h.example.com][it's $secret]": {"-e", "production"},
		"[shared][][][]":              {"-e", "staging"},
		"[][two\nlines][][]":          {"-e", "production", "--credential", "slack:bot-2"},
		"[shared][][h.example.com][]": {"-e", "production", "--map", mappingFile(t, "SALESFORCE_VALUE: {integration: salesforce}\nSFTP_HOST: {integration: sftp, field: host}\n")},
	} {
		got := p.cli(t, "", append(append([]string{"run"}, args...), "--", "sh", "-c", show)...)
		if got.wants(t, exitOK); got.out != want || got.err != "" {
			t.Errorf("%v: %d bytes of output, %d expected\n%s", args, len(got.out), len(want), got.err)
		}
	}
	// The first word that is no flag begins the program's own line.
	p.cli(t, "", "run", "-e", "staging", "sh", "-ec", "exit 41").wants(t, 41)
	p.cli(t, "", "run", "--", "sh", "-c", "kill -USR1 $$").wants(t, -1)
	p.cli(t, "typed", "run", "--", "cat").wants(t, exitOK, "typed")
}

func mappingFile(t *testing.T, text string) string {
	return writeFile(t, filepath.Join(t.TempDir(), "map.yaml"), text, 0o600)
}

// Of the variables that begin like ours, none reaches the program, whichever way it is
// started.
func TestRunLeavesNothing(t *testing.T) {
	t.Parallel()
	p, _ := serveVault(t)
	p.cli(t, "new", "set", "salesforce").wants(t, exitOK)
	for _, args := range [][]string{{"run"}, {"run", "--watch"}, {"run", "--files"}} {
		i := invocation{env: []string{
			addrVariable + "=" + p.addr, tokenVariable + "=" + readFile(t, p.keyFile), "SIDEVAULT_ANYTHING=1", "KEPT=1", "SALESFORCE_VALUE=old",
			"XDG_RUNTIME_DIR=" + runtimeDir(t),
		}, args: append(args, "--", "env")}
		got := i.run(t)
		got.wants(t, exitOK, "KEPT=1\n")
		for line := range strings.Lines(got.out) {
			if strings.HasPrefix(line, variablePrefix) && !strings.HasPrefix(line, filesVariable+"=") || strings.Contains(line, "svk_") {
				t.Errorf("%v passes on %s", args, strings.SplitN(line, "=", 2)[0])
			}
		}
		if old, files := strings.Contains(got.out, "VALUE=old"), slices.Contains(args, "--files"); old != files {
			t.Errorf("%v: the old value is there: %v", args, old)
		}
		if dir := strings.Contains(got.out, filesVariable+"="); dir != slices.Contains(args, "--files") {
			t.Errorf("%v: a directory is named: %v", args, dir)
		}
	}
}

// What cannot be had keeps the program from being started, and one line says what.
func TestRunFailsClosed(t *testing.T) {
	t.Parallel()
	p, _ := serveVault(t)
	fillVault(t, p)
	p.cli(t, "x", "set", "a.b").wants(t, exitNotFound)
	started := filepath.Join(t.TempDir(), "started")
	userKey := filepath.Join(t.TempDir(), "user.key")
	p.cli(t, "", "key", "create", "--name", "ci", "-e", "staging", "--key-file", userKey).wants(t, exitOK)
	user := &process{addr: p.addr, keyFile: userKey}
	away := &process{addr: "http://127.0.0.1:1", keyFile: p.keyFile}
	for name, c := range map[string]struct {
		p    *process
		args []string
		code exitCode
		says []string
	}{
		"not set":        {p, []string{"--credential", "salesforce", "--credential", "hginsights"}, exitNotFound, []string{"hginsights in all environments", "touch was not started"}},
		"no integration": {p, []string{"--credential", "nonsense"}, exitNotFound, []string{"nonsense", "catalog list"}},
		"environment":    {p, []string{"-e", "prod"}, exitUsage, []string{`did you mean "production"?`}},
		"empty":          {p, []string{"-e", ""}, exitUsage, []string{"environment is empty"}},
		"not granted":    {user, []string{"-e", "production"}, exitDenied, []string{"production", "the grant of ci covers these environments: staging"}},
		"away":           {away, nil, exitUnavailable, []string{"http://127.0.0.1:1", "sidevault serve", "touch was not started"}},
		"no field": {p, []string{"-e", "production", "--map", mappingFile(t, "H: {integration: sftp, field: hst}\n")}, exitNotFound,
			[]string{"H: the credential has no field", `did you mean "host"?`}},
		"which field":  {p, []string{"-e", "production", "--map", mappingFile(t, "H: {integration: sftp}\n")}, exitUsage, []string{"several fields"}},
		"twice":        {p, []string{"--credential", "slack", "--credential", "slack:default"}, exitUsage, []string{"given twice"}},
		"collision":    {p, []string{"--credential", "salesforce", "--map", mappingFile(t, "SALESFORCE_VALUE: {integration: salesforce}\n")}, exitUsage, []string{"SALESFORCE_VALUE would be", "--map"}},
		"ours":         {p, []string{"--map", mappingFile(t, "SIDEVAULT_TOKEN: {integration: salesforce}\n")}, exitUsage, []string{"SIDEVAULT_TOKEN"}},
		"unknown key":  {p, []string{"--map", mappingFile(t, "A: {integration: salesforce, feild: x}\n")}, exitUsage, []string{"map.yaml:1:30", `did you mean "field"?`}},
		"not a name":   {p, []string{"--map", mappingFile(t, "a-b: {integration: salesforce}\n")}, exitUsage, []string{"map.yaml:1:1"}},
		"name twice":   {p, []string{"--map", mappingFile(t, "A: {integration: salesforce}\nA: {integration: slack}\n")}, exitUsage, []string{"map.yaml:2:1"}},
		"no map":       {p, []string{"--map", "/nonexistent"}, exitUsage, []string{"/nonexistent"}},
		"empty map":    {p, []string{"--map", mappingFile(t, "{}\n")}, exitUsage, []string{"names no variable"}},
		"not a signal": {p, []string{"--watch", "--on-change", "SIGNOTHING"}, exitUsage, []string{"SIGNOTHING", "SIGHUP"}},
		"no watch":     {p, []string{"--on-change", "SIGHUP"}, exitUsage, []string{"--watch"}},
	} {
		t.Run(name, func(t *testing.T) {
			got := c.p.cli(t, "", append(append([]string{"run"}, c.args...), "--", "touch", started)...)
			got.wants(t, c.code, c.says...)
			if n := strings.Count(got.err, "sidevault: "); n != 1 || strings.Count(got.err, "\n") > 2 {
				t.Errorf("not one line and a hint:\n%s", got.err)
			}
		})
	}
	if exists(started) {
		t.Error("the program was started")
	}
	p.cli(t, "", "run").wants(t, exitUsage, "CMD is missing")
	p.cli(t, "", "run", "--", "no-such-program").wants(t, exitNotThere, "no-such-program was not started")
	p.cli(t, "", "run", "--", writeFile(t, filepath.Join(t.TempDir(), "script"), "", 0o600)).wants(t, exitNotRun)
}

func TestVariableNames(t *testing.T) {
	for want, c := range map[string]choice{
		"SALESFORCE_VALUE":  {"salesforce", defaultName},
		"HG_INSIGHTS_VALUE": {"hg.insights", defaultName},
		"A_B_C_1_VALUE":     {"a-b", "c 1"},
		"_6SENSE_VALUE":     {"6sense", defaultName},
	} {
		if got := variableName(c, "value"); got != want {
			t.Errorf("%v is %s, want %s", c, got, want)
		}
	}
	for _, name := range []string{"LD_PRELOAD", "NODE_OPTIONS", "SIDEVAULT_TOKEN"} {
		if refuseNames([]variable{{name: name}}) == nil {
			t.Errorf("%s is accepted", name)
		}
	}
	if err := refuseNames([]variable{{name: "A"}, {name: "LDAP_VALUE"}}); err != nil {
		t.Error(err)
	}
}

// job is a program that runs below sidevault run.
type job struct {
	cmd      *exec.Cmd
	out, err lockedBuffer
	done     chan struct{}
}

func (p *process) run(t *testing.T, runtime string, args ...string) *job {
	t.Helper()
	j := &job{done: make(chan struct{})}
	j.cmd = invocation{
		env:  []string{addrVariable + "=" + p.addr, tokenFileVariable + "=" + p.keyFile, "XDG_RUNTIME_DIR=" + runtime},
		args: append([]string{"run"}, args...),
	}.command(context.Background(), t)
	j.cmd.Stdout, j.cmd.Stderr, j.cmd.WaitDelay = &j.out, &j.err, deadline
	if err := j.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		j.cmd.Wait()
		close(j.done)
	}()
	t.Cleanup(func() {
		// The program gets SIGTERM.
		j.cmd.Process.Kill()
		<-j.done
	})
	return j
}

// says waits until the program has printed that.
func (j *job) says(t *testing.T, text string) {
	t.Helper()
	eventually(t, "it prints "+text, func() bool { return strings.Contains(j.out.String(), text) })
}

func (j *job) ends(t *testing.T, code int) {
	t.Helper()
	select {
	case <-j.done:
	case <-time.After(deadline):
		t.Fatalf("it does not end\n%s", &j.err)
	}
	if got := j.cmd.ProcessState.ExitCode(); got != code {
		t.Errorf("it ended with %d, want %d\n%s", got, code, &j.err)
	}
}

// patiently is a program that prints what it has, waits, and says which signals it gets.
const patiently = `
	trap 'echo hangup $(cat "$SIDEVAULT_FILES"/* 2>/dev/null)' HUP; trap 'echo user' USR1; trap 'echo end; exit 7' TERM; trap 'echo interrupt; exit 8' INT
	echo start $SALESFORCE_VALUE $(cat "$SIDEVAULT_FILES"/* 2>/dev/null)
	while :; do sleep 0.05; done`

func left(t *testing.T, dir string) []fs.DirEntry {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestRunFiles(t *testing.T) {
	t.Parallel()
	p, _ := serveVault(t)
	fillVault(t, p)
	runtime := runtimeDir(t)
	j := p.run(t, runtime, "-e", "production", "--files", "--", "sh", "-c", patiently)
	j.says(t, "start")
	list := left(t, runtime)
	if len(list) != 1 {
		t.Fatalf("%d directories", len(list))
	}
	dir := filepath.Join(runtime, list[0].Name())
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil || s.Type != unix.TMPFS_MAGIC {
		t.Errorf("not in memory: %#x, %v", s.Type, err)
	}
	if info, _ := os.Stat(dir); info.Mode().Perm() != 0o700 {
		t.Errorf("the directory has the mode %v", info.Mode())
	}
	for name, want := range map[string]string{"SALESFORCE_VALUE": "shared", "SLACK_BOT_2_VALUE": "two\nlines", "SFTP_PASSWORD": "it's $secret"} {
		path := filepath.Join(dir, name)
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 || readFile(t, path) != want {
			t.Errorf("%s is not what it should be (%v)", name, err)
		}
	}
	for i, s := range []syscall.Signal{syscall.SIGHUP, syscall.SIGUSR1} {
		j.cmd.Process.Signal(s)
		j.says(t, []string{"hangup", "user"}[i])
	}
	j.cmd.Process.Signal(syscall.SIGTERM)
	j.ends(t, 7)
	if n := strings.Count(j.out.String(), "end"); n != 1 {
		t.Errorf("SIGTERM came %d times", n)
	}
	if list := left(t, runtime); len(list) != 0 {
		t.Errorf("%v is left", list)
	}
	for _, program := range []string{"kill -TERM $$", "kill -KILL $$", "exit 3", "kill -INT $PPID; exec sleep 30"} {
		j := p.run(t, runtime, "-e", "production", "--files", "--", "sh", "-c", program)
		j.ends(t, map[string]int{"kill -TERM $$": 143, "kill -KILL $$": 137, "exit 3": 3, "kill -INT $PPID; exec sleep 30": 130}[program])
		if list := left(t, runtime); len(list) != 0 {
			t.Errorf("%s: %v is left", program, list)
		}
	}
}

// A run that is killed takes its program along; the next one removes what it left.
func TestRunKilled(t *testing.T) {
	t.Parallel()
	p, _ := serveVault(t)
	p.cli(t, "value", "set", "salesforce").wants(t, exitOK)
	runtime := runtimeDir(t)
	j := p.run(t, runtime, "--files", "--", "sh", "-c", patiently)
	other := p.run(t, runtime, "--files", "--", "sh", "-c", patiently)
	j.says(t, "start value")
	other.says(t, "start value")
	j.cmd.Process.Kill()
	j.ends(t, -1)
	j.says(t, "end")
	if n := len(left(t, runtime)); n != 2 {
		t.Fatalf("%d directories", n)
	}
	p.run(t, runtime, "--files", "--", "true").ends(t, 0)
	if n := len(left(t, runtime)); n != 1 {
		t.Errorf("%d directories", n)
	}
	other.cmd.Process.Signal(syscall.SIGHUP)
	other.says(t, "hangup value")
}

func TestRunWatch(t *testing.T) {
	t.Parallel()
	p, dir := serveVault(t)
	p.cli(t, "one", "set", "salesforce").wants(t, exitOK)
	p.cli(t, "other", "set", "slack").wants(t, exitOK)
	runtime := runtimeDir(t)
	restarted := p.run(t, runtime, "--watch", "--credential", "salesforce", "--", "sh", "-c", patiently)
	hungUp := p.run(t, runtime, "--watch", "--files", "--on-change", "hup", "--credential", "salesforce", "--", "sh", "-c", patiently)
	restarted.says(t, "start one")
	hungUp.says(t, "start one")
	p.cli(t, "two", "set", "salesforce").wants(t, exitOK)
	p.cli(t, "another", "set", "slack").wants(t, exitOK)
	restarted.says(t, "end\nstart two")
	hungUp.says(t, "hangup two")

	p.cli(t, "", "delete", "salesforce").wants(t, exitOK)
	eventually(t, "it says that nothing is set", func() bool { return strings.Contains(restarted.err.String(), "stays in use") })
	p.signalled(t, syscall.SIGTERM)
	again := startServe(t, p.keyFile, "--data-dir", dir, "--listen", strings.TrimPrefix(p.addr, "http://"))
	again.cli(t, "three", "set", "salesforce").wants(t, exitOK)
	restarted.says(t, "end\nstart three")
	hungUp.says(t, "hangup three")
	for _, j := range []*job{restarted, hungUp} {
		j.cmd.Process.Signal(syscall.SIGTERM)
		j.ends(t, 7)
	}
	if n := strings.Count(restarted.out.String(), "start"); n != 3 {
		t.Errorf("it was started %d times\n%s", n, &restarted.out)
	}
}

// A program that does not end by itself is ended, with all that it has started.
func TestRunRestartsWhatStays(t *testing.T) {
	t.Parallel()
	p, _ := serveVault(t)
	p.cli(t, "one", "set", "salesforce").wants(t, exitOK)
	j := p.run(t, runtimeDir(t), "--watch", "--stop-timeout", "100ms", "--", "sh", "-c",
		`test $SALESFORCE_VALUE = one && trap '' TERM || exec echo below two; sh -c 'while :; do echo below one; sleep 0.05; done' & while :; do sleep 0.05; done`)
	j.says(t, "below one")
	p.cli(t, "two", "set", "salesforce").wants(t, exitOK)
	j.says(t, "below two")
	// Its output ends only when nobody is left who could write.
	j.ends(t, 0)
	if !strings.HasSuffix(j.out.String(), "below two\n") {
		t.Error("what the program had started stayed")
	}
}
