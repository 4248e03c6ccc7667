package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/sidevault/sidevault/backends/open"
	"github.com/sidevault/sidevault/backends/testserver"
	"github.com/sidevault/sidevault/envs"
	"github.com/sidevault/sidevault/vault"
	"github.com/sidevault/sidevault/vault/catalog"
	"github.com/sidevault/sidevault/vault/seal"
)

// backedUp is a sidecar with credentials in it, and a backup of them.
type backedUp struct {
	*process
	dir, file, identity string
}

func newBackedUp(t *testing.T) backedUp {
	t.Helper()
	p, dir := serveVault(t)
	p.cli(t, "of staging", "set", "salesforce", "-e", "staging").wants(t, exitOK)
	p.cli(t, "of all", "set", "salesforce").wants(t, exitOK)
	b := backedUp{process: p, dir: dir, file: filepath.Join(t.TempDir(), "b.age"), identity: filepath.Join(dir, identityFile)}
	p.cli(t, "", "backup", b.file).wants(t, exitOK, "Wrote "+b.file)
	return b
}

func TestBackupCommands(t *testing.T) {
	t.Parallel()
	b := newBackedUp(t)
	if info, err := os.Stat(b.file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	b.cli(t, "", "backup", b.file).wants(t, exitConflict, "exists already")
	b.cli(t, "", "backup", b.file+"2", "--recipient", "age1zzz").wants(t, exitUsage, "recipient")
	sidevault(t, "backup", "verify", b.file, "--data-dir", b.dir).wants(t, exitOK, "versions checked  2", "intact")
	sidevault(t, "backup", "verify", b.file, "--identity", b.identity, "--json").wants(t, exitOK, `"versionsChecked": 2`)
	other, _ := makeVault(t)
	sidevault(t, "backup", "verify", b.file, "--data-dir", other).wants(t, exitError, "no identity given opens the backup")
	sidevault(t, "backup", "verify", b.file, "--data-dir", other, "--identity", b.identity).wants(t, exitError, "does not trust")
	sidevault(t, "backup", "verify", b.identity, "--identity", b.identity).wants(t, exitError, "it is no backup")
	sidevault(t, "backup", "verify", b.file+"3", "--identity", b.identity).wants(t, exitNotFound, "does not exist")
	b.signalled(t, 15)
	sidevault(t, "backup", b.file+"4", "--data-dir", b.dir).wants(t, exitOK)
	sidevault(t, "backup", "verify", b.file+"4", "--data-dir", b.dir).wants(t, exitOK, "versions checked  2")
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(b.file), ".*")); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

func TestRestore(t *testing.T) {
	t.Parallel()
	b := newBackedUp(t)
	b.cli(t, "later", "set", "salesforce", "-e", "staging").wants(t, exitOK)
	dir := filepath.Join(t.TempDir(), "new")
	sidevault(t, "restore", b.file).wants(t, exitUsage, "--data-dir is required")
	sidevault(t, "restore", b.file, "--data-dir", b.dir).wants(t, exitUnavailable, "in use") // by the sidecar
	sidevault(t, "restore", b.file, "--data-dir", dir, "--identity", b.identity).wants(t, exitOK, "Restored the vault", "Next: sidevault serve")
	sidevault(t, "restore", b.file, "--data-dir", dir, "--identity", b.identity).wants(t, exitConflict, "not empty")
	sidevault(t, "audit", "verify", "--data-dir", dir).wants(t, exitOK, "intact")
	p := startServe(t, b.keyFile, "--data-dir", dir, "--identity", b.identity)
	p.cli(t, "", "get", "salesforce", "-e", "staging").wants(t, exitOK, "of staging")
	p.cli(t, "", "get", "salesforce", "-e", "production").wants(t, exitOK, "of all")
	p.cli(t, "", "audit", "list", "--action", vault.ActionRestoreVault).wants(t, exitOK)
	other, _ := makeVault(t)
	os.Remove(filepath.Join(other, vaultFile))
	sidevault(t, "restore", b.file, "--data-dir", other, "--identity", b.identity).wants(t, exitConflict, "another vault")
}

// The files of a restore that is refused are as they were.
func TestRestoreRefuses(t *testing.T) {
	t.Parallel()
	b := newBackedUp(t)
	whole := []byte(readFile(t, b.file))
	strange := filepath.Join(t.TempDir(), "strange.txt")
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, strange, id.String()+"\n", 0o600)
	escrow := filepath.Join(t.TempDir(), "escrow.age")
	b.cli(t, "", "backup", escrow, "--recipient", id.Recipient().String()).wants(t, exitOK)
	flipped := bytes.Clone(whole)
	flipped[len(flipped)/2] ^= 4
	dir := filepath.Join(t.TempDir(), "new")
	for name, c := range map[string]struct {
		file     string
		identity string
		more     []string
		says     string
	}{
		"a flipped bit":        {writeFile(t, b.file+".flipped", string(flipped), 0o600), b.identity, nil, "damaged"},
		"cut off":              {writeFile(t, b.file+".cut", string(whole[:len(whole)*2/3]), 0o600), b.identity, nil, "damaged"},
		"empty":                {writeFile(t, b.file+".empty", "", 0o600), b.identity, nil, "no backup"},
		"another identity":     {b.file, strange, nil, "no identity given opens the backup"},
		"no root recipient":    {escrow, strange, nil, "no root identity given opens the vault"},
		"every recipient lost": {escrow, strange, []string{"--backup-identity", strange}, "without one of theirs nobody can open it"},
	} {
		o := sidevault(t, append([]string{"restore", c.file, "--data-dir", dir, "--identity", c.identity}, c.more...)...)
		if o.wants(t, exitError, c.says); strings.Count(o.err, "\n") > 2 {
			t.Errorf("%s: more than a line and a hint: %s", name, o.err)
		}
		if exists(dir) {
			t.Errorf("%s: something was made", name)
		}
	}
	sidevault(t, "restore", escrow, "--data-dir", dir, "--identity", b.identity, "--backup-identity", strange).wants(t, exitOK)
}

// A restore is killed again and again, and goes on until it is done.
func TestRestoreSurvivesKill(t *testing.T) {
	t.Parallel()
	p, dir := serveVault(t)
	p.fill(t, "staging", 60)
	file := filepath.Join(t.TempDir(), "b.age")
	p.cli(t, "", "backup", file).wants(t, exitOK)
	identity, to := filepath.Join(dir, identityFile), filepath.Join(t.TempDir(), "new")
	line := invocation{args: []string{"restore", file, "--data-dir", to, "--identity", identity}}
	began := time.Now()
	sidevault(t, "restore", file, "--data-dir", to+"2", "--identity", identity).wants(t, exitOK)
	took := time.Since(began)
	const tries = 12
	kills, halves := 0, 0
	for i := range time.Duration(tries) {
		cmd := line.command(context.Background(), t)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			// The first is killed as soon as there is something to break.
			for end := time.Now().Add(deadline); !exists(filepath.Join(to, vaultFile)) && time.Now().Before(end); {
				time.Sleep(time.Millisecond)
			}
		} else {
			time.Sleep(took/3 + took*i/(2*tries))
		}
		cmd.Process.Kill()
		if cmd.Wait() == nil {
			break
		}
		kills++
		if o := sidevault(t, "backup", fmt.Sprint(file, i), "--data-dir", to, "--identity", identity); strings.Contains(o.err, "half of a copy") || strings.Contains(o.err, "no vault") {
			halves++
		} else if strings.Contains(o.out, "Wrote") {
			break // it was whole when it was killed
		}
	}
	t.Logf("killed %d times, %d of them with half a vault", kills, halves)
	if halves == 0 {
		t.Error("it was never killed in the middle")
	}
	if o := line.run(t); o.code != int(exitOK) && !strings.Contains(o.err, "not empty") {
		t.Fatalf("it does not go on: %s", o.err)
	}
	sidevault(t, "audit", "verify", "--data-dir", to).wants(t, exitOK, "intact")
	restored := startServe(t, p.keyFile, "--data-dir", to, "--identity", identity)
	restored.holds(t, "staging", 60)
}

// A backup of a bbolt file is restored into the other engines.
func TestRestoreIntoOtherEngines(t *testing.T) {
	t.Parallel()
	b := newBackedUp(t)
	pg := testserver.Postgres(t)
	for name, url := range map[string]string{
		"postgres": pg.URL(pg.NewDatabase(t), testserver.PostgresOwner), "etcd": testserver.SharedEtcd(t).URL(),
	} {
		dir := filepath.Join(t.TempDir(), "new")
		args := []string{"restore", b.file, "--data-dir", dir, "--identity", b.identity, "--backend-file", urlFile(t, url)}
		o := sidevault(t, args...)
		o.wants(t, exitOK, "Restored the vault", "--backend-file")
		sidevault(t, args...).wants(t, exitConflict, "not empty")
		if got := resolveIn(t, url, dir, b.identity); got != "of staging" {
			t.Errorf("%s: another value", name)
		}
	}
}

// resolveIn opens a vault wherever it is and returns what salesforce has in staging.
func resolveIn(t *testing.T, url, dir, identity string) string {
	t.Helper()
	ids, err := seal.ParseIdentities([]byte(readFile(t, identity)))
	if err != nil {
		t.Fatal(err)
	}
	anchor, err := readTrust(filepath.Join(dir, trustFile))
	if err != nil {
		t.Fatal(err)
	}
	backend, err := open.Open(t.Context(), url, open.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer backend.Close()
	tree, err := envs.New(envs.Default())
	if err != nil {
		t.Fatal(err)
	}
	v, err := vault.Open(t.Context(), vault.Config{Backend: backend, Envs: tree, Catalog: catalog.Builtin(), Identities: ids, Trusted: anchor.recipient})
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close(context.Background())
	scope := "staging"
	slot, err := v.Slot("salesforce", &scope, "")
	if err != nil {
		t.Fatal(err)
	}
	org, err := v.Org(t.Context(), defaultOrg)
	if err != nil {
		t.Fatal(err)
	}
	caller := vault.Caller{Org: org, Environments: []string{vault.All}, Integrations: []string{vault.All}}
	got, err := v.Resolve(t.Context(), caller, slot, vault.ResolveOptions{})
	if err != nil {
		t.Fatal(err)
	}
	fields, err := got.Fields()
	if err != nil {
		t.Fatal(err)
	}
	return fields["value"].Reveal()
}

func TestScheduledBackups(t *testing.T) {
	t.Parallel()
	dir, keyFile := makeVault(t)
	anchor, err := readTrust(filepath.Join(dir, trustFile))
	if err != nil {
		t.Fatal(err)
	}
	to := filepath.Join(t.TempDir(), "backups")
	if err := os.Mkdir(to, 0o700); err != nil {
		t.Fatal(err)
	}
	prefix := "sidevault-" + anchor.vaultID[:8] + "-"
	for _, name := range []string{prefix + "20200101T000000Z.age", prefix + "20210101T000000Z.age", "sidevault-ffffffff-20200101T000000Z.age", "notes.txt"} {
		writeFile(t, filepath.Join(to, name), "old", 0o600)
	}
	p := startServe(t, keyFile, "--data-dir", dir, "--backup-dir", to, "--backup-interval", "1h", "--backup-keep", "2")
	var made []string
	eventually(t, "the oldest backup is removed", func() bool {
		made, _ = filepath.Glob(filepath.Join(to, prefix+"2*.age"))
		return len(made) == 2 && !exists(filepath.Join(to, prefix+"20200101T000000Z.age"))
	})
	if info, err := os.Stat(made[1]); err != nil || info.Mode().Perm() != 0o600 || info.Size() < 1000 {
		t.Errorf("%v, %v", info, err)
	}
	sidevault(t, "backup", "verify", made[1], "--data-dir", dir).wants(t, exitOK)
	for _, kept := range []string{"sidevault-ffffffff-20200101T000000Z.age", "notes.txt"} {
		if !exists(filepath.Join(to, kept)) {
			t.Errorf("%s was removed", kept)
		}
	}
	metrics := get(t, p.addr+"/metrics")
	if !strings.Contains(metrics, `sidevault_backups_total{outcome="ok"} 1`) || strings.Contains(metrics, "sidevault_backup_last_success_timestamp_seconds 0\n") {
		t.Error("the metrics do not tell of it")
	}
	p.cli(t, "", "audit", "list", "--action", vault.ActionBackup).wants(t, exitOK, "schedule")
	// Started again it has no reason to write another.
	p.signalled(t, 15)
	p = startServe(t, keyFile, "--data-dir", dir, "--backup-dir", to, "--backup-interval", "1h", "--backup-keep", "2")
	if got := get(t, p.addr+"/metrics"); !strings.Contains(got, `sidevault_backups_total{outcome="ok"} 0`) || strings.Contains(got, "sidevault_backup_last_success_timestamp_seconds 0\n") {
		t.Error("a backup that is recent is not taken for one")
	}
	sidevault(t, "serve", "--data-dir", dir, "--backup-dir", to, "--backup-interval", "1s").wants(t, exitUsage, "--backup-interval")
}

// A backup that fails is logged, counted, and tried again.
func TestScheduledBackupFails(t *testing.T) {
	t.Parallel()
	to := filepath.Join(t.TempDir(), "backups")
	writeFile(t, to, "", 0o600)
	dir, keyFile := makeVault(t)
	sidevault(t, "serve", "--data-dir", dir, "--listen", "127.0.0.1:0", "--backup-dir", to).wants(t, exitError, "backup.dir")
	os.Remove(to)
	p := startServe(t, keyFile, "--data-dir", dir, "--backup-dir", to, "--backup-interval", "24h")
	eventually(t, "there is a backup", func() bool {
		made, _ := filepath.Glob(filepath.Join(to, "*.age"))
		return len(made) == 1
	})
	if !strings.Contains(get(t, p.addr+"/metrics"), `sidevault_backups_total{outcome="failed"} 0`) {
		t.Error("it counts as failed")
	}
}
