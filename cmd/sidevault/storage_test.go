package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/sidevault/sidevault/backends/testserver"
)

// urlFile puts a URL into a file of its owner's.
func urlFile(t *testing.T, url string) string {
	t.Helper()
	return writeFile(t, filepath.Join(t.TempDir(), "backend.url"), url+"\n", 0o600)
}

// hides fails the test if something of what a program said holds the password.
func (o outcome) hides(t *testing.T, password string) outcome {
	t.Helper()
	if strings.Contains(o.out+o.err, password) {
		t.Errorf("the password is shown")
	}
	return o
}

// postgresURL returns the URL of a new database, and the password in it.
func postgresURL(t *testing.T) (url, password string) {
	t.Helper()
	s := testserver.Postgres(t)
	return s.URL(s.NewDatabase(t), testserver.PostgresOwner), s.Password(testserver.PostgresOwner)
}

// A vault in a storage that two hosts share, through every command that opens it.
func TestSharedStorage(t *testing.T) {
	t.Parallel()
	for engine, at := range map[string]func(*testing.T) (url, password string){
		"postgres": postgresURL,
		"etcd":     func(t *testing.T) (string, string) { return testserver.SharedEtcd(t).URL(), "no password" },
	} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			url, password := at(t)
			testShared(t, urlFile(t, url), password)
		})
	}
}

func testShared(t *testing.T, file, password string) {
	base := t.TempDir()
	first, keyFile := filepath.Join(base, "first"), filepath.Join(base, "admin.key")
	sidevault(t, "serve", "--data-dir", first, "--backend-file", file).hides(t, password).wants(t, exitError, "does not exist", "further one", "copy")
	made := sidevault(t, "init", "--data-dir", first, "--backend-file", file, "--admin-key-file", keyFile).hides(t, password)
	made.wants(t, exitOK, "Further hosts need a copy", "--backend-file")
	if exists(filepath.Join(first, vaultFile)) {
		t.Error("there is a file of bbolt's too")
	}
	second := filepath.Join(base, "second")
	sidevault(t, "init", "--data-dir", second, "--backend-file", file).hides(t, password).
		wants(t, exitConflict, "already holds a vault", "copy identity.txt and vault.pub")
	if exists(second) {
		t.Error("an init that was refused left its directory")
	}

	a := startServe(t, keyFile, "--data-dir", first, "--backend-file", file)
	if err := os.Mkdir(second, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{identityFile, trustFile} {
		sidevault(t, "serve", "--data-dir", second, "--backend-file", file).hides(t, password).
			wants(t, exitError, name, "does not exist", "from a host that serves the vault")
		writeFile(t, filepath.Join(second, name), readFile(t, filepath.Join(first, name)), 0o600)
	}
	b := startServe(t, keyFile, "--data-dir", second, "--backend-file", file)
	a.cli(t, "one", "set", "salesforce").wants(t, exitOK)
	b.cli(t, "", "get", "salesforce", "-e", "staging").wants(t, exitOK, "one")
	b.cli(t, "two", "set", "salesforce").wants(t, exitOK)
	eventually(t, "the first sidecar sees it", func() bool { return a.cli(t, "", "get", "salesforce").out == "two" })
	metrics := fetchText(t, a.addr+"/metrics")
	for _, name := range []string{"sidevault_storage_stale_seconds 0", "sidevault_cache_hits_total", "sidevault_cache_misses_total", "sidevault_cache_bytes"} {
		if !strings.Contains(metrics, "\n"+name) {
			t.Errorf("%s is no metric", name)
		}
	}

	storage := []string{"--data-dir", second, "--backend-file", file}
	sidevault(t, append(storage, "audit", "verify")...).hides(t, password).wants(t, exitOK, "intact")
	key := sidevault(t, append(storage, "key", "create", "--name", "x", "-e", "production")...)
	key.wants(t, exitOK)
	a.keyFile = writeFile(t, filepath.Join(base, "x.key"), key.out, 0o600)
	a.cli(t, "", "get", "salesforce", "-e", "production").wants(t, exitOK, "two")
	sidevault(t, append(storage, "export", "salesforce", "--raw", "--out", filepath.Join(base, "out"))...).wants(t, exitOK)
	b.cli(t, "", "delete", "salesforce").wants(t, exitOK)
	sidevault(t, append(storage, "purge", "--older-than", "0s")...).hides(t, password).wants(t, exitOK, "Purged 1 credential")
	for _, p := range []*process{a, b} {
		if code := p.signalled(t, syscall.SIGTERM); code != 0 {
			t.Errorf("serve ended with %d", code)
		}
		outcome{out: p.log.String(), err: p.out.String()}.hides(t, password)
	}
	// A vault of another's with the same storage is not the one that is trusted.
	other, _ := makeVault(t, "--identity", filepath.Join(first, identityFile))
	writeFile(t, filepath.Join(second, trustFile), readFile(t, filepath.Join(other, trustFile)), 0o600)
	sidevault(t, append([]string{"serve"}, storage...)...).hides(t, password).wants(t, exitError, "not the vault that this host trusts", "copy")
}

// Each storage that cannot be used ends serve with one line.
func TestServeRefusesStorage(t *testing.T) {
	t.Parallel()
	s := testserver.Postgres(t)
	good, password := postgresURL(t)
	database := s.NewDatabase(t)
	newer := s.URL(database, testserver.PostgresOwner)
	dir, _ := makeVault(t)
	serve := func(t *testing.T, url string) outcome {
		return sidevault(t, "serve", "--data-dir", dir, "--listen", "127.0.0.1:0", "--backend-file", urlFile(t, url))
	}
	serve(t, newer).wants(t, exitError, "holds no vault")
	s.Admin(t, database, "INSERT INTO sidevault.migrations SELECT (jsonb_populate_record(m, '{\"version\": 99}')).* FROM sidevault.migrations m LIMIT 1")
	readOnly := testserver.StartPostgres(t, testserver.PostgresConfig{NoSync: true})
	readOnlyURL := readOnly.URL(readOnly.NewDatabase(t), testserver.PostgresOwner)
	readOnly.Demote(t)
	secure := testserver.StartPostgres(t, testserver.PostgresConfig{NoSync: true, TLS: true})
	secureURL := secure.URL("postgres", testserver.PostgresOwner)
	three := testserver.Etcd(t, 3)
	quorumURL := three.URL()
	three.Kill(1)
	three.Kill(2)
	for name, c := range map[string]struct{ url, says string }{
		"wrong password":   {strings.Replace(good, password, "hunter2-wrong", 1), "refuses the password"},
		"wrong database":   {s.URL("nowhere", testserver.PostgresOwner), `no database "nowhere"`},
		"nothing there":    {"postgres://vault:hunter2-secret@127.0.0.1:1/x", "cannot be reached"},
		"newer schema":     {newer, "newer Sidevault"},
		"read-only":        {readOnlyURL, "replica"},
		"unknown CA":       {strings.Replace(secureURL, "sslrootcert="+secure.CA, "x=y", 1), "TLS"},
		"no quorum":        {quorumURL, "etcd"},
		"etcd not there":   {"etcd://root:hunter2-secret@127.0.0.1:1/x", "127.0.0.1:1"},
		"etcd without TLS": {testserver.SharedEtcd(t).URL() + "?tls=true", "TLS"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := serve(t, c.url)
			for _, p := range []string{password, "hunter2", readOnly.Password(testserver.PostgresOwner), secure.Password(testserver.PostgresOwner)} {
				got.hides(t, p)
			}
			if got.code != int(exitError) && got.code != int(exitUnavailable) || !strings.Contains(got.err, c.says) {
				t.Errorf("exit code %d, %q", got.code, got.err)
			}
			if strings.Count(got.err, "sidevault: ") != 1 || strings.Count(got.err, "\n") > 2 {
				t.Errorf("not one line and a hint:\n%s", got.err)
			}
		})
	}
}

// A password is accepted where its owner alone sees it, and nowhere else.
func TestBackendSecrets(t *testing.T) {
	t.Parallel()
	const url = "postgres://vault:hunter2@127.0.0.1:1/x"
	dir, _ := makeVault(t)
	config := filepath.Join(t.TempDir(), "sidevault.yaml")
	for name, c := range map[string]struct {
		env  []string
		mode os.FileMode
		args []string
		code exitCode
		says string
	}{
		"flag":                {args: []string{"--backend", url}, code: exitUsage, says: "--backend-file"},
		"variable":            {env: []string{"SIDEVAULT_BACKEND=" + url}, code: exitUnavailable, says: "cannot be reached"},
		"configuration":       {mode: 0o600, code: exitUnavailable, says: "cannot be reached"},
		"loose configuration": {mode: 0o644, code: exitUsage, says: "chmod 600"},
		"file":                {args: []string{"--backend-file", urlFile(t, url)}, code: exitUnavailable, says: "cannot be reached"},
		"loose file":          {args: []string{"--backend-file", writeFile(t, filepath.Join(t.TempDir(), "u"), url, 0o644)}, code: exitUsage, says: "accessible to others"},
		"no file":             {args: []string{"--backend-file", "/nonexistent"}, code: exitUsage, says: "--backend-file"},
		"two ways":            {args: []string{"--backend-file", urlFile(t, url), "--backend", "etcd://h/x"}, code: exitUsage, says: "give one of the two"},
		"flag of key create":  {args: []string{"key", "create", "--name", "x", "-e", "*", "--backend", url}, code: exitUsage, says: "--backend-file"},
		"flag of migrate":     {args: []string{"migrate", "--from", "bbolt://" + filepath.Join(dir, vaultFile), "--to", url}, code: exitUsage, says: "--to-file"},
	} {
		t.Run(name, func(t *testing.T) {
			args := append([]string{"serve", "--data-dir", dir}, c.args...)
			if len(c.args) > 2 && !strings.HasPrefix(c.args[0], "-") {
				args = c.args
			}
			if c.mode != 0 {
				args = append(args, "--config", writeFile(t, config, "backend: "+url+"\n", c.mode))
			}
			invocation{env: c.env, args: args}.run(t).hides(t, "hunter2").wants(t, c.code, c.says)
		})
	}
}

// A vault that is moved from engine to engine, and back, is the same one.
func TestMigrateBetweenEngines(t *testing.T) {
	t.Parallel()
	p, dir := serveVault(t)
	p.cli(t, "the-value", "set", "salesforce", "-e", "production").wants(t, exitOK)
	p.signalled(t, syscall.SIGTERM)
	head := headOf(t, dir)
	postgres, password := postgresURL(t)
	inPostgres, inEtcd := urlFile(t, postgres), testserver.SharedEtcd(t).URL()
	target, back := moveTo(t, dir)
	for _, args := range [][]string{
		{"--from", fileURL(dir), "--to-file", inPostgres},
		{"--from-file", inPostgres, "--to", inEtcd},
		{"--from", inEtcd, "--to", back},
	} {
		sidevault(t, append([]string{"migrate"}, args...)...).hides(t, password).
			wants(t, exitOK, "read back and is the same", fmt.Sprintf("%d %s", head.Seq, head.Hash))
	}
	for _, storage := range [][]string{{"--backend-file", inPostgres}, {"--backend", inEtcd}, nil} {
		served := startServe(t, p.keyFile, append([]string{"--data-dir", target}, storage...)...)
		served.cli(t, "", "get", "salesforce", "-e", "production").wants(t, exitOK, "the-value")
		served.cli(t, "", "audit", "verify").wants(t, exitOK)
		served.signalled(t, syscall.SIGTERM)
	}
}
