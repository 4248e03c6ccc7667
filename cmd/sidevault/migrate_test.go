package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sidevault/sidevault/backends"
	"github.com/sidevault/sidevault/backends/bbolt"
)

// moveTo makes a data directory with what a vault has outside its storage, and
// returns it with the URL of the storage that it is to have.
func moveTo(t *testing.T, dir string) (target, url string) {
	t.Helper()
	target = t.TempDir()
	if err := os.Chmod(target, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{identityFile, trustFile} {
		writeFile(t, filepath.Join(target, name), readFile(t, filepath.Join(dir, name)), 0o600)
	}
	return target, fileURL(target)
}

func fileURL(dir string) string { return "bbolt://" + filepath.Join(dir, vaultFile) }

func TestMigrate(t *testing.T) {
	t.Parallel()
	p, dir := serveVault(t)
	p.cli(t, "the-value", "set", "salesforce", "-e", "production").wants(t, exitOK)
	p.cli(t, "", "get", "salesforce", "-e", "production").wants(t, exitOK, "the-value")
	target, url := moveTo(t, dir)
	sidevault(t, "migrate", "--from", fileURL(dir), "--to", url).wants(t, exitUnavailable, "in use by another process")
	if exists(filepath.Join(target, vaultFile)) {
		t.Error("a target was made for a source that cannot be read")
	}
	if code := p.signalled(t, syscall.SIGTERM); code != 0 {
		t.Fatalf("serve ended with %d", code)
	}
	head := headOf(t, dir)
	sidevault(t, "migrate", "--from", fileURL(dir), "--to", url).
		wants(t, exitOK, "read back and is the same", fmt.Sprintf("%d %s", head.Seq, head.Hash))
	if got := headOf(t, target); got.Seq != head.Seq || got.Hash != head.Hash {
		t.Errorf("the head is %+v, want %+v", got, head)
	}
	sidevault(t, "audit", "verify", "--data-dir", target).wants(t, exitOK)

	moved := startServe(t, p.keyFile, "--data-dir", target)
	moved.cli(t, "", "get", "salesforce", "-e", "production").wants(t, exitOK, "the-value")
	moved.cli(t, "", "audit", "verify").wants(t, exitOK)
	moved.signalled(t, syscall.SIGTERM)

	sidevault(t, "migrate", "--from", fileURL(dir), "--to", url).wants(t, exitConflict, "not empty")
	sidevault(t, "migrate", "--from", fileURL(dir), "--to", url, "--resume").wants(t, exitConflict, "not empty")
}

func headOf(t *testing.T, dir string) backends.Head {
	t.Helper()
	b, err := bbolt.Open(filepath.Join(dir, vaultFile), &bbolt.Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	head, err := b.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return head
}

func TestMigrateUsage(t *testing.T) {
	t.Parallel()
	dir, _ := makeVault(t)
	empty, url := moveTo(t, dir)
	for _, c := range []struct {
		from, to string
		code     exitCode
		says     string
	}{
		{"", url, exitUsage, "--from and --to are required"},
		{fileURL(dir), "", exitUsage, "--from and --to are required"},
		{fileURL(dir), fileURL(dir), exitUsage, "must differ"},
		{fileURL(dir), "memory:", exitUsage, "ends with this command"},
		{fileURL(dir), "mysql://root:hunter2@host/x", exitUsage, "--to: "},
		{"bbolt://" + filepath.Join(empty, "none.db"), url, exitError, "open --from"},
		{fileURL(dir), "bbolt://" + filepath.Join(empty, "no", "where.db"), exitError, "open --to"},
	} {
		o := sidevault(t, "migrate", "--from", c.from, "--to", c.to)
		o.wants(t, c.code, c.says)
		if strings.Contains(o.out+o.err, "hunter2") {
			t.Errorf("the password is shown: %s", o.err)
		}
	}
	if err := bbolt.Create(filepath.Join(empty, "empty.db")); err != nil {
		t.Fatal(err)
	}
	sidevault(t, "migrate", "--from", "bbolt://"+filepath.Join(empty, "empty.db"), "--to", url).wants(t, exitError, "holds no vault")
}

// fill gives a vault so many records and log entries that copying them takes a while.
func fill(t *testing.T, dir string) {
	t.Helper()
	b, err := bbolt.Open(filepath.Join(dir, vaultFile), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	for n := range 150 {
		var batch backends.Batch
		for i := range backends.MaxChanges {
			key := fmt.Sprintf("usage/filler/%03d/%02d", n, i)
			batch.Changes = append(batch.Changes, backends.Put(key, 0, []byte(strings.Repeat(key, 20))))
			batch.Entries = append(batch.Entries, []byte(`{"filler":"`+key+`"}`))
		}
		if _, err := b.Commit(t.Context(), batch); err != nil {
			t.Fatal(err)
		}
	}
}

// TestMigrateKilled kills the copy again and again, a little later each time, and
// goes on with it.
func TestMigrateKilled(t *testing.T) {
	t.Parallel()
	dir, keyFile := makeVault(t)
	fill(t, dir)
	target, url := moveTo(t, dir)
	halves := 0
	args := []string{"migrate", "--from", fileURL(dir), "--to", url, "--resume"}
	for delay := 30 * time.Millisecond; ; delay += 10 * time.Millisecond {
		cmd := invocation{args: args}.command(context.Background(), t)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		killer := time.AfterFunc(delay, func() { cmd.Process.Kill() })
		err := cmd.Wait()
		killer.Stop()
		if err == nil {
			break
		}
		if !begun(target) && halves > 0 {
			break // it had ended, and was killed before it could say so
		}
		if !begun(target) {
			continue
		}
		if halves++; halves == 1 {
			sidevault(t, "serve", "--data-dir", target, "--listen", "127.0.0.1:0").wants(t, exitError, "half of a copy")
			sidevault(t, args[:len(args)-1]...).wants(t, exitConflict, "half of a copy", "--resume")
			sidevault(t, "migrate", "--from", url, "--to", fileURL(t.TempDir())).wants(t, exitError)
		}
	}
	if halves < 2 {
		t.Errorf("it was killed in the midst of it %d times, want more", halves)
	}
	if got, want := headOf(t, target), headOf(t, dir); got.Seq != want.Seq || got.Hash != want.Hash {
		t.Errorf("the head is %+v, want %+v", got, want)
	}
	p := startServe(t, keyFile, "--data-dir", target)
	p.cli(t, "", "list").wants(t, exitOK)
}

// begun reports whether a copy has left notes.
func begun(dir string) bool {
	b, err := bbolt.Open(filepath.Join(dir, vaultFile), &bbolt.Options{ReadOnly: true})
	if err != nil {
		return false
	}
	defer b.Close()
	_, err = b.Get(context.Background(), "copying")
	return err == nil
}
