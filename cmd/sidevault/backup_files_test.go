package main

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/sidevault/sidevault/backends"
	"github.com/sidevault/sidevault/backends/bbolt"
)

// slowSidecar begins to send a backup, and goes on when it is let go: with a nil error
// to the end of it, else by breaking off.
type slowSidecar struct {
	process
	begun chan struct{}
	then  chan error
}

func newSlowSidecar(t *testing.T) *slowSidecar {
	t.Helper()
	s := &slowSidecar{begun: make(chan struct{}), then: make(chan error)}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, strings.Repeat("x", 1<<16))
		http.NewResponseController(w).Flush()
		s.begun <- struct{}{}
		select {
		case err := <-s.then:
			if err != nil {
				panic(http.ErrAbortHandler)
			}
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(server.Close)
	s.addr, s.keyFile = server.URL, writeFile(t, filepath.Join(t.TempDir(), "key"), "svk_x", 0o600)
	return s
}

// backUp takes a backup, does something in the midst of it, and returns how it ended.
func (s *slowSidecar) backUp(t *testing.T, path string, midway func(*os.Process)) outcome {
	t.Helper()
	cmd := invocation{
		env: []string{addrVariable + "=" + s.addr, tokenFileVariable + "=" + s.keyFile}, args: []string{"backup", path},
	}.command(context.Background(), t)
	var out, errs lockedBuffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	<-s.begun
	midway(cmd.Process)
	_ = cmd.Wait() // the code says how it ended
	return outcome{cmd.ProcessState.ExitCode(), out.String(), errs.String()}
}

// What became of a backup that did not come to its end: nothing.
func TestBackupLeavesNothing(t *testing.T) {
	t.Parallel()
	s := newSlowSidecar(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "b.age")
	empty := func(what string) {
		t.Helper()
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("%s: %v is left, %v", what, left, err)
		}
	}
	s.backUp(t, path, func(p *os.Process) {
		empty("in the midst of it")
		p.Kill()
	})
	empty("killed")
	s.backUp(t, path, func(p *os.Process) { p.Signal(syscall.SIGTERM) }).wants(t, exitError, "interrupted")
	empty("interrupted")
	s.backUp(t, path, func(*os.Process) { s.then <- os.ErrClosed }).wants(t, exitUnavailable, "broken off")
	empty("broken off")
	s.backUp(t, path, func(*os.Process) { s.then <- nil }).wants(t, exitOK, "Wrote "+path)
	if info, err := os.Lstat(path); err != nil || info.Mode() != 0o600 || info.Size() != 1<<16 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

func TestBackupReplacesNothing(t *testing.T) {
	t.Parallel()
	s := newSlowSidecar(t)
	dir := t.TempDir()
	path, link := filepath.Join(dir, "b.age"), filepath.Join(dir, "link.age")
	s.backUp(t, path, func(*os.Process) {
		writeFile(t, path, "another's", 0o600)
		s.then <- nil
	}).wants(t, exitConflict, "exists already; nothing was changed")
	if readFile(t, path) != "another's" {
		t.Error("a file that came meanwhile was replaced")
	}
	for _, target := range []string{path, filepath.Join(dir, "nothing")} {
		if err := os.Symlink(target, link); err != nil {
			t.Fatal(err)
		}
		s.cli(t, "", "backup", link).wants(t, exitConflict, "exists already")
		os.Remove(link)
	}
	s.cli(t, "", "backup", filepath.Join(dir, "nowhere", "b.age")).wants(t, exitError, "no such file or directory")
	if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) != 1 || exists(filepath.Join(dir, "nothing")) {
		t.Errorf("left behind: %q", left)
	}
}

// A restore that has nothing to restore into takes back what it made.
func TestRestoreTakesBack(t *testing.T) {
	t.Parallel()
	b := newBackedUp(t)
	dir := filepath.Join(t.TempDir(), "new")
	into := func(url string, code exitCode, says string) {
		t.Helper()
		sidevault(t, "restore", b.file, "--data-dir", dir, "--identity", b.identity, "--backend-file", urlFile(t, url)).wants(t, code, says)
		if exists(dir) {
			t.Errorf("%s: the data directory was left", says)
		}
	}
	into("postgres://nobody:secret@127.0.0.1:1/none?connect_timeout=1", exitUnavailable, "open --backend")
	into("nonsense://x", exitUsage, "--backend")
	other, _ := makeVault(t)
	into(fileURL(other), exitConflict, "not empty")
	sidevault(t, "restore", b.file, "--data-dir", dir, "--identity", b.identity, "--backend", "postgres://u:secret@h/d").
		hides(t, "secret").wants(t, exitUsage, "holds a password", "--backend-file FILE")
	if exists(dir) {
		t.Error("the data directory was left")
	}
}

// A host that lacks an environment's key says what it could not check, and restores it
// all the same, for those who have the key.
func TestRestoreWithoutAnEnvironmentsKey(t *testing.T) {
	t.Parallel()
	b := newBackedUp(t)
	b.signalled(t, syscall.SIGTERM)
	staging, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	own := ownRecipient(t, b.identity)
	other := writeFile(t, filepath.Join(t.TempDir(), "staging.txt"), staging.String()+"\n", 0o600)
	sidevault(t, "env", "share", "staging", "--recipient", staging.Recipient().String(), "--data-dir", b.dir).wants(t, exitOK)
	sidevault(t, "env", "unshare", "staging", "--recipient", own, "--data-dir", b.dir).wants(t, exitOK)
	file, dir := filepath.Join(t.TempDir(), "b.age"), filepath.Join(t.TempDir(), "new")
	sidevault(t, "backup", file, "--data-dir", b.dir).wants(t, exitOK)
	const said = "1 version in staging: no identity given opens its key, so that they are whole and genuine was not checked"
	sidevault(t, "backup", "verify", file, "--data-dir", b.dir).wants(t, exitOK, "versions checked  1", said)
	sidevault(t, "backup", "verify", file, "--identity", b.identity+","+other, "--json").wants(t, exitOK, `"versionsChecked": 2`)
	sidevault(t, "restore", file, "--data-dir", dir, "--identity", b.identity).wants(t, exitOK, "checked      1 version", said)
	p := startServe(t, b.keyFile, "--data-dir", dir, "--identity", b.identity)
	p.cli(t, "", "get", "salesforce", "-e", "staging").wants(t, exitUnavailable, "staging")
	p.cli(t, "", "get", "salesforce", "-e", "production").wants(t, exitOK, "of all")
	p.signalled(t, syscall.SIGTERM)
	startServe(t, b.keyFile, "--data-dir", dir, "--identity", b.identity+","+other).
		cli(t, "", "get", "salesforce", "-e", "staging").wants(t, exitOK, "of staging")
}

func ownRecipient(t *testing.T, identity string) string {
	t.Helper()
	for line := range strings.Lines(readFile(t, identity)) {
		if own, ok := strings.CutPrefix(line, "# public key: "); ok {
			return strings.TrimSpace(own)
		}
	}
	t.Fatal("the identity file does not say its recipient")
	return ""
}

// lengthen gives a vault so long a log that a backup takes a while.
func lengthen(t *testing.T, dir string) {
	t.Helper()
	b, err := bbolt.Open(filepath.Join(dir, vaultFile), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	for range 400 {
		var batch backends.Batch
		for i := range backends.MaxEntries {
			batch.Entries = append(batch.Entries, fmt.Appendf(nil, `{"filler":%d}`, i))
		}
		if _, err := b.Commit(t.Context(), batch); err != nil {
			t.Fatal(err)
		}
	}
}

// A sidecar that is killed while it writes a scheduled backup leaves no part of one, and
// makes up for it when it is started again.
func TestScheduledBackupKilled(t *testing.T) {
	t.Parallel()
	dir, keyFile := makeVault(t)
	lengthen(t, dir)
	to := filepath.Join(t.TempDir(), "backups")
	args := []string{"--data-dir", dir, "--backup-dir", to, "--backup-interval", "1h"}
	kills := 0
	for range 3 {
		startServe(t, keyFile, args...).kill()
		left, err := os.ReadDir(to)
		if err != nil {
			t.Fatal(err)
		}
		if len(left) > 0 {
			break
		}
		kills++
	}
	if kills == 0 {
		t.Error("the backup was there before the sidecar was killed")
	}
	startServe(t, keyFile, args...)
	eventually(t, "there is a backup", func() bool {
		left, _ := os.ReadDir(to)
		return len(left) > 0
	})
	made, err := filepath.Glob(filepath.Join(to, "*.age"))
	if left, _ := os.ReadDir(to); err != nil || len(made) != 1 || len(left) != 1 {
		t.Fatalf("there is %v", left)
	}
	sidevault(t, "backup", "verify", made[0], "--data-dir", dir).wants(t, exitOK, "intact")
}

// A file that says it is of the future neither keeps backups off nor has them removed.
func TestBackupOfTheFuture(t *testing.T) {
	t.Parallel()
	dir, keyFile := makeVault(t)
	anchor, err := readTrust(filepath.Join(dir, trustFile))
	if err != nil {
		t.Fatal(err)
	}
	to := t.TempDir()
	future := filepath.Join(to, "sidevault-"+anchor.vaultID[:8]+"-"+time.Now().AddDate(1, 0, 0).UTC().Format(backupTime)+backupSuffix)
	writeFile(t, future, "", 0o600)
	p := startServe(t, keyFile, "--data-dir", dir, "--backup-dir", to, "--backup-keep", "1")
	eventually(t, "a backup is counted", func() bool {
		return strings.Contains(get(t, p.addr+"/metrics"), `sidevault_backups_total{outcome="ok"} 1`)
	})
	if made, _ := filepath.Glob(filepath.Join(to, "*.age")); len(made) != 2 {
		t.Errorf("there is %q", made)
	}
}
