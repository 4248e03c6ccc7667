package acceptance

import (
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/sidevault/sidevault/api/wire"
	"github.com/sidevault/sidevault/tools/acceptance/sidecar"
)

const (
	fine         = http.StatusOK
	refused      = http.StatusForbidden
	malformed400 = http.StatusBadRequest
)

// coveted returns a sidecar with a credential that the attacks are after.
func coveted(t *testing.T, args ...string) *sidecar.Sidecar {
	t.Helper()
	s := binary.Serve(t, args...)
	s.Admin().Put(slot("salesforce", ""), value("untouchable")).Wants(http.StatusCreated)
	return s
}

// stillThere fails the test when one of the attacks has changed something.
func stillThere(t *testing.T, s *sidecar.Sidecar) {
	t.Helper()
	wantsSecret(t, s.Admin(), resolve("salesforce", ""), "untouchable", "null")
	for _, e := range sidecar.Data[[]wire.AuditEntry](s.Admin().Get("/v1/audit?limit=500").Wants(http.StatusOK)) {
		if e.Outcome == "success" && (e.Action == "remove_integration_credentials" || e.Action == "create_key" && e.Source != "cli") {
			t.Errorf("an attack did %s", e.Action)
		}
	}
	if n := len(auditOf(s.Admin(), "set_integration_credentials")); n != 1 {
		t.Errorf("%d credentials were set, want 1", n)
	}
}

// TestAttackDNSRebinding sends the Host that a browser would, once an attacker's name
// resolves to the loopback interface, and everything that only looks like ours.
func TestAttackDNSRebinding(t *testing.T) {
	t.Parallel()
	s := coveted(t)
	_, port, _ := net.SplitHostPort(strings.TrimPrefix(s.URL, "http://"))
	const target = "/v1/credentials/salesforce"
	for host, status := range map[string]int{
		"ADDRESS": fine, "localhost": fine, "LocalHost:" + port: fine, "127.0.0.1": fine, "127.9.9.9": fine, "[::1]": fine, "[::1]:" + port: fine,
		"[::ffff:127.0.0.1]": fine,
		"evil.example":       refused, "evil.example:" + port: refused, "localhost.evil.example": refused, "127.0.0.1.evil.example": refused,
		"evil.localhost": refused, "localhost.": refused, "127.0.0.1.": refused, "evil.example.": refused, "0.0.0.0": refused, "[::]": refused,
		"127.1": refused, "2130706433": refused, "0x7f.0.0.1": refused, "0177.0.0.1": refused, "169.254.169.254": refused, "[fe80::1]": refused,
		"[::ffff:192.0.2.1]": refused, "": refused, "127.0.0.1:80:80": refused, "localhost,evil.example": refused, "localhost@evil.example": malformed400,
		"evil.example:127.0.0.1": refused,
		"localhost evil.example": malformed400, "localhost/": malformed400, "l\u00f6calhost": malformed400, "localhost\t.evil": malformed400,
	} {
		t.Run(host, func(t *testing.T) {
			w := wiretap{text: whole("GET", target, "", "Host: "+host) + ending, want: []int{status, fine}}
			if status == malformed400 {
				w.want = []int{status}
			}
			w.check(t, s)
		})
	}
	for _, w := range []wiretap{
		{"no Host", "GET " + target + " HTTP/1.1\r\nAuthorization: Bearer KEY\r\n\r\n" + ending, []int{malformed400}},
		{"two Hosts", whole("GET", target, "", "Host: localhost", "Host: evil.example") + ending, []int{malformed400}},
		{"the same Host twice", whole("GET", target, "", "Host: localhost", "Host: localhost") + ending, []int{malformed400}},
		{"Host in another case twice", whole("GET", target, "", "host: localhost", "HOST: evil.example") + ending, []int{malformed400}},
		{"folded Host", whole("GET", target, "", "Host:\r\n evil.example") + ending, []int{refused, fine}},
		{"folded behind ours", whole("GET", target, "", "Host: localhost\r\n .evil.example") + ending, []int{malformed400}},
		{"absolute form of ours", get("http://ADDRESS" + target), []int{fine, fine}},
		{"absolute form of theirs", get("http://evil.example" + target), []int{refused, fine}},
		{"absolute form of theirs, Host ours", get("http://evil.example"+target, "Host: localhost"), []int{refused, fine}},
		{"absolute form with a user of our name", get("http://localhost@evil.example" + target), []int{refused, fine}},
		{"absolute form of another scheme", get("ftp://evil.example" + target), []int{refused, fine}},
		{"absolute form without an authority", get("http://" + target), []int{fine, fine}},
		{"path that looks like an authority", get("//evil.example" + target), []int{http.StatusNotFound, fine}},
		{"X-Forwarded-Host", get(target, "X-Forwarded-Host: localhost"), []int{refused, fine}},
		{"X-Original-Host", get(target, "Host: evil.example", "X-Original-Host: localhost", "X-Host: localhost"), []int{refused, fine}},
		{"the health of another host", whole("GET", "/healthz", "", "Host: evil.example") + ending, []int{refused, fine}},
		{"the options of another host", whole("OPTIONS", "*", "", "Host: evil.example") + ending, []int{refused, fine}},
	} {
		t.Run(w.name, func(t *testing.T) { w.check(t, s) })
	}
	stillThere(t, s)
}

// TestAttackCrossOrigin sends what a page of another site can have a browser send:
// simple requests, which go out unasked, and the questions before all others.
func TestAttackCrossOrigin(t *testing.T) {
	t.Parallel()
	s := coveted(t)
	_, port, _ := net.SplitHostPort(strings.TrimPrefix(s.URL, "http://"))
	const put = `{"value":"x"}`
	length := fmt.Sprintf("Content-Length: %d", len(put))
	path := slot("salesforce", "")
	type request struct {
		name, method, target, body string
		headers                    []string
		status                     int
	}
	for _, r := range []request{
		{"form", "POST", path, put, []string{"Origin: https://evil.example", "Content-Type: text/plain", length}, refused},
		{"form of an opaque origin", "POST", path, put, []string{"Origin: null", "Content-Type: application/x-www-form-urlencoded", length}, refused},
		{"form of an old browser", "POST", path, put, []string{"Content-Type: text/plain", length}, malformed400},
		{"image", "GET", resolve("salesforce", ""), "", []string{"Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: no-cors", "Sec-Fetch-Dest: image"}, refused},
		{"script of another port", "GET", resolve("salesforce", ""), "", []string{"Sec-Fetch-Site: same-site", "Sec-Fetch-Mode: no-cors"}, refused},
		{"fetch of another port", "GET", resolve("salesforce", ""), "", []string{"Origin: http://127.0.0.1:1"}, refused},
		{"fetch of another name of ours", "GET", resolve("salesforce", ""), "", []string{"Origin: http://localhost:" + port}, refused},
		{"fetch of a name that begins like ours", "GET", resolve("salesforce", ""), "", []string{"Origin: http://ADDRESS.evil.example"}, refused},
		{"fetch with ours as its user", "GET", resolve("salesforce", ""), "", []string{"Origin: http://ADDRESS@evil.example"}, refused},
		{"extension", "GET", resolve("salesforce", ""), "", []string{"Origin: chrome-extension://abcdef"}, refused},
		{"file", "GET", resolve("salesforce", ""), "", []string{"Origin: file://"}, refused},
		{"empty Origin", "GET", resolve("salesforce", ""), "", []string{"Origin:"}, refused},
		{"two Origins", "GET", resolve("salesforce", ""), "", []string{"Origin: http://ADDRESS", "Origin: https://evil.example"}, refused},
		{"Sec-Fetch-Site twice", "GET", resolve("salesforce", ""), "", []string{"Sec-Fetch-Site: none", "Sec-Fetch-Site: cross-site"}, refused},
		{"Sec-Fetch-Site of a new kind", "GET", resolve("salesforce", ""), "", []string{"Sec-Fetch-Site: Cross-Site"}, refused},
		{"preflight", "OPTIONS", path, "", []string{"Origin: https://evil.example", "Access-Control-Request-Method: PUT", "Access-Control-Request-Headers: authorization"}, refused},
		{"preflight of an opaque origin", "OPTIONS", path, "", []string{"Origin: null", "Access-Control-Request-Method: DELETE"}, refused},
		{"preflight into the private network", "OPTIONS", path, "", []string{"Origin: https://evil.example", "Access-Control-Request-Private-Network: true"}, refused},
		{"WebSocket", "GET", "/v1/watch", "", []string{"Origin: https://evil.example", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="}, refused},
		{"event stream", "GET", "/v1/watch", "", []string{"Origin: https://evil.example", "Accept: text/event-stream"}, refused},
		{"agent's tools", "POST", "/mcp", put, []string{"Origin: https://evil.example", "Content-Type: text/plain", length}, refused},
		{"own origin", "GET", resolve("salesforce", ""), "", []string{"Origin: http://ADDRESS"}, fine},
		{"typed into the address bar", "GET", resolve("salesforce", ""), "", []string{"Sec-Fetch-Site: none"}, fine},
	} {
		t.Run(r.name, func(t *testing.T) {
			w := wiretap{text: whole(r.method, r.target, r.body, r.headers...) + ending, want: []int{r.status, fine}}
			for _, a := range w.check(t, s) {
				for name := range a.Header {
					if strings.HasPrefix(name, "Access-Control-") {
						t.Errorf("the answer grants %s", name)
					}
				}
			}
		})
	}
	stillThere(t, s)
}

// TestAttackForwarded sends the headers of proxies, in every spelling, from a peer that
// is none: a service that passes on what it is sent must not become a way in.
func TestAttackForwarded(t *testing.T) {
	t.Parallel()
	s := coveted(t)
	const target = "/v1/credentials/salesforce"
	for _, h := range []string{
		"X-Forwarded-For: 127.0.0.1", "x-forwarded-for: 127.0.0.1", "X-FORWARDED-FOR:", "X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-For: 192.0.2.1",
		"X-Forwarded-For:\r\n 127.0.0.1", "Forwarded: for=127.0.0.1", "forwarded: for=\"[::1]\";host=localhost", "X-Forwarded-Host: localhost",
	} {
		t.Run(h, func(t *testing.T) { wiretap{text: get(target, h), want: []int{refused, fine}}.check(t, s) })
	}
	for _, h := range []string{"X-Forwarded-For : 127.0.0.1", " X-Forwarded-For: 127.0.0.1", "X-Forwarded-For\x00: 127.0.0.1"} {
		t.Run(h, func(t *testing.T) {
			wiretap{text: get(target, "Host: localhost", h), want: []int{malformed400}}.check(t, s)
		})
	}
	stillThere(t, s)
	// A trusted proxy is trusted to say for whom it asks, and nothing is believed of it.
	trusting := coveted(t, "--trusted-proxies", "127.0.0.1/32")
	wiretap{text: get(target, "X-Forwarded-For: 192.0.2.77"), want: []int{fine, fine}}.check(t, trusting)
	wiretap{text: get(target, "X-Forwarded-For: 192.0.2.77", "Host: evil.example"), want: []int{refused, fine}}.check(t, trusting)
	entries := sidecar.Data[[]wire.AuditEntry](trusting.Admin().Get("/v1/audit?limit=500").Wants(http.StatusOK))
	if slices.ContainsFunc(entries, func(e wire.AuditEntry) bool { return strings.Contains(fmt.Sprintf("%+v", e), "192.0.2.77") }) {
		t.Error("the audit log has the peer that a header named")
	}
}
