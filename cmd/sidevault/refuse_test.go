package main

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	bolt "go.etcd.io/bbolt"
)

// refusal is something that keeps a sidecar from starting.
type refusal struct {
	name  string
	harm  func(t *testing.T, dir string) (flags []string)
	says  []string
	usage bool
}

func refusals() []refusal {
	return []refusal{
		{name: "no directory", says: []string{"does not exist", "sidevault init"},
			harm: func(t *testing.T, dir string) []string { return []string{"--data-dir", dir + "x"} }},
		{name: "loose directory", says: []string{"accessible to others", "chmod 700"}, harm: mode("", 0o750)},
		{name: "directory is a link", says: []string{"symbolic link"},
			harm: func(t *testing.T, dir string) []string {
				link(t, dir, dir+"-link")
				return []string{"--data-dir", dir + "-link"}
			}},
		{name: "no identity", says: []string{identityFile, "does not exist", "backup"}, harm: remove(identityFile)},
		{name: "loose identity", says: []string{"identity file", "chmod 600"}, harm: mode(identityFile, 0o640)},
		{name: "identity is a link", says: []string{"identity file", "symbolic link"},
			harm: moved(identityFile)},
		{name: "directory for everybody", says: []string{"accessible to others", "chmod 700"}, harm: mode("", 0o777)},
		{name: "directory for everybody, sticky", says: []string{"accessible to others"}, harm: mode("", 0o777|os.ModeSticky)},
		{name: "identity for everybody", says: []string{"identity file", "chmod 600"}, harm: mode(identityFile, 0o666)},
		{name: "identity is a pipe", says: []string{"identity file", "not a regular file"}, harm: pipe(identityFile)},
		{name: "identity without an end", says: []string{"identity file", "larger than"}, harm: overwrite(identityFile, strings.Repeat("# comment\n", 1<<14))},
		{name: "trust anchor for everybody", says: []string{"trust anchor", "chmod 600"}, harm: mode(trustFile, 0o666)},
		{name: "trust anchor is a link", says: []string{"trust anchor", "symbolic link"}, harm: moved(trustFile)},
		{name: "trust anchor is a pipe", says: []string{"trust anchor", "not a regular file"}, harm: pipe(trustFile)},
		{name: "vault file for everybody", says: []string{vaultFile, "chmod 600"}, harm: mode(vaultFile, 0o666)},
		{name: "vault file is a link", says: []string{vaultFile, "symbolic link"}, harm: moved(vaultFile)},
		{name: "vault file is a pipe", says: []string{vaultFile}, harm: pipe(vaultFile)},
		{name: "vault file is a directory", says: []string{vaultFile},
			harm: func(t *testing.T, dir string) []string {
				remove(vaultFile)(t, dir)
				if err := os.Mkdir(filepath.Join(dir, vaultFile), 0o700); err != nil {
					t.Fatal(err)
				}
				return nil
			}},
		{name: "not an identity", says: []string{"identity file", "not an age identity"},
			harm: overwrite(identityFile, "AGE-SECRET-KEY-1NOTREALLYAKEY\n")},
		{name: "identity of another vault", says: []string{"made for another identity", "--identity"},
			harm: func(t *testing.T, dir string) []string {
				other, _ := makeVault(t)
				return []string{"--identity", filepath.Join(other, identityFile)}
			}},
		{name: "no trust anchor", says: []string{trustFile, "restore it"}, harm: remove(trustFile)},
		{name: "damaged trust anchor", says: []string{trustFile, "restore it"}, harm: overwrite(trustFile, "# nothing\n")},
		{name: "another vault's file", says: []string{"another identity"},
			harm: func(t *testing.T, dir string) []string {
				other, _ := makeVault(t)
				overwrite(vaultFile, readFile(t, filepath.Join(other, vaultFile)))(t, dir)
				return nil
			}},
		{name: "planted vault", says: []string{"not the vault that this host trusts"},
			harm: func(t *testing.T, dir string) []string {
				other, _ := makeVault(t, "--identity", filepath.Join(dir, identityFile))
				overwrite(vaultFile, readFile(t, filepath.Join(other, vaultFile)))(t, dir)
				return nil
			}},
		{name: "no vault file", says: []string{vaultFile, "does not exist", "sidevault init"}, harm: remove(vaultFile)},
		{name: "not a vault", says: []string{vaultFile, "not a bbolt file"}, harm: overwrite(vaultFile, strings.Repeat("text ", 20000))},
		{name: "newer format", says: []string{"use a newer sidevault"}, harm: newerFormat},
		{name: "empty vault file", says: []string{"is empty and not a vault"}, harm: overwrite(vaultFile, "")},
		{name: "read-only directory", says: []string{"read-only", "chmod 700"}, harm: mode("", 0o500)},
		{name: "read-only vault file", says: []string{"read-only", "chmod 600"}, harm: mode(vaultFile, 0o400)},
		{name: "port in use", says: []string{"in use by another program", "--listen"},
			harm: func(t *testing.T, _ string) []string {
				l, err := net.Listen("tcp", "127.0.0.1:0")
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { l.Close() })
				return []string{"--listen", l.Addr().String()}
			}},
		{name: "socket is a file", says: []string{"is not a socket"},
			harm: func(t *testing.T, dir string) []string {
				return []string{"--listen", "unix://" + writeFile(t, dir+".sock", "text", 0o600)}
			}},
		{name: "network in clear", usage: true, says: []string{"0.0.0.0:0", "in clear", "tls.cert"}, harm: flags("--listen", "0.0.0.0:0")},
		{name: "every interface in clear", usage: true, says: []string{"in clear"}, harm: flags("--listen", ":0")},
		{name: "no certificate", usage: true, says: []string{"TLS certificate"}, harm: flags("--tls-cert", "/nonexistent", "--tls-key", "/nonexistent")},
		{name: "half of TLS", usage: true, says: []string{"belong together"}, harm: flags("--tls-cert", "/nonexistent")},
		{name: "broken catalog", usage: true, says: []string{"c.yaml:1:1", "unknown key"},
			harm: func(t *testing.T, dir string) []string {
				return []string{"--catalog", writeFile(t, filepath.Join(filepath.Dir(dir), "c.yaml"), "nonsense: 1\n", 0o600)}
			}},
		{name: "memory without dev", usage: true, says: []string{"--dev"}, harm: flags("--backend", "memory:")},
	}
}

func TestServeRefuses(t *testing.T) {
	t.Parallel()
	for _, r := range refusals() {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			dir, _ := makeVault(t)
			args := append([]string{"serve", "--data-dir", dir, "--listen", "127.0.0.1:0"}, r.harm(t, dir)...)
			before := snapshot(t, dir)
			got := sidevault(t, args...)
			want := exitError
			if r.usage {
				want = exitUsage
			}
			got.wants(t, want, r.says...)
			if n := strings.Count(got.err, "sidevault: "); n != 1 || strings.Count(got.err, "\n") > 2 {
				t.Errorf("not one line and a hint:\n%s", got.err)
			}
			if after := snapshot(t, dir); after != before {
				t.Errorf("the directory was changed:\n%s\n%s", before, after)
			}
		})
	}
}

func TestServeRefusesSecondProcess(t *testing.T) {
	t.Parallel()
	_, dir := serveVault(t)
	sidevault(t, "serve", "--data-dir", dir, "--listen", "127.0.0.1:0").wants(t, exitError, "in use by another process")
	sidevault(t, "audit", "verify", "--data-dir", dir).wants(t, exitError, "in use by another process")
}

// newerFormat makes the vault file one of a format yet to come.
func newerFormat(t *testing.T, dir string) []string {
	db, err := bolt.Open(filepath.Join(dir, vaultFile), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	err = db.Update(func(tx *bolt.Tx) error {
		return tx.Bucket([]byte("meta")).Put([]byte("version"), []byte{0, 0, 0, 0, 0, 0, 0, 99})
	})
	if err != nil {
		t.Fatal(err)
	}
	return nil
}

func mode(name string, m os.FileMode) func(*testing.T, string) []string {
	return func(t *testing.T, dir string) []string {
		path := filepath.Join(dir, name)
		if err := os.Chmod(path, m); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.Chmod(path, 0o700) })
		return nil
	}
}

// moved puts a link to the file in its place.
func moved(name string) func(*testing.T, string) []string {
	return func(t *testing.T, dir string) []string {
		path := filepath.Join(dir, name)
		if err := os.Rename(path, path+".real"); err != nil {
			t.Fatal(err)
		}
		link(t, path+".real", path)
		return nil
	}
}

// pipe puts a pipe, which a reader would wait at, in the file's place.
func pipe(name string) func(*testing.T, string) []string {
	return func(t *testing.T, dir string) []string {
		remove(name)(t, dir)
		if err := syscall.Mkfifo(filepath.Join(dir, name), 0o600); err != nil {
			t.Fatal(err)
		}
		return nil
	}
}

func remove(name string) func(*testing.T, string) []string {
	return func(t *testing.T, dir string) []string {
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
		return nil
	}
}

func overwrite(name, text string) func(*testing.T, string) []string {
	return func(t *testing.T, dir string) []string {
		writeFile(t, filepath.Join(dir, name), text, 0o600)
		return nil
	}
}

func flags(list ...string) func(*testing.T, string) []string {
	return func(*testing.T, string) []string { return list }
}

func link(t *testing.T, to, from string) {
	t.Helper()
	if err := os.Symlink(to, from); err != nil {
		t.Fatal(err)
	}
}

// snapshot describes the files of a directory with their content.
func snapshot(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		info, _ := e.Info()
		var data []byte
		if info.Mode().IsRegular() {
			data, _ = os.ReadFile(filepath.Join(dir, e.Name()))
		}
		b.WriteString(e.Name() + " " + info.Mode().String() + " " + hashOf(data) + "\n")
	}
	return b.String()
}
