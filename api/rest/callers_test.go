package rest

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/sidevault/sidevault/api/peercred"
	"github.com/sidevault/sidevault/api/wire"
	"github.com/sidevault/sidevault/envs"
	"github.com/sidevault/sidevault/vault"
	"github.com/sidevault/sidevault/vault/secret"
)

// oneToken knows a single token.
type oneToken struct {
	token  string
	caller vault.Caller
}

func (o *oneToken) Verify(_ context.Context, given secret.Value) (vault.Caller, error) {
	if !given.Equal(secret.New(o.token)) {
		return vault.Caller{}, &vault.Error{Kind: vault.Unauthorized, Msg: "Authentication failed", Details: "the token is not valid here"}
	}
	return o.caller, nil
}

func TestTokens(t *testing.T) { onEach(t, testTokens) }

func testTokens(t *testing.T, on storage) {
	tokens := &oneToken{token: "header.claims.signature"}
	f := newFixture(t, on, Options{Tokens: tokens})
	tokens.caller = vault.Caller{
		Actor: vault.Actor{ID: "user-1", Name: "Ada", Kind: "jwt"}, Org: f.org, Admin: true,
		Environments: []string{vault.All}, Integrations: []string{vault.All},
	}
	with := func(value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set("Authorization", value) }
	}
	for _, c := range []struct {
		name, header string
		status       int
	}{
		{"token", "Bearer header.claims.signature", 200},
		{"bare token", "header.claims.signature", 200},
		{"API key", "Bearer " + f.key, 200},
		{"another token", "Bearer header.claims.signaturf", 401},
		{"two parts", "Bearer header.claims", 401},
		{"four parts", "Bearer header.claims.signature.more", 401},
		{"an API key with dots", "Bearer " + f.key + "..", 401},
	} {
		if status, failure := f.do(http.MethodGet, "/v1/whoami", "", with(c.header)); status != c.status {
			t.Errorf("%s: status %d %s", c.name, status, failure.Error.Details)
		}
	}
	plain := newFixture(t, on, Options{})
	if status, failure := plain.do(http.MethodGet, "/v1/whoami", "", with("Bearer header.claims.signature")); status != 401 || failure.Error.Code != "UNAUTHORIZED" {
		t.Errorf("without a verifier: %d %s", status, failure.Error.Code)
	}
	// Tokens that fail are counted like keys.
	limited := 0
	for range failureBurst + 1 {
		if status, _ := f.do(http.MethodGet, "/v1/whoami", "", with("Bearer a.b.c")); status == http.StatusTooManyRequests {
			limited++
		}
	}
	if limited == 0 {
		t.Error("tokens can be tried without end")
	}
	if status, _ := f.do(http.MethodGet, "/v1/whoami", "", with("Bearer header.claims.signature")); status != 200 {
		t.Errorf("a valid token of the same peer: %d", status)
	}
}

// socketFixture serves a fixture on a Unix socket.
type socketFixture struct {
	*fixture
	path string
}

func serveSocket(t *testing.T, on storage, list ...peercred.Rule) *socketFixture {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("peers are identified on Linux alone")
	}
	rules := new(peercred.Rules) // filled when the org is known
	f := newFixture(t, on, Options{Peers: rules, TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}})
	tree, err := envs.New(envs.Default())
	if err != nil {
		t.Fatal(err)
	}
	made, err := peercred.New(t.Context(), peercred.Config{Rules: list, Envs: tree, Org: func(context.Context, string) (vault.Org, error) {
		return f.org, nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	*rules = *made
	dir, err := os.MkdirTemp("", "sv") // a socket's path has at most 108 bytes
	if err != nil {
		t.Fatal(err)
	}
	s := &socketFixture{fixture: f, path: filepath.Join(dir, "s")}
	l, err := net.Listen("unix", s.path)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: f.handler, ConnContext: peercred.Attach}
	go server.Serve(l)
	t.Cleanup(func() {
		server.Close()
		os.RemoveAll(dir)
	})
	return s
}

// get sends a request over the socket, from a client that has bound itself to a
// name when there is one.
func (s *socketFixture) get(path, bound string, headers ...string) (int, string) {
	s.t.Helper()
	dialer := net.Dialer{}
	if bound != "" {
		dialer.LocalAddr = &net.UnixAddr{Net: "unix", Name: bound}
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return dialer.DialContext(ctx, "unix", s.path)
	}}}
	req, err := http.NewRequest(http.MethodGet, "http://localhost"+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header[headers[i]] = []string{headers[i+1]}
	}
	res, err := client.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close()
	body, _ := io.ReadAll(res.Body)
	return res.StatusCode, string(body)
}

func peerRule(change func(*peercred.Rule)) peercred.Rule {
	r := peercred.Rule{Name: "backup job", Email: "ops@example.com", Org: "default", Environments: []string{"*"}, Integrations: []string{"*"}}
	change(&r)
	return r
}

func TestPeers(t *testing.T) { onEach(t, testPeers) }

func testPeers(t *testing.T, on storage) {
	uid, gid, other := uint32(os.Getuid()), uint32(os.Getgid()), uint32(os.Getuid()+1)
	byUser := serveSocket(t, on, peerRule(func(r *peercred.Rule) { r.UID, r.Admin = &uid, true }))
	byGroup := serveSocket(t, on, peerRule(func(r *peercred.Rule) { r.GID = &gid }))
	nobody := serveSocket(t, on, peerRule(func(r *peercred.Rule) { r.UID = &other }))
	const auth = "Authorization"
	for _, c := range []struct {
		name    string
		at      *socketFixture
		headers []string
		status  int
		body    string
	}{
		{"by user", byUser, nil, 200, fmt.Sprintf(`"id":"uid:%d","name":"backup job","email":"ops@example.com","kind":"unix"`, uid)},
		{"by group", byGroup, nil, 200, `"scope":"user"`},
		{"no rule", nobody, nil, 401, "UNAUTHORIZED"},
		{"an API key wins", byUser, []string{auth, "Bearer " + byUser.key}, 200, `"kind":"api_key"`},
		{"a wrong key wins", byUser, []string{auth, "Bearer svk_" + strings.Repeat("0", 43)}, 401, "UNAUTHORIZED"},
		{"an empty header wins", byUser, []string{auth, ""}, 401, "UNAUTHORIZED"},
		{"another scheme wins", byUser, []string{auth, "Basic eDp5"}, 401, "UNAUTHORIZED"},
		{"another tenant", byUser, []string{wire.HeaderTenantID, "other"}, 403, "FORBIDDEN"},
		{"forwarded", byUser, []string{"X-Forwarded-For", "127.0.0.1"}, 403, "FORBIDDEN"},
		{"from a browser", byUser, []string{"Origin", "https://evil.example"}, 403, "FORBIDDEN"},
	} {
		if status, body := c.at.get("/v1/whoami", "", c.headers...); status != c.status || !strings.Contains(body, c.body) {
			t.Errorf("%s: %d %s", c.name, status, body)
		}
	}
	if status, _ := byUser.do(http.MethodGet, "/v1/whoami", "", func(r *http.Request) { r.Header.Del(auth) }); status != 401 {
		t.Errorf("over TCP: %d", status)
	}
}

// What a client says of itself is neither believed nor able to spoil the audit.
func TestPeerText(t *testing.T) { onEach(t, testPeerText) }

func testPeerText(t *testing.T, on storage) {
	uid := uint32(os.Getuid())
	s := serveSocket(t, on, peerRule(func(r *peercred.Rule) { r.UID, r.Admin = &uid, true }))
	t.Chdir(t.TempDir())
	for _, bound := range []string{"10.0.0.1:80", "@127.0.0.1:1\n\u2028" + rand.Text()} {
		status, body := s.get("/v1/keys", bound, "X-Forwarded-For", "127.0.0.1")
		if status != 403 {
			t.Errorf("bound to %q: %d %s", bound, status, body)
		}
		os.Remove(bound)
		if bound[0] == '@' {
			bound += "again" // an abstract name is taken until its last connection has gone
		}
		s.get("/v1/credentials/salesforce", bound, wire.HeaderRealmName, "employees\u2028<b>\xff"+strings.Repeat("x", 200))
		os.Remove(bound)
	}
	_, body := s.get("/v1/audit", "")
	var list struct{ Data []wire.AuditEntry }
	if err := json.Unmarshal([]byte(body), &list); err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, e := range list.Data {
		if e.TargetID != "salesforce" {
			continue
		}
		found++
		if e.Peer != fmt.Sprintf("unix uid=%d pid=%d", uid, os.Getpid()) || !strings.HasPrefix(e.Realm, "employees<b>x") || len(e.Realm) != vault.MaxName {
			t.Errorf("peer %q, realm %q", e.Peer, e.Realm)
		}
	}
	if found != 2 {
		t.Errorf("%d entries of 2: %s", found, body)
	}
	if status, body := s.get("/v1/audit/head?verify=true", ""); status != 200 || !strings.Contains(body, `"intact":true`) {
		t.Errorf("%d %s", status, body)
	}
}

func TestFailuresOfOnePeer(t *testing.T) {
	f := newFailures()
	for _, peers := range [][2]string{{"127.0.0.1:1", "127.0.0.1:%d"}, {"unix uid=5 pid=1", "unix uid=5 pid=%d"}} {
		allowed := 0
		for i := range 2 * failureBurst {
			if f.allow(fmt.Sprintf(peers[1], i+2)) {
				allowed++
			}
		}
		if allowed > failureBurst+1 {
			t.Errorf("%s: %d failures are allowed", peers[0], allowed)
		}
	}
}
