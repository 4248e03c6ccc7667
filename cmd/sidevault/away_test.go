package main

import (
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sidevault/sidevault/backends/testserver"
)

func fetchText(t *testing.T, url string) string {
	t.Helper()
	res, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// A sidecar whose storage goes away serves what it knows, says so, refuses the rest at
// once, and goes on by itself.
func TestStorageAway(t *testing.T) {
	t.Parallel()
	for engine, start := range map[string]func(*testing.T) (url string, stop, back func()){
		"postgres": func(t *testing.T) (string, func(), func()) {
			s := testserver.StartPostgres(t, testserver.PostgresConfig{NoSync: true})
			return s.URL(s.NewDatabase(t), testserver.PostgresOwner), s.Kill, func() { s.Start(t) }
		},
		"etcd": func(t *testing.T) (string, func(), func()) {
			c := testserver.Etcd(t, 1)
			return c.URL(), func() { c.Kill(0) }, func() { c.Start(t, 0) }
		},
	} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			url, stop, back := start(t)
			testAway(t, url, stop, back)
		})
	}
}

func testAway(t *testing.T, url string, stop, back func()) {
	base := t.TempDir()
	keyFile := filepath.Join(base, "key")
	storage := []string{"--data-dir", filepath.Join(base, "data"), "--backend-file", urlFile(t, url)}
	sidevault(t, append([]string{"init", "--admin-key-file", keyFile}, storage...)...).wants(t, exitOK)
	p := startServe(t, keyFile, append(storage, "--max-stale", "1m")...)
	p.cli(t, "known", "set", "salesforce").wants(t, exitOK)
	if got := p.cli(t, "", "get", "salesforce"); got.out != "known" || got.err != "" {
		t.Fatalf("%+v", got)
	}
	p.cli(t, "never read", "set", "sftp").wants(t, exitOK)
	stop()
	eventually(t, "it notices", func() bool { return strings.Contains(fetchText(t, p.addr+"/readyz"), `"degraded"`) })
	if got := p.cli(t, "", "get", "salesforce"); got.out != "known" || !strings.Contains(got.err, "out of date by up to") {
		t.Errorf("%+v", got)
	}
	p.cli(t, "", "get", "sftp").wants(t, exitUnavailable, "Storage is unavailable")
	began := time.Now()
	p.cli(t, "new", "set", "salesforce").wants(t, exitUnavailable, "Storage is unavailable")
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("a change was refused after %v", took)
	}
	p.cli(t, "", "credential", "list").wants(t, exitUnavailable)
	p.cli(t, "", "status", "salesforce").wants(t, exitUnavailable)
	p.cli(t, "", "audit", "list").wants(t, exitUnavailable)
	if m := fetchText(t, p.addr+"/metrics"); strings.Contains(m, "sidevault_storage_stale_seconds 0\n") ||
		!strings.Contains(m, `sidevault_storage_errors_total{kind="unavailable"}`) {
		t.Errorf("the metrics do not say that it is away")
	}
	back()
	eventually(t, "it is back", func() bool { return strings.Contains(fetchText(t, p.addr+"/readyz"), `"status":"ok"`) })
	eventually(t, "changes are accepted", func() bool { return p.cli(t, "new", "set", "salesforce").code == 0 })
	if got := p.cli(t, "", "get", "salesforce"); got.out != "new" || got.err != "" {
		t.Errorf("%+v", got)
	}
	for _, line := range []string{"the storage does not answer", "the storage is back"} {
		if n := strings.Count(p.log.String(), line); n != 1 {
			t.Errorf("%q is logged %d times\n%s", line, n, &p.log)
		}
	}
	if code := p.signalled(t, syscall.SIGTERM); code != 0 {
		t.Errorf("serve ended with %d\n%s", code, &p.log)
	}
}
