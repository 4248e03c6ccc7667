package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var debugAddressRE = regexp.MustCompile(`profiles of the process are answered.*?"address":"([^"]+)"`)

// debugAddress is where a sidecar answers profiles, by its log.
func debugAddress(t *testing.T, p *process) string {
	t.Helper()
	m := debugAddressRE.FindStringSubmatch(p.log.String())
	if m == nil {
		t.Fatalf("the log does not say where profiles are answered:\n%s", &p.log)
	}
	return m[1]
}

// profile asks for a profile, with further lines of the head, and returns the answer.
func profile(t *testing.T, address, path string, head http.Header, host string) (int, []byte) {
	t.Helper()
	network, at := "tcp", address
	if socket, unix := strings.CutPrefix(address, unixPrefix); unix {
		network, at = "unix", socket
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, at)
	}}}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+host+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, values := range head {
		req.Header[name] = values
	}
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, body
}

func bearerOf(key string) http.Header { return http.Header{"Authorization": {"Bearer " + key}} }

// Profiles are for admins, under the guards of every other request, and recorded.
func TestProfiles(t *testing.T) {
	t.Parallel()
	p, _ := serveVault(t, "--debug-listen", "127.0.0.1:0")
	at, admin := debugAddress(t, p), adminKey(t, p)
	userFile := filepath.Join(t.TempDir(), "user.key")
	p.cli(t, "", "key", "create", "--name", "reader", "-e", "staging", "--key-file", userFile).wants(t, exitOK)
	user := strings.TrimSpace(readFile(t, userFile))
	const heap = "/debug/pprof/heap"
	for _, c := range []struct {
		name, path, host string
		head             http.Header
		status           int
		says             string
	}{
		{"nobody", heap, "localhost", nil, 401, "UNAUTHORIZED"},
		{"unknown key", heap, "localhost", bearerOf("svk_" + strings.Repeat("a", 43)), 401, "UNAUTHORIZED"},
		{"user scope", heap, "localhost", bearerOf(user), 403, "FORBIDDEN_ADMIN_SCOPE"},
		{"foreign host", heap, "sidevault.example.com", bearerOf(admin), 403, "Host header"},
		{"browser", heap, "localhost", http.Header{"Authorization": {"Bearer " + admin}, "Origin": {"https://example.com"}}, 403, "Cross-origin"},
		{"forwarded", heap, "localhost", http.Header{"Authorization": {"Bearer " + admin}, "X-Forwarded-For": {"192.0.2.1"}}, 403, "Forwarded"},
		{"unknown parameter", heap + "?second=1", "localhost", bearerOf(admin), 400, "seconds"},
		{"command line", "/debug/pprof/cmdline", "localhost", bearerOf(admin), 404, "Unknown profile"},
		{"the API", "/v1/whoami", "localhost", bearerOf(admin), 404, "no such path"},
		{"goroutines", "/debug/pprof/goroutine?debug=1", "127.0.0.1", bearerOf(admin), 200, "goroutine profile: total"},
	} {
		status, body := profile(t, at, c.path, c.head, c.host)
		if status != c.status || !strings.Contains(string(body), c.says) {
			t.Errorf("%s: status %d, want %d with %q:\n%s", c.name, status, c.status, c.says, body)
		}
	}
	for _, path := range []string{heap, "/debug/pprof/profile?seconds=1"} {
		status, body := profile(t, at, path, bearerOf(admin), "localhost")
		if _, err := gzip.NewReader(bytes.NewReader(body)); status != http.StatusOK || err != nil {
			t.Errorf("%s: status %d, %d bytes, %v", path, status, len(body), err)
		}
	}
	p.cli(t, "", "audit", "list", "--action", "profile_process", "--json").
		wants(t, exitOK, `"profile": "heap"`, `"profile": "goroutine"`, `"outcome": "forbidden_admin_scope"`, `"outcome": "success"`)
	if status, body := profile(t, strings.TrimPrefix(p.addr, "http://"), heap, bearerOf(admin), "localhost"); status != http.StatusNotFound {
		t.Errorf("the API's own listener answers a profile with status %d:\n%s", status, body)
	}
}

// The peer of a socket needs no key, when the configuration says that it is an admin.
func TestProfilesOverSocket(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	socket := unixPrefix + filepath.Join(dir, "debug.sock")
	file := writeFile(t, filepath.Join(dir, "sidevault.yaml"), fmt.Sprintf(`
debug-listen: %s
peers: [{uid: %d, name: operators, org: default, scope: admin, environments: ["*"], integrations: ["*"]}]
`, socket, os.Getuid()), 0o600)
	p, _ := serveVault(t, "--config", file, "--listen", unixPrefix+filepath.Join(dir, "sidevault.sock"))
	if status, body := profile(t, debugAddress(t, p), "/debug/pprof/goroutine?debug=1", nil, "localhost"); status != http.StatusOK {
		t.Errorf("status %d:\n%s", status, body)
	}
	p.cli(t, "", "audit", "list", "--action", "profile_process").wants(t, exitOK, "operators")
}

func TestDebugListenIsOff(t *testing.T) {
	t.Parallel()
	p, _ := serveVault(t)
	if debugAddressRE.MatchString(p.log.String()) {
		t.Errorf("profiles are answered without having been asked for:\n%s", &p.log)
	}
}

func TestDebugListenRefused(t *testing.T) {
	t.Parallel()
	dir, _ := makeVault(t)
	for address, says := range map[string]string{
		"0.0.0.0:0":         "debug-listen: 0.0.0.0:0 is not a loopback address",
		":0":                "debug-listen: :0 is not a loopback address",
		"nowhere":           `--debug-listen: "nowhere" is neither host:port nor unix:///path.sock`,
		"unix://debug.sock": "a socket has an absolute path",
	} {
		sidevault(t, "serve", "--data-dir", dir, "--listen", "127.0.0.1:0", "--debug-listen", address).wants(t, exitUsage, says)
	}
}
