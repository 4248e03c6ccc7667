package open

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sidevault/sidevault/backends"
	"github.com/sidevault/sidevault/backends/bbolt"
	"github.com/sidevault/sidevault/backends/etcd"
	"github.com/sidevault/sidevault/backends/memory"
	"github.com/sidevault/sidevault/backends/postgres"
	"github.com/sidevault/sidevault/backends/testserver"
)

func TestMain(m *testing.M) { os.Exit(testserver.Run(m)) }

func TestOpen(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "vault")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	file := "bbolt://" + dir + "/vault.db"
	if _, err := Open(t.Context(), file, Options{}); err == nil || !strings.Contains(err.Error(), "does not exist") {
		t.Errorf("a file that is not there: %v", err)
	}
	server := testserver.Postgres(t)
	for _, c := range []struct {
		url  string
		o    Options
		want backends.Backend
	}{
		{file, Options{Create: true}, (*bbolt.Backend)(nil)},
		{file, Options{Create: true}, (*bbolt.Backend)(nil)},
		{file, Options{ReadOnly: true}, (*bbolt.Backend)(nil)},
		{testserver.SharedEtcd(t).URL(), Options{}, (*etcd.Backend)(nil)},
		{server.URL(server.NewDatabase(t), testserver.PostgresOwner), Options{}, (*postgres.Backend)(nil)},
		{"memory:", Options{}, (*memory.Backend)(nil)},
	} {
		b, err := Open(t.Context(), c.url, c.o)
		if err != nil {
			t.Errorf("%s: %v", Redact(c.url), err)
			continue
		}
		if got, want := fmt.Sprintf("%T", b), fmt.Sprintf("%T", c.want); got != want {
			t.Errorf("%s opens a %s, want a %s", Redact(c.url), got, want)
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestRefused(t *testing.T) {
	for _, url := range []string{
		"", "vault.db", "/var/lib/vault.db", "bbolt:vault.db", "bbolt://host/vault.db", "bbolt:///vault.db?x=y", "memory://", "memory:x",
		"mysql://u:hunter2@h/db", "etcd://u:hunter2@h:x/p", "postgres://u:hunter2@h:x/db", "hunter2", "etcd:///p",
	} {
		b, err := Open(t.Context(), url, Options{})
		if err == nil || b != nil {
			t.Errorf("%q opened %v, %v", url, b, err)
			continue
		}
		if strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: %v", url, err)
		}
	}
}

func TestRedact(t *testing.T) {
	for url, want := range map[string]string{
		"bbolt:///var/lib/sidevault/vault.db": "bbolt:///var/lib/sidevault/vault.db",
		"memory:":                             "memory:",
		"etcd://h1:2379,h2:2379/p?tls=true&ca=/ca.pem":          "etcd://h1:2379,h2:2379/p?tls=true&ca=/ca.pem",
		"etcd://vault@h:1/p?password-file=/etc/pw":              "etcd://vault@h:1/p?password-file=/etc/pw",
		"etcd://vault:hunter2@h1:1,h2/p":                        "etcd://vault:<redacted>@h1:1,h2/p",
		"postgres://u:hunter2@h/db?sslmode=require":             "postgres://u:<redacted>@h/db?sslmode=require",
		"postgres://u:hun#@ter2:/?@h/db":                        "postgres://u:<redacted>@h/db",
		"postgres://h/db?user=u&password=hunter2":               "postgres://h/db?user=u&password=<redacted>",
		"postgres://h/db?sslpassword=hunter2&passfile=/p":       "postgres://h/db?sslpassword=<redacted>&passfile=/p",
		"postgres://h/db?PASSWORD=hunter2;p%61ssword=hunter2&x": "postgres://h/db?PASSWORD=<redacted>&<redacted>&<redacted>",
		"host=h password=hunter2":                               "<redacted>",
		"hunter2":                                               "<redacted>",
		"a b:hunter2://x":                                       "<redacted>",
		"etcd://:hunter2@h/p":                                   "etcd://:<redacted>@h/p",
		"etcd://hun%20ter2@h/p#hunter2":                         "etcd://<redacted>@h/p",
	} {
		if got := Redact(url); got != want {
			t.Errorf("Redact(%q) = %q, want %q", url, got, want)
		}
	}
}

func FuzzRedact(f *testing.F) {
	f.Add("u", "h/db?x=y")
	f.Add("u:", "h")
	f.Fuzz(func(t *testing.T, before, after string) {
		const secret = "hunter2CANARY"
		if strings.ContainsAny(after, "@") {
			return // what follows the last @ is no password
		}
		if got := Redact("postgres://" + before + ":" + secret + "@" + after); strings.Contains(got, secret) {
			t.Errorf("%q is in %q", secret, got)
		}
	})
}
