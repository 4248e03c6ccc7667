package acceptance

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/sidevault/sidevault/api/wire"
	"github.com/sidevault/sidevault/tools/acceptance/sidecar"
)

// badInput is a request that must be refused. The text SECRET in it stands for a
// secret.
type badInput struct {
	name   string
	method string // "": PUT
	path   string // "": the shared slot of sftp
	body   string
	status int
	code   string
	says   []string // in the failure
}

const (
	invalidRequest  = "INVALID_REQUEST"
	validationError = "VALIDATION_ERROR"
	badRequest      = http.StatusBadRequest
	unprocessable   = http.StatusUnprocessableEntity
)

func malformed() []badInput {
	long := strings.Repeat("SECRET", 8193/len("SECRET")+1)
	return []badInput{
		{name: "no body", status: badRequest, code: invalidRequest, says: []string{"no body"}},
		{name: "not JSON", body: `{"value": SECRET}`, status: badRequest, code: invalidRequest, says: []string{"JSON"}},
		{name: "cut off", body: `{"value": "SECRET`, status: badRequest, code: invalidRequest, says: []string{"JSON"}},
		{name: "more after it", body: `{"value": "SECRET"}{}`, status: badRequest, code: invalidRequest, says: []string{"JSON"}},
		{name: "a string", body: `"SECRET"`, status: badRequest, code: invalidRequest, says: []string{"JSON object"}},
		{name: "an array", body: `["SECRET"]`, status: badRequest, code: invalidRequest, says: []string{"JSON object"}},
		{name: "null", body: `null`, status: unprocessable, code: validationError, says: []string{"value", "fields"}},
		{name: "a member twice", body: `{"value": "SECRET", "value": "SECRET2"}`, status: badRequest, code: invalidRequest, says: []string{"twice"}},
		{name: "a field twice", body: `{"fields": {"host": "h", "host": "SECRET"}}`, status: badRequest, code: invalidRequest, says: []string{"twice"}},
		{name: "another case", body: `{"Value": "SECRET"}`, status: badRequest, code: invalidRequest, says: []string{`"Value"`, `"value"`}},
		{name: "unknown member", body: `{"valeu": "SECRET"}`, status: badRequest, code: invalidRequest, says: []string{`"valeu"`, `did you mean "value"`}},
		{name: "value and fields", body: `{"value": "SECRET", "fields": {"host": "h"}}`, status: badRequest, code: invalidRequest, says: []string{"value", "fields"}},
		{name: "neither", body: `{}`, status: unprocessable, code: validationError, says: []string{"value", "fields"}},
		{name: "no fields", body: `{"fields": {}}`, status: unprocessable, code: validationError, says: []string{"value", "fields"}},
		{name: "a number", body: `{"value": 42}`, status: unprocessable, code: validationError, says: []string{"value", "string"}},
		{name: "an object", body: `{"value": {"SECRET": "SECRET"}}`, status: unprocessable, code: validationError, says: []string{"value", "string"}},
		{name: "a field's number", body: `{"fields": {"host": 42, "password": "SECRET"}}`, status: unprocessable, code: validationError, says: []string{"host", "string"}},
		{name: "empty value", body: `{"value": ""}`, status: unprocessable, code: validationError, says: []string{"value", "empty", "8192"}},
		{name: "long value", body: `{"value": "` + long[:8193] + `"}`, status: unprocessable, code: validationError, says: []string{"value", "8193", "8192"}},
		{name: "long field", body: `{"fields": {"password": "` + long[:8193] + `", "host": "h", "username": "u"}}`, status: unprocessable, code: validationError, says: []string{"password", "8193", "8192"}},
		{name: "NUL", body: `{"value": "SECRET\u0000"}`, status: unprocessable, code: validationError, says: []string{"NUL"}},
		{name: "raw NUL", body: "{\"value\": \"SECRET\x00\"}", status: badRequest, code: invalidRequest, says: []string{"JSON"}},
		{name: "invalid UTF-8", body: "{\"value\": \"SECRET\xff\"}", status: badRequest, code: invalidRequest, says: []string{"UTF-8"}},
		{name: "half a surrogate pair", body: `{"value": "SECRET\ud800"}`, status: badRequest, code: invalidRequest, says: []string{"JSON"}},
		{name: "unknown field", body: `{"fields": {"host": "h", "username": "u", "pasword": "SECRET"}}`, status: unprocessable, code: validationError, says: []string{`"pasword"`, `did you mean "password"`}},
		{name: "missing field", body: `{"fields": {"password": "SECRET"}}`, status: unprocessable, code: validationError, says: []string{"host"}},
		{name: "too many fields", path: "/v1/integrations/custom_thing/credentials", body: manyFields(33), status: unprocessable, code: validationError, says: []string{"33", "32"}},
		{name: "too many bytes", path: "/v1/integrations/custom_thing/credentials", body: bigFields(9, 8192), status: unprocessable, code: validationError, says: []string{"65536"}},
		{name: "unknown auth type", body: `{"value": "SECRET", "authType": "pasword"}`, status: unprocessable, code: validationError, says: []string{"pasword", "basic"}},
		{name: "past expiry", body: `{"value": "SECRET", "expiresAt": "2001-01-01T00:00:00Z"}`, status: unprocessable, code: validationError, says: []string{"expiresAt", "future"}},
		{name: "not a time", body: `{"value": "SECRET", "expiresAt": "tomorrow"}`, status: unprocessable, code: validationError, says: []string{"expiresAt", "RFC 3339"}},
		{name: "not a JSON type", body: `{"value": "SECRET", "labels": {"a": 1}}`, status: unprocessable, code: validationError, says: []string{"labels"}},
	}
}

func badNames() []badInput {
	const body = `{"value": "SECRET"}`
	at := func(query string) string { return "/v1/integrations/sftp/credentials" + query }
	key := func(key string) string { return "/v1/integrations/" + key + "/credentials" }
	return []badInput{
		{name: "abbreviated environment", path: at("?environment=prod"), body: body, status: badRequest, code: invalidRequest, says: []string{`"prod"`, `did you mean "production"`, "staging"}},
		{name: "environment in the body", body: `{"value": "SECRET", "environment": "prod"}`, status: badRequest, code: invalidRequest, says: []string{`did you mean "production"`}},
		{name: "empty environment", path: at("?environment="), body: body, status: badRequest, code: invalidRequest, says: []string{"environment", "leave it out"}},
		{name: "empty environment in the body", body: `{"value": "SECRET", "environment": ""}`, status: badRequest, code: invalidRequest, says: []string{"environment", "leave it out"}},
		{name: "two environments", path: at("?environment=staging"), body: `{"value": "SECRET", "environment": "production"}`, status: badRequest, code: invalidRequest, says: []string{"environment", "differ"}},
		{name: "two names", path: at("?name=a"), body: `{"value": "SECRET", "name": "b"}`, status: badRequest, code: invalidRequest, says: []string{"name", "differ"}},
		{name: "environment twice", path: at("?environment=staging&environment=production"), body: body, status: badRequest, code: invalidRequest, says: []string{"environment", "2 times"}},
		{name: "unknown parameter", path: at("?enviroment=staging"), body: body, status: badRequest, code: invalidRequest, says: []string{`"enviroment"`, `did you mean "environment"`}},
		{name: "malformed query", path: at("?environment=%zz"), body: body, status: badRequest, code: invalidRequest, says: []string{"query"}},
		{name: "semicolon in the query", path: at("?environment=staging;name=x"), body: body, status: badRequest, code: invalidRequest, says: []string{"query"}},
		{name: "NUL in the query", path: at("?environment=%00"), body: body, status: badRequest, code: invalidRequest, says: []string{"environment", "NUL"}},
		{name: "invalid UTF-8 in the query", path: at("?name=%ff"), body: body, status: badRequest, code: invalidRequest, says: []string{"name", "UTF-8"}},
		{name: "empty name", path: at("?name="), body: body, status: badRequest, code: invalidRequest, says: []string{"name", "empty"}},
		{name: "long name", path: at("?name=" + strings.Repeat("n", 129)), body: body, status: badRequest, code: invalidRequest, says: []string{"name", "128"}},
		{name: "control character in the name", path: at("?name=a%0ab"), body: body, status: badRequest, code: invalidRequest, says: []string{"name", "printable"}},
		{name: "long key", path: key(strings.Repeat("k", 256)), body: body, status: badRequest, code: invalidRequest, says: []string{"256", "255"}},
		{name: "key with a space", path: key("a%20b"), body: body, status: badRequest, code: invalidRequest, says: []string{"key"}},
		{name: "key with a NUL", path: key("sftp%00"), body: body, status: badRequest, code: invalidRequest, says: []string{"key"}},
		{name: "key of invalid UTF-8", path: key("%ff"), body: body, status: badRequest, code: invalidRequest, says: []string{"key"}},
		{name: "key with a slash", path: key("a%2fb"), body: body, status: badRequest, code: invalidRequest, says: []string{"key"}},
		{name: "key that climbs", path: key("..%2f..%2fkeys"), body: body, status: badRequest, code: invalidRequest, says: []string{"key"}},
		{name: "key of dots", path: key("%2e%2e"), body: body, status: badRequest, code: invalidRequest, says: []string{"key"}},
		{name: "key with a backslash", path: key(`..%5c`), body: body, status: badRequest, code: invalidRequest, says: []string{"key"}},
		{name: "reserved key", path: key("categories"), body: body, status: badRequest, code: invalidRequest, says: []string{"reserved"}},
		{name: "plain dots", path: "/v1/integrations/../integrations/sftp/credentials", body: body, status: http.StatusNotFound, code: invalidRequest},
		{name: "empty key", path: key(""), body: body, status: badRequest, code: invalidRequest, says: []string{"key"}},
		{name: "unknown integration", path: key("salesfroce"), body: body, status: http.StatusNotFound, code: "INTEGRATION_NOT_FOUND", says: []string{`did you mean "salesforce"`}},
		{name: "body of a DELETE", method: http.MethodDelete, body: body, status: badRequest, code: invalidRequest, says: []string{"body"}},
		{name: "ifExists", method: http.MethodDelete, path: at("?ifExists=yes"), status: badRequest, code: invalidRequest, says: []string{"ifExists", "true or false"}},
		{name: "fallback", method: http.MethodGet, path: "/v1/credentials/sftp?fallback=0", status: badRequest, code: invalidRequest, says: []string{"fallback", "true or false"}},
		{name: "version", method: http.MethodGet, path: "/v1/credentials/sftp?version=0", status: badRequest, code: invalidRequest, says: []string{"version", "from 1"}},
		{name: "limit", method: http.MethodGet, path: "/v1/audit?limit=501", status: badRequest, code: invalidRequest, says: []string{"limit", "500"}},
		{name: "cursor", method: http.MethodGet, path: "/v1/audit?cursor=x", status: badRequest, code: invalidRequest, says: []string{"cursor"}},
		{name: "since", method: http.MethodGet, path: "/v1/audit?since=yesterday", status: badRequest, code: invalidRequest, says: []string{"since", "RFC 3339"}},
		{name: "configured", method: http.MethodGet, path: "/v1/integrations?configured=maybe", status: badRequest, code: invalidRequest, says: []string{"configured", "true or false"}},
		{name: "key ID", method: http.MethodDelete, path: "/v1/keys/nosuch", status: badRequest, code: invalidRequest, says: []string{"key ID"}},
	}
}

func manyFields(n int) string {
	var members []string
	for i := range n {
		members = append(members, fmt.Sprintf(`"f%d": "SECRET"`, i))
	}
	return `{"fields": {` + strings.Join(members, ", ") + `}}`
}

func bigFields(n, size int) string {
	var members []string
	for i := range n {
		members = append(members, fmt.Sprintf(`"f%d": "%s"`, i, strings.Repeat("x", size)))
	}
	return `{"fields": {` + strings.Join(members, ", ") + `}}`
}

func TestBadInput(t *testing.T) { onEach(t, testBadInput) }

func testBadInput(t *testing.T, on *sidecar.Binary) {
	s := on.Serve(t)
	s.Admin().Post("/v1/integrations", map[string]any{"id": "custom_thing"}).Wants(http.StatusCreated)
	for _, c := range append(malformed(), badNames()...) {
		t.Run(c.name, func(t *testing.T) { c.check(t, s) })
	}
}

func (b badInput) check(t *testing.T, s *sidecar.Sidecar) {
	canary := newCanary(t, s)
	admin := s.Admin().For(t)
	if b.method == "" {
		b.method = http.MethodPut
	}
	if b.path == "" {
		b.path = "/v1/integrations/sftp/credentials"
	}
	var body any
	if b.body != "" || b.method == http.MethodPut {
		body = strings.ReplaceAll(b.body, "SECRET", canary.fit(b.body))
	}
	f := canary.inspect(admin.Do(b.method, b.path, body)).Fails(b.status, b.code)
	said := f.Error.Message + "\n" + f.Error.Details
	for _, d := range f.Detail {
		said += "\n" + d.Msg
	}
	for _, want := range b.says {
		if !strings.Contains(said, want) {
			t.Errorf("the failure does not say %q:\n%s", want, said)
		}
	}
	if (b.status == unprocessable) != (len(f.Detail) > 0) {
		t.Errorf("status %d with %d items in detail", b.status, len(f.Detail))
	}
	if list := sidecar.Data[[]wire.Integration](admin.Get("/v1/integrations?configured=true").Wants(http.StatusOK)); len(list) > 0 {
		t.Errorf("something was stored for %s", list[0].ID)
	}
	canary.absent()
}

// fit shortens the secret to the length of its placeholder where that is
// repeated, so that lengths stay what they are.
func (c *canary) fit(body string) string {
	if strings.Count(body, "SECRET") > 100 {
		c.secret = c.secret[len(c.secret)-len("SECRET"):]
	}
	return c.secret
}
