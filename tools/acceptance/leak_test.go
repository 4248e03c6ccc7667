package acceptance

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/sidevault/sidevault/tools/acceptance/sidecar"
)

// TestCanary sends secrets in every way, proper and improper, and searches for them
// wherever a sidecar writes.
func TestCanary(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"json", "text"} {
		t.Run(format, func(t *testing.T) {
			t.Parallel()
			v := binary.Init(t)
			l := &leaks{secrets: newSecrets(t), s: v.Start(t, "--log-format", format)}
			l.knowKeys()
			l.accepted()
			l.rejected()
			l.misplaced()
			l.keys()
			l.commands()
			l.searchOutputs()
			l.crashed(format)
			l.searchOutputs()
			l.s.Stop()
			l.searchRest()
		})
	}
}

// TestSecretAsIntegrationIsNotKept covers a secret in the place of an integration's
// key, of which it has the form. The caller may be told; the log that is kept for
// good must not be.
func TestSecretAsIntegrationIsNotKept(t *testing.T) {
	t.Parallel()
	l := &leaks{secrets: newSecrets(t), s: binary.Serve(t)}
	path := "/v1/integrations/" + l.core("as an integration") + "/credentials"
	l.wants("unknown integration", l.admin("as an integration").Put(path, value("x")), http.StatusNotFound)
	l.s.Stop()
	l.search("the log", []byte(l.s.Log()))
	l.searchFiles(l.s.Dir)
}

// leaks is a hunt for secrets that leave a sidecar.
type leaks struct {
	*secrets
	s *sidecar.Sidecar
}

// client returns a client whose answers may hold these secrets and no others.
func (l *leaks) client(key string, may ...string) *sidecar.Client {
	return sidecar.NewClient(l.t, l.s.URL, key, eavesdropper{l.secrets, may})
}

func (l *leaks) admin(may ...string) *sidecar.Client { return l.client(l.s.AdminKey, may...) }

// wants fails the test on another status. It shows no part of the answer.
func (l *leaks) wants(what string, a *sidecar.Answer, status int) {
	l.t.Helper()
	if a.Status != status {
		l.t.Errorf("%s: status %d, want %d", what, a.Status, status)
	}
}

// knowKeys adds the secrets that the vault was made with.
func (l *leaks) knowKeys() {
	l.t.Helper()
	identity, err := os.ReadFile(l.s.File("identity.txt"))
	if err != nil {
		l.t.Fatal(err)
	}
	_, private, found := strings.Cut(strings.TrimSpace(string(identity)), "AGE-SECRET-KEY-1")
	if !found {
		l.t.Fatal("the identity file holds no identity")
	}
	l.add("root identity", private)
	l.add("admin key", strings.TrimPrefix(l.s.AdminKey, "svk_"))
}

// accepted sets, rotates, reads and deletes.
func (l *leaks) accepted() {
	l.t.Helper()
	path := slot("slack", "production")
	first := value(l.text("first value"))
	l.wants("set", l.admin().Put(path, first), http.StatusCreated)
	tag := l.admin().Get(path).Header.Get("ETag")
	l.wants("rotate", l.admin().Put(path, value(l.text("second value"))), http.StatusOK)
	l.wants("resolve", l.admin("second value").Get(resolve("slack", "production")), http.StatusOK)
	l.wants("resolve", l.admin("first value").Get(resolve("slack", "production")+"&version=1"), http.StatusOK)
	l.wants("conflict", l.admin().Put(path, value(l.text("of a conflict")), "If-Match: "+tag), http.StatusPreconditionFailed)

	fields := map[string]any{"fields": map[string]string{
		"host": "sftp.example.com", "username": l.text("username"), "password": l.text("password"), "private_key": "-----BEGIN " + l.text("private key"),
	}}
	l.wants("set fields", l.admin().Put(slot("sftp", ""), fields), http.StatusCreated)
	l.wants("resolve fields", l.admin("username", "password", "private key").Get(resolve("sftp", "staging")), http.StatusOK)

	l.wants("set", l.admin().Put(slot("zoominfo", ""), value(l.text("deleted value"))), http.StatusCreated)
	l.wants("delete", l.admin().Delete(slot("zoominfo", "")), http.StatusOK)
	l.wants("delete again", l.admin().Delete(slot("zoominfo", "")), http.StatusConflict)
	l.wants("resolve", l.admin().Get(resolve("zoominfo", "")), http.StatusNotFound)
	l.wants("status", l.admin().Get(path), http.StatusOK)
	l.wants("list", l.admin().Get("/v1/integrations"), http.StatusOK)
}

// rejected sends bodies that are refused.
func (l *leaks) rejected() {
	l.t.Helper()
	quoted := func(name string) string {
		text, err := json.Marshal(l.text(name))
		if err != nil {
			l.t.Fatal(err)
		}
		return string(text)
	}
	const bad, wrong = http.StatusBadRequest, http.StatusUnprocessableEntity
	for i, c := range []struct {
		body   string
		status int
	}{
		{`{"value":"` + strings.Repeat(l.core("too long"), 400) + `"}`, wrong},
		{`{"value":"` + strings.Repeat(l.core("far too long"), 12000) + `"}`, http.StatusRequestEntityTooLarge},
		{`{"value":"` + l.core("with a NUL") + `\u0000"}`, wrong},
		{"{\"value\":\"" + l.core("with a raw NUL") + "\x00\"}", bad},
		{"{\"value\":\"" + l.core("of invalid UTF-8") + "\xff\"}", bad},
		{`{"fields":{"host":"h","username":"u","pasword":` + quoted("unknown field") + `}}`, wrong},
		{`{"fields":{"host":"h","username":"u","private_key":` + quoted("of a wrong form") + `}}`, wrong},
		{`{"fields":{"password":` + quoted("other field missing") + `}}`, wrong},
		{`{"fields":{"password":` + quoted("field given twice") + `,"password":"x"}}`, bad},
		{`{"valeu":` + quoted("unknown member") + `}`, bad},
		{`{"value":` + quoted("cut off"), bad},
		{`{"value":"` + l.core("no closing quote"), bad},
		{`{"value":x` + l.core("no quotes") + `}`, bad},
		{"x" + l.core("no JSON"), bad},
		{quoted("a mere string"), bad},
		{`{"value":` + quoted("more behind it") + `} {}`, bad},
		{`{"value":[` + quoted("in an array") + `]}`, wrong},
		{`{"value":{"value":` + quoted("in an object") + `}}`, wrong},
		{`{"value":{` + quoted("name in an object") + `:1}}`, wrong},
		{`{"value":` + l.digits("a number") + `}`, wrong},
		{`{"value":` + quoted("value and fields") + `,"fields":{"host":"h"}}`, bad},
		{`{"value":` + quoted("with a bad time") + `,"expiresAt":"tomorrow"}`, wrong},
		{`{"value":"x","expiresAt":` + quoted("as a time") + `}`, wrong},
		{`{"value":"x","labels":[` + quoted("as labels") + `]}`, wrong},
		{`{"value":` + quoted("for a bad environment") + `,"environment":"prod"}`, bad},
	} {
		l.wants(fmt.Sprintf("refused set %d", i), l.admin().Put(slot("sftp", "staging"), c.body), c.status)
	}
	l.wants("unknown integration", l.admin().Put(slot("nosuch", ""), value(l.text("for nothing"))), http.StatusNotFound)
	l.wants("disable", l.admin().Patch("/v1/integrations/telegram", map[string]any{"enabled": false}), http.StatusOK)
	l.wants("disabled", l.admin().Put(slot("telegram", ""), value(l.text("for a disabled one"))), http.StatusBadRequest)
	taken := map[string]any{"id": "slack", "description": l.core("in a taken entry")}
	l.wants("register", l.admin().Post("/v1/integrations", taken), http.StatusConflict)
	l.wants("delete", l.admin().Do(http.MethodDelete, slot("slack", ""), value(l.text("with a delete"))), http.StatusBadRequest)
}

// misplaced sends secrets where none belongs: in the URL and in headers.
func (l *leaks) misplaced() {
	l.t.Helper()
	ok := value("x")
	put := func(name, path string) {
		l.wants(name, l.admin().Put(path, ok), http.StatusBadRequest)
	}
	put("unknown parameter", slot("slack", "staging")+"&value="+url.QueryEscape(l.text("in a parameter")))
	put("malformed query", slot("slack", "staging")+"&value="+l.core("in a malformed query")+"%zz")
	put("path", "/v1/integrations/"+url.PathEscape(l.text("in the path"))+"/credentials")
	l.wants("unknown path", l.admin().Get("/v1/"+l.core("as a path")), http.StatusNotFound)
	l.wants("unknown path", l.admin().Get("/v1/keys/"+l.core("below a path")+"/x"), http.StatusNotFound)
	l.wants("key ID", l.admin().Delete("/v1/keys/"+l.core("as a key ID")), http.StatusBadRequest)
	l.wants("method", l.admin().Do(l.core("as a method"), slot("slack", ""), nil), http.StatusMethodNotAllowed)

	for _, c := range []struct {
		header string
		status int
	}{
		{"X-Request-Id: \t" + l.core("as a request ID with tabs") + "\tx", http.StatusOK},
		{"X-Tenantid: " + l.core("as a tenant"), http.StatusForbidden},
		{"Authorization: Bearer svk_" + l.core("as a key"), http.StatusUnauthorized},
		{"Authorization: Basic " + l.core("as a password"), http.StatusUnauthorized},
		{"Authorization: " + l.core("as a bare key"), http.StatusUnauthorized},
		{"Authorization: Bearer " + l.core("as a key of two") + " words", http.StatusUnauthorized},
		{"Host: " + l.core("as a host") + ".example.com", http.StatusForbidden},
		{"Origin: https://" + l.core("as an origin"), http.StatusForbidden},
		{"X-Forwarded-For: " + l.core("as an address"), http.StatusForbidden},
		{"Cookie: session=" + l.core("as a cookie"), http.StatusOK},
		{"User-Agent: " + l.core("as an agent"), http.StatusOK},
	} {
		name, _, _ := strings.Cut(c.header, ":")
		l.wants(name, l.admin().Get(slot("slack", "production"), c.header), c.status)
	}
	l.wants("If-Match", l.admin().Put(slot("slack", ""), ok, "If-Match: "+l.core("as a tag")), http.StatusBadRequest)
	l.wants("If-Match", l.admin().Put(slot("slack", ""), ok, `If-Match: "`+l.core("as a quoted tag")+`"`), http.StatusPreconditionFailed)
	l.wants("Content-Type", l.admin().Put(slot("slack", ""), ok, "Content-Type: text/"+l.core("as a type")), http.StatusBadRequest)
	l.unparsable()
}

// unparsable sends what a client of net/http refuses to.
func (l *leaks) unparsable() {
	l.t.Helper()
	for _, text := range []string{
		"GET /v1/whoami HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: " + l.core("with control characters") + "\x01\x1b[31m\r\n\r\n",
		"GET /v1/whoami HTTP/1.1\r\nHost: localhost\r\n" + l.core("as a bad header") + " x: y\r\n\r\n",
		"GET /" + l.core("in a bad request line") + " \x00 HTTP/1.1\r\nHost: localhost\r\n\r\n",
		l.core("as no HTTP") + "\r\n\r\n",
		"GET /%zz" + l.core("in a bad URL") + " HTTP/1.1\r\nHost: localhost\r\n\r\n",
	} {
		l.search("an answer to what is no HTTP", l.sendRaw(text))
	}
}

func (l *leaks) sendRaw(text string) []byte {
	l.t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(l.s.URL, "http://"))
	if err != nil {
		l.t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(2 * time.Second))
	if _, err := conn.Write([]byte(text)); err != nil {
		l.t.Error("what is no HTTP could not be sent")
	}
	answer := make([]byte, 64<<10)
	n, _ := conn.Read(answer)
	return answer[:n]
}

// keys makes, uses and revokes API keys.
func (l *leaks) keys() {
	l.t.Helper()
	request := map[string]any{"name": "reader", "scope": "user", "environments": []string{"*"}, "integrations": []string{"*"}}
	answer := l.admin().Post("/v1/keys", request)
	l.wants("create a key", answer, http.StatusCreated)
	key := sidecar.Data[createdKey](answer)
	l.add("user key", strings.TrimPrefix(key.Key, "svk_"))
	user := l.client(key.Key)
	l.wants("whoami", user.Get("/v1/whoami"), http.StatusOK)
	l.wants("not an admin", user.Put(slot("slack", ""), value(l.text("set by a reader"))), http.StatusForbidden)
	l.wants("list keys", l.admin().Get("/v1/keys"), http.StatusOK)
	l.wants("revoke", l.admin().Delete("/v1/keys/"+key.ID), http.StatusOK)
	l.wants("revoked", user.Get("/v1/whoami"), http.StatusUnauthorized)
	l.wants("cut off", l.client(key.Key[:len(key.Key)-1]).Get("/v1/whoami"), http.StatusUnauthorized)
}

// crashed ends the sidecar while values are on their way, and starts it again.
func (l *leaks) crashed(format string) {
	l.t.Helper()
	bodies := make([]map[string]any, 8)
	for i := range bodies {
		bodies[i] = value(l.text(fmt.Sprintf("on its way %d", i)))
	}
	c := l.admin()
	var sent sync.WaitGroup
	for i, body := range bodies {
		sent.Go(func() { c.Try(http.MethodPut, slot("servicenow", "")+fmt.Sprintf("?name=n%d", i), body) })
	}
	time.Sleep(20 * time.Millisecond)
	l.s.Kill()
	sent.Wait()
	l.search("the log of a sidecar that was killed", []byte(l.s.Log()))
	l.s = l.s.Vault.Start(l.t, "--log-format", format)
}

// searchOutputs searches what a running sidecar shows.
func (l *leaks) searchOutputs() {
	l.t.Helper()
	l.search("the log", []byte(l.s.Log()))
	l.wants("metrics", l.client("").Get("/metrics"), http.StatusOK)
	l.wants("contract", l.client("").Get("/openapi.yaml"), http.StatusOK)
	l.wants("health", l.client("").Get("/readyz"), http.StatusOK)
	for range auditPages(l.admin(), "limit=500") { // the client's transport searches what comes
	}
	l.searchFiles(l.s.Dir)
	l.searchProcess("the sidecar", l.s.PID())
}

// searchRest searches what a sidecar that has ended leaves behind.
func (l *leaks) searchRest() {
	l.t.Helper()
	l.search("the log", []byte(l.s.Log()))
	l.searchFiles(l.s.Dir)
	// Compacted, so that a value which the file has in pieces is in one.
	whole := filepath.Join(l.t.TempDir(), "compacted.db")
	from, err := bolt.Open(l.s.File("vault.db"), 0o600, &bolt.Options{ReadOnly: true, Timeout: time.Second})
	if err != nil {
		l.t.Fatal(err)
	}
	defer from.Close()
	to, err := bolt.Open(whole, 0o600, nil)
	if err != nil {
		l.t.Fatal(err)
	}
	defer to.Close()
	if err := bolt.Compact(to, from, 0); err != nil {
		l.t.Fatal(err)
	}
	l.searchFiles(filepath.Dir(whole))
	entries := 0
	if err := from.View(func(tx *bolt.Tx) error {
		return tx.Bucket([]byte("log")).ForEach(func(_, entry []byte) error {
			entries++
			l.search("an audit entry", bytes.Clone(entry))
			return nil
		})
	}); err != nil {
		l.t.Error(err)
	}
	if entries < 20 {
		l.t.Errorf("the audit log has %d entries; it does not show what was done", entries)
	}
}
