package acceptance

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/sidevault/sidevault/tools/acceptance/sidecar"
)

// chunked is a body in chunks, as one of them.
func chunked(body string) string { return fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(body), body) }

// smuggled is a request with an admin's key: what an attacker would hide in another's
// body, behind a proxy that adds the key.
const smuggled = "DELETE /v1/integrations/salesforce/credentials HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer KEY\r\n\r\n"

// hidden is smuggled for a body whose length is counted before the key stands in it.
const hidden = "GET /v1/credentials/salesforce HTTP/1.1\r\nHost: localhost\r\n\r\n"

// TestAttackSmuggling sends requests on whose end two programs can disagree. Each is
// refused, or it is the last one of its connection: what comes after it is not looked at.
func TestAttackSmuggling(t *testing.T) {
	t.Parallel()
	s := coveted(t)
	const path, json = "/v1/integrations/jira/credentials/test", "Content-Type: application/json"
	const body = `{"value":"x"}`
	put := func(after string, headers ...string) string {
		return whole("POST", path, after, append(headers, json)...)
	}
	length := fmt.Sprintf("Content-Length: %d", len(body))
	const tooMuch = http.StatusNotImplemented
	for _, w := range []wiretap{
		{"plain", put(body, length) + ending, []int{fine, fine}},
		{"plain in chunks", put(chunked(body), "Transfer-Encoding: chunked") + smuggled, []int{fine}},
		{"chunks and a length", put(chunked(body), "Transfer-Encoding: chunked", "Content-Length: 4") + smuggled, []int{fine}},
		{"a length and chunks", put(chunked(body), "Content-Length: 4", "Transfer-Encoding: chunked") + smuggled, []int{fine}},
		{"a length of all and chunks", put("0\r\n\r\n"+smuggled, fmt.Sprintf("Content-Length: %d", len(smuggled)+5), "Transfer-Encoding: chunked"), []int{404}},
		{"two lengths", put(body+smuggled, length, "Content-Length: 300") + ending, []int{malformed400}},
		{"two lengths in one", put(body+smuggled, length+", 300") + ending, []int{malformed400}},
		{"the same length twice", put(body, length, length) + ending, []int{fine, fine}},
		{"a length with a sign", put(body+smuggled, "Content-Length: +13") + ending, []int{malformed400}},
		{"a negative length", put(body+smuggled, "Content-Length: -1") + ending, []int{malformed400}},
		{"a length in hexadecimal", put(body+smuggled, "Content-Length: 0xd") + ending, []int{malformed400}},
		{"a length of two numbers", put(body+smuggled, "Content-Length: 1 3") + ending, []int{malformed400}},
		{"an enormous length", put(body+smuggled, "Content-Length: 99999999999999999999") + ending, []int{malformed400}},
		{"an empty length", put(body+smuggled, "Content-Length:") + ending, []int{malformed400}},
		{"space before the colon", put(chunked(body), length, "Transfer-Encoding : chunked") + smuggled, []int{malformed400}},
		{"another encoding", put(chunked(body), "Transfer-Encoding: xchunked") + smuggled, []int{tooMuch}},
		{"chunked and identity", put(chunked(body), "Transfer-Encoding: chunked, identity") + smuggled, []int{tooMuch}},
		{"identity and chunked", put(chunked(body), "Transfer-Encoding: identity, chunked") + smuggled, []int{tooMuch}},
		{"two encodings", put(chunked(body), "Transfer-Encoding: chunked", "Transfer-Encoding: identity") + smuggled, []int{tooMuch}},
		{"chunked twice", put(chunked(body), "Transfer-Encoding: chunked", "Transfer-Encoding: chunked") + smuggled, []int{tooMuch}},
		{"chunked in another case", put(chunked(body), "Transfer-Encoding: cHuNkEd") + smuggled, []int{fine}},
		{"quoted encoding", put(chunked(body), `Transfer-Encoding: "chunked"`) + smuggled, []int{tooMuch}},
		{"vertical tab before the encoding", put(chunked(body), "Transfer-Encoding: \vchunked") + smuggled, []int{malformed400}},
		{"folded encoding", put(chunked(body), "Transfer-Encoding:\r\n chunked", length) + smuggled, []int{fine}},
		{"folded length", put(body, "Content-Length:\r\n 13") + ending, []int{fine, fine}},
		{"folded first header", "GET /v1/whoami HTTP/1.1\r\n Host: localhost\r\n\r\n" + smuggled, []int{malformed400}},
		{"an encoding behind a bare LF", put(chunked(body), length+"\nTransfer-Encoding: chunked") + smuggled, []int{fine}},
		{"an encoding behind a bare CR", put(body, length+"\rTransfer-Encoding: chunked") + smuggled, []int{malformed400}},
		{"an encoding of HTTP/1.0", strings.Replace(put(body, length, "Transfer-Encoding: chunked", "Connection: keep-alive"), "HTTP/1.1", "HTTP/1.0", 1) + smuggled, []int{fine}},
		{"chunk size behind a bare LF", put("d\n"+body+"\n0\n\n", "Transfer-Encoding: chunked") + smuggled, []int{malformed400}},
		{"chunk size with a sign", put("+d\r\n"+body+"\r\n0\r\n\r\n", "Transfer-Encoding: chunked") + smuggled, []int{malformed400}},
		{"chunk size in 0x", put("0xd\r\n"+body+"\r\n0\r\n\r\n", "Transfer-Encoding: chunked") + smuggled, []int{malformed400}},
		{"enormous chunk size", put("fffffffffffffffff\r\n"+body+"\r\n0\r\n\r\n", "Transfer-Encoding: chunked") + smuggled, []int{malformed400}},
		{"chunk longer than its size", put("5\r\n"+body+"\r\n0\r\n\r\n", "Transfer-Encoding: chunked") + smuggled, []int{malformed400}},
		{"a length among the trailers", put("d\r\n"+body+"\r\n0\r\nContent-Length: 5\r\n\r\n", "Transfer-Encoding: chunked", "Trailer: Content-Length") + smuggled, []int{malformed400}},
		{"a request in a body that is not read", whole("PATCH", "/v1/nothing", hidden, fmt.Sprintf("Content-Length: %d", len(hidden))) + ending, []int{404, fine}},
		{"a request in the body of a GET", whole("GET", "/v1/whoami", hidden, fmt.Sprintf("Content-Length: %d", len(hidden))) + ending, []int{fine, fine}},
		{"a request in the body of a refusal", strings.Replace(put(hidden, fmt.Sprintf("Content-Length: %d", len(hidden))), "Bearer KEY", "Bearer none", 1) + ending, []int{401, fine}},
		{"HTTP/2 in clear", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + smuggled, []int{refused}},
		{"upgrade to HTTP/2", get("/v1/whoami", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__"), []int{fine, fine}},
		{"Content-Length that Connection names", put(body, length, "Connection: Content-Length") + ending, []int{fine, fine}},
	} {
		t.Run(w.name, func(t *testing.T) { w.check(t, s) })
	}
	stillThere(t, s)
}

// TestAttackOldAndOddHTTP sends old versions of HTTP and what is none.
func TestAttackOldAndOddHTTP(t *testing.T) {
	t.Parallel()
	s := coveted(t)
	const head, newer = "GET /v1/whoami ", http.StatusHTTPVersionNotSupported
	const rest = "\r\nHost: localhost\r\nAuthorization: Bearer KEY\r\n\r\n"
	for _, w := range []wiretap{
		{"1.0", head + "HTTP/1.0" + rest, []int{fine}},
		{"1.0 without a Host", head + "HTTP/1.0\r\nAuthorization: Bearer KEY\r\n\r\n", []int{refused}},
		{"1.0 that wants to stay", head + "HTTP/1.0\r\nConnection: keep-alive" + rest + smuggled, []int{fine}},
		{"0.9", "GET /v1/whoami\r\n", []int{malformed400}},
		{"1.2", head + "HTTP/1.2" + rest, []int{fine, fine}},
		{"2.0", head + "HTTP/2.0" + rest, []int{newer}},
		{"9.9", head + "HTTP/9.9" + rest, []int{newer}},
		{"lower case", head + "http/1.1" + rest, []int{malformed400}},
		{"11", head + "HTTP/11" + rest, []int{malformed400}},
		{"1.01", head + "HTTP/1.01" + rest, []int{malformed400}},
		{"two spaces", "GET  /v1/whoami HTTP/1.1" + rest, []int{malformed400}},
		{"tabs", "GET\t/v1/whoami\tHTTP/1.1" + rest, []int{malformed400}},
		{"no method", " /v1/whoami HTTP/1.1" + rest, []int{malformed400}},
		{"method with a separator", "G(ET /v1/whoami HTTP/1.1" + rest, []int{malformed400}},
		{"tunnel", "CONNECT evil.example:443 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", []int{refused}},
		{"tunnel elsewhere", "CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example:443\r\nConnection: close\r\n\r\n", []int{refused}},
		{"trace", "TRACE /v1/whoami HTTP/1.1" + rest + ending, []int{http.StatusMethodNotAllowed, fine}},
		{"TLS", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", []int{malformed400}},
		{"a header without a colon", head + "HTTP/1.1\r\nHost: localhost\r\nAuthorization\r\n\r\n", []int{malformed400}},
		{"a header without a name", head + "HTTP/1.1\r\nHost: localhost\r\n: x\r\n\r\n", []int{malformed400}},
		{"bare LF", strings.ReplaceAll(head+"HTTP/1.1"+rest, "\r\n", "\n") + ending, []int{fine, fine}},
	} {
		if w.name == "1.2" {
			w.text += ending
		}
		t.Run(w.name, func(t *testing.T) { w.check(t, s) })
	}
	stillThere(t, s)
}

// TestAttackTargets writes paths in ways that two programs can read as two paths. None
// may lead to another route than it says, and none is redirected.
func TestAttackTargets(t *testing.T) {
	t.Parallel()
	s := coveted(t)
	const nothing, bad = http.StatusNotFound, malformed400
	for target, status := range map[string]int{
		"/v1/credentials/salesforce": fine, "/v1/credentials/sales%66orce": fine, "/v1/credentials/salesforce?": fine,
		"/v1/credentials/salesforce/": nothing, "/v1//credentials/salesforce": nothing, "//v1/credentials/salesforce": nothing,
		"/v1/./credentials/salesforce": nothing, "/v1/x/../credentials/salesforce": nothing, "/v1/credentials/../whoami": http.StatusMethodNotAllowed,
		"/healthz/../v1/credentials/salesforce": nothing, "/healthz/..%2fv1/credentials/salesforce": nothing, "/healthz;/../v1/whoami": nothing,
		"/V1/credentials/salesforce": nothing, "/v1/Credentials/salesforce": nothing, "/v1/%63redentials/salesforce": nothing,
		"/v1%2fcredentials%2fsalesforce": nothing, "/v1/credentials%2fsalesforce": nothing,
		"/v1/credentials/..%2fwhoami": bad, "/v1/credentials/%2e%2e%2fwhoami": bad, "/v1/credentials/..": bad, "/v1/credentials/%2e": bad,
		"/v1/credentials/..;": bad, "/v1/credentials/salesforce;x=y": bad, "/v1/credentials/..%5cwhoami": bad, "/v1/credentials/%252e%252e": bad,
		"/v1/credentials/salesforce%00": bad, "/v1/credentials/salesforce%00.json": bad, "/v1/credentials/salesforce%0d%0aX: y": bad,
		"/v1/credentials/salesforce%0a": bad, "/v1/credentials/%c0%ae%c0%ae": bad, "/v1/credentials/%ef%bc%8e": bad, "/v1/credentials/%20": bad,
		"/v1/credentials/salesforce%23": bad, "/v1/credentials/salesforce%3fname=x": bad, "/v1/credentials/salesforce#x": bad,
		"/v1/credentials/%zz": bad, "/v1/credentials/%": bad, "/v1/credentials/%u002e": bad, "/v1/credentials/\x00": bad, "/v1/credentials/\x7f": bad,
		"/v1/credentials/salesforce?environment=%00": bad, "/v1/credentials/salesforce?environment=production%2f..%2f": bad,
		"/v1/credentials/salesforce?name=../../x": nothing, "/v1/credentials/salesforce?name=%2e%2e": nothing, "/v1/credentials/salesforce?name=a%2fb": nothing,
		"v1/credentials/salesforce": bad, "*": nothing, "?": bad, "/api/v1/credentials/salesforce": fine, "/api/v2/credentials/salesforce": nothing,
		"/api/v1/../v1/credentials/salesforce": nothing,
	} {
		t.Run(target, func(t *testing.T) {
			answers := onWire(t, s, get(target))
			if len(answers) == 0 || answers[0].Status != status || answers[0].Header.Get("Location") != "" {
				t.Fatalf("%d answers, want the first with status %d and without a redirection: %v", len(answers), status, statusesOf(answers))
			}
			if status != fine && bytes.Contains(answers[0].Body, []byte("untouchable")) {
				t.Error("the refusal has the secret")
			}
		})
	}
	stillThere(t, s)
}

// TestAttackHeaderInjection puts line ends and other control characters into what
// answers repeat, and marks into what they do not.
func TestAttackHeaderInjection(t *testing.T) {
	t.Parallel()
	s := coveted(t)
	for _, id := range []string{
		"a\tb", "caf\u00e9", strings.Repeat("x", 129), "", "a\r\nX-Request-Id: b", "\u2028", "\u202egnp", "a\r\n\tb\u00a0",
	} {
		t.Run(fmt.Sprintf("%.20q", id), func(t *testing.T) {
			a := wiretap{text: get("/v1/whoami", "X-Request-Id: "+id), want: []int{fine, fine}}.check(t, s)[0]
			if got := a.Header.Get("X-Request-Id"); len(got) != 36 || len(a.Header.Values("X-Request-Id")) != 1 {
				t.Errorf("the request's ID is %q and not one of the sidecar's", got)
			}
		})
	}
	for _, id := range []string{"a\x00b", "a\x1b[31m", "a\rb", "a\x7f"} {
		t.Run(fmt.Sprintf("%q", id), func(t *testing.T) {
			wiretap{text: get("/v1/whoami", "X-Request-Id: "+id), want: []int{malformed400}}.check(t, s)
		})
	}
	a := wiretap{text: get("/v1/whoami", "X-Request-Id: a%0d%0aX-Evil: 1"), want: []int{fine, fine}}.check(t, s)[0]
	if a.Header.Get("X-Request-Id") != "a%0d%0aX-Evil: 1" || a.Header.Get("X-Evil") != "" {
		t.Error("an ID that is printable is not repeated as it is")
	}
	repeated(t, s)
	stillThere(t, s)
}

// repeated looks for what a request says in the headers of its answer.
func repeated(t *testing.T, s *sidecar.Sidecar) {
	t.Helper()
	const mark = "mark3r"
	for _, text := range []string{
		whole("GET", "/v1/"+mark+"%0d%0aX-Evil:1", ""), whole("GET", "/v1/credentials/"+mark+"?"+mark+"=1", ""), whole(strings.ToUpper(mark), "/v1/whoami", ""),
		whole("GET", "/v1/whoami", "", "Origin: http://"+mark), whole("GET", "/v1/whoami", "", "Host: "+mark), whole("GET", "/v1/whoami", "", "X-Tenantid: "+mark),
		whole("GET", "/v1/whoami", "", "Accept: "+mark, "Accept-Language: "+mark, "Accept-Encoding: "+mark, "Referer: http://"+mark, "User-Agent: "+mark, "Cookie: a="+mark),
		whole("GET", "/v1/whoami", "", "Realmname: "+mark, "If-None-Match: "+mark, "Range: bytes="+mark, "Connection: "+mark, "Via: 1.1 "+mark),
		whole("PUT", "/v1/integrations/salesforce/credentials", "", "Content-Type: "+mark, "If-Match: "+mark), whole("POST", "/mcp", "", "Mcp-Session-Id: "+mark),
	} {
		for _, a := range onWire(t, s, text+ending) {
			for name, values := range a.Header {
				if strings.Contains(strings.ToLower(name+strings.Join(values, "")), mark) || name == "X-Evil" {
					t.Errorf("%.60q is repeated in the header %s", text, name)
				}
			}
		}
	}
}

// TestAttackOversizedHeaders sends headers beyond every measure.
func TestAttackOversizedHeaders(t *testing.T) {
	t.Parallel()
	s := coveted(t)
	const big, tooLarge = 64 << 10, http.StatusRequestHeaderFieldsTooLarge
	long := strings.Repeat("x", big)
	many := make([]string, 4000)
	for i := range many {
		many[i] = fmt.Sprintf("X-%d: %d", i, i)
	}
	for _, w := range []wiretap{
		{"long value", get("/v1/whoami", "X-Long: "+long), []int{tooLarge}},
		{"long name", get("/v1/whoami", long+": x"), []int{tooLarge}},
		{"long key", strings.Replace(get("/v1/whoami"), "KEY", long, 1), []int{tooLarge}},
		{"long ID", get("/v1/whoami", "X-Request-Id: "+long), []int{tooLarge}},
		{"many headers", get("/v1/whoami", many...), []int{tooLarge}},
		{"long target", get("/v1/" + long), []int{tooLarge}},
		{"long query", get("/v1/whoami?" + long), []int{tooLarge}},
		{"long method", whole(long, "/v1/whoami", ""), []int{tooLarge}},
		{"endless fold", get("/v1/whoami", "X-Long: x"+strings.Repeat("\r\n x", big/4)), []int{tooLarge}},
		{"long trailers", whole("POST", "/v1/integrations/jira/credentials/test", "d\r\n{\"value\":\"x\"}\r\n0\r\nX-Long: "+long+"\r\n\r\n",
			"Transfer-Encoding: chunked", "Content-Type: application/json") + smuggled, []int{malformed400}},
		{"long chunk extension", whole("POST", "/v1/integrations/jira/credentials/test", "d;"+long+"\r\n{\"value\":\"x\"}\r\n0\r\n\r\n",
			"Transfer-Encoding: chunked", "Content-Type: application/json") + smuggled, []int{malformed400}},
		{"a large one that is not too large", get("/v1/whoami", "X-Large: "+strings.Repeat("x", 12<<10)), []int{fine, fine}},
	} {
		t.Run(w.name, func(t *testing.T) { w.check(t, s) })
	}
	stillThere(t, s)
}
