package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

const publicKeys = `{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"k1","use":"sig","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}`

func TestCallerSettings(t *testing.T) {
	dir := t.TempDir()
	file := writeFile(t, filepath.Join(dir, "sidevault.yaml"), `
jwt:
  issuer: https://id.example.com
  audience: sidevault
  jwks: keys.json
  algorithms: [RS256]
  claims: {roles: realm_access.roles}
  environments: ["*", production]
peers:
  - {uid: 1000, name: backup job, email: ops@example.com, org: default, scope: user, environments: [staging], integrations: ["*"]}
  - {gid: 27, name: operators, org: default, scope: admin, environments: ["*"], integrations: ["*"]}
`, 0o600)
	cfg, err := load(t, []string{"SIDEVAULT_JWT_ROLE=boss", "SIDEVAULT_PEERS=x"}, "--config", file)
	if err != nil {
		t.Fatal(err)
	}
	if cfg.JWT.JWKS != filepath.Join(dir, "keys.json") || cfg.JWT.Claims.Roles != "realm_access.roles" || cfg.JWT.Claims.ID != "sub" ||
		cfg.JWT.AdminRole != "boss" || len(cfg.JWT.Algorithms) != 1 || len(cfg.JWT.Environments) != 2 {
		t.Errorf("%+v", cfg.JWT)
	}
	if len(cfg.Peers) != 2 || *cfg.Peers[0].UID != 1000 || cfg.Peers[0].GID != nil || cfg.Peers[0].Name != "backup job" ||
		cfg.Peers[0].Admin || *cfg.Peers[1].GID != 27 || !cfg.Peers[1].Admin {
		t.Errorf("%+v", cfg.Peers)
	}
	writeFile(t, file, "jwt: {issuer: a, audience: b, jwks: 'https://id.example.com/keys'}\n", 0o600)
	if cfg, err = load(t, nil, "--config", file); err != nil || cfg.JWT.JWKS != "https://id.example.com/keys" {
		t.Errorf("%q, %v", cfg.JWT.JWKS, err)
	}
}

func TestCallerSettingsErrors(t *testing.T) {
	for says, text := range map[string]string{
		"jwt.issuer, jwt.audience and jwt.jwks belong together, and jwt.audience is not set": "jwt: {issuer: a, jwks: keys.json}\n",
		"and jwt.issuer is not set":                             "jwt: {role: admin}\n",
		`unknown key "isuer" (did you mean "issuer"?)`:          "jwt: {isuer: a}\n",
		"sidevault.yaml:1:8: unknown key \"claim\"":             "jwt: { claim: {id: a}}\n",
		`peers: rule 1: a mapping is expected`:                  "peers: [root]\n",
		`peers: rule 1: scope "" is neither user nor admin`:     "peers: [{uid: 1}]\n",
		`peers: rule 1: uid "root" is not a number`:             "peers: [{uid: root, scope: user}]\n",
		`unknown key "user"`:                                    "peers: [{user: 1}]\n",
		"environments: a list is expected, as in [a, b]":        "peers: [{uid: 1, environments: staging}]\n",
		`socket-mode: "0777" is none of 0600, 0660, 0666`:       "socket-mode: '0777'\n",
		"peers: a list is expected, as in [a, b]":               "peers: {uid: 1}\n",
		`peers: rule 2: gid "-1" is not a number`:               "peers: [{uid: 1, scope: user}, {gid: -1, scope: user}]\n",
		`unknown key "scpoe" (did you mean "scope"?)`:           "peers: [{uid: 1, scpoe: user}]\n",
		"name: a single value is expected":                      "peers: [{uid: 1, name: [a]}]\n",
		"jwt.algorithms: a list is expected, as in [a, b]":      "jwt: {algorithms: RS256}\n",
		"jwt.claims.id: a value is missing: give one, or leave": "jwt: {claims: {id: }}\n",
	} {
		path := writeFile(t, filepath.Join(t.TempDir(), "sidevault.yaml"), text, 0o600)
		_, err := load(t, nil, "--config", path)
		if err == nil || !strings.Contains(err.Error(), says) || strings.Count(err.Error(), "\n") > 0 {
			t.Errorf("%v\ndoes not say in one line: %s", err, says)
		}
	}
}

// What only the vault can tell is one clear line too, before anything is served.
func TestCallersRefused(t *testing.T) {
	t.Parallel()
	dir, _ := makeVault(t)
	keys := writeFile(t, filepath.Join(t.TempDir(), "keys.json"), publicKeys, 0o600)
	tokens := []string{"--jwt-issuer", "https://id.example.com", "--jwt-audience", "sidevault", "--jwt-jwks", keys}
	peers := writeFile(t, filepath.Join(t.TempDir(), "sidevault.yaml"), "peers: [{uid: 1, name: a, org: other, scope: user, environments: ['*'], integrations: ['*']}]\n", 0o600)
	for says, args := range map[string][]string{
		`jwt: algorithm "HS256" cannot be allowed`:                 append(tokens, "--jwt-algorithms", "HS256"),
		`jwt: Unknown org "other"`:                                 append(tokens, "--jwt-org", "other"),
		`jwt: Unknown environment "prod"`:                          append(tokens, "--jwt-environments", "prod"),
		"jwt: the key set's URL must be https":                     append(tokens, "--jwt-jwks", "http://id.example.com/keys"),
		"jwt: stat":                                                append(tokens, "--jwt-jwks", keys+"x"),
		"peers are callers on a Unix socket":                       {"--config", peers},
		`peers: rule 1: Unknown org "other"`:                       {"--config", peers, "--listen", "unix://" + filepath.Join(shortDir(t), "s")},
		"jwt.issuer, jwt.audience and jwt.jwks belong together, a": {"--jwt-role", "admin"},
	} {
		if runtime.GOOS != "linux" && strings.HasPrefix(says, "peers: ") {
			continue
		}
		args = append([]string{"serve", "--data-dir", dir, "--listen", "127.0.0.1:0"}, args...)
		got := sidevault(t, args...)
		got.wants(t, exitUsage, says)
		if n := strings.Count(got.err, "\n"); n > 2 {
			t.Errorf("%d lines: %s", n, got.err)
		}
	}
}

// shortDir is for sockets: their path has at most 108 bytes.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "sv")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func TestServePeers(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("peers are identified on Linux alone")
	}
	path := filepath.Join(shortDir(t), "s.sock")
	config := writeFile(t, filepath.Join(t.TempDir(), "sidevault.yaml"), fmt.Sprintf(
		"peers: [{uid: %d, name: tester, org: default, scope: admin, environments: ['*'], integrations: ['*']}]\n", os.Getuid()), 0o600)
	p, _ := serveVault(t, "--config", config, "--listen", "unix://"+path, "--socket-mode", "0666")
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o666 {
		t.Errorf("the socket: %v, %v", info, err)
	}
	client := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}}
	for header, want := range map[string]int{"": 200, "Bearer " + adminKey(t, p): 200, "Bearer wrong": 401} {
		req, _ := http.NewRequest(http.MethodGet, "http://localhost/v1/audit", nil)
		if header != "" {
			req.Header.Set("Authorization", header)
		}
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != want {
			t.Errorf("status %d, want %d", res.StatusCode, want)
		}
	}
}

// A watcher does not keep the sidecar from ending.
func TestSIGTERMEndsWatches(t *testing.T) {
	t.Parallel()
	p, _ := serveVault(t, "--shutdown-timeout", "1h")
	req, _ := http.NewRequest(http.MethodGet, p.addr+"/v1/watch", nil)
	req.Header.Set("Authorization", "Bearer "+adminKey(t, p))
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	lines := bufio.NewScanner(res.Body)
	if !lines.Scan() {
		t.Fatalf("status %d, no event", res.StatusCode)
	}
	start := time.Now()
	if code := p.signalled(t, syscall.SIGTERM); code != 0 || time.Since(start) > 5*time.Second {
		t.Errorf("exit code %d after %s\n%s", code, time.Since(start), &p.log)
	}
}
