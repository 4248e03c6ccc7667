package contract

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/sidevault/sidevault/api"
)

const secret = "canary-5f0c1f5e"

// document is parsed once: validating it takes a second.
var document = sync.OnceValues(func() (*Document, error) { return Load(api.OpenAPI()) })

// exchange sends a request to a server with that answer, through a recorder.
func exchange(t *testing.T, method, path, sent string, status int, answer string) (*Recorder, error) {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		w.Header().Set("X-Request-Id", "1")
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("ETag", `"1"`)
		w.WriteHeader(status)
		io.WriteString(w, answer)
	}))
	t.Cleanup(server.Close)
	doc, err := document()
	if err != nil {
		t.Fatal(err)
	}
	recorder := NewRecorder(doc, http.DefaultTransport)
	req, err := http.NewRequestWithContext(t.Context(), method, server.URL+path, strings.NewReader(sent))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := recorder.RoundTrip(req)
	if err == nil {
		resp.Body.Close()
	}
	return recorder, err
}

const (
	resolved = `{"success": true, "timestamp": "2026-04-29T14:00:00.000Z", "data": {` +
		`"id": "cred-019dd9a1-7c00-7b4e-9d0f-446655440001", "integrationId": "slack", "environment": null, ` +
		`"resolvedFrom": null, "name": "default", "version": 1, "updatedAt": "2026-04-29T14:00:00.000Z", "value": "` + secret + `"}}`
	set = `{"success": true, "integrationId": "slack", "environment": null, "timestamp": "2026-04-29T14:00:00.000Z", "data": {` +
		`"id": "cred-019dd9a1-7c00-7b4e-9d0f-446655440001", "integrationId": "slack", "environment": null, "name": "default", ` +
		`"credentialName": "default", "status": "active", "version": 1, "createdAt": "2026-04-29T14:00:00.000Z", "createdBy": {"id": "", "name": "", "email": ""}, ` +
		`"updatedAt": "2026-04-29T14:00:00.000Z", "updatedBy": {"id": "", "name": "", "email": ""}, "isConfigured": true, "hasCredentials": true}}`
)

func TestRecorderSees(t *testing.T) {
	recorder, err := exchange(t, http.MethodGet, "/api/v1/credentials/slack", "", http.StatusOK, resolved)
	if err != nil {
		t.Fatal(err)
	}
	if !recorder.Seen("resolveCredential 200") || recorder.Seen("resolveCredential 404") {
		t.Error("it did not note the answer")
	}
	if n := len(recorder.Unseen()); n != len(recorder.doc.Answers())-1 {
		t.Errorf("%d answers are unseen", n)
	}
}

// TestBreachesAreBlind demands an error of each breach, and that none quotes
// what was sent or answered.
func TestBreachesAreBlind(t *testing.T) {
	const path, slot = "/v1/credentials/slack", "/v1/integrations/slack/credentials"
	value := `{"value": "` + secret + `"}`
	for name, c := range map[string]struct {
		method, path, sent string
		status             int
		answer             string
	}{
		"wrong type":          {"GET", path, "", 200, strings.Replace(resolved, `"version": 1`, `"version": "`+secret+`"`, 1)},
		"wrong form":          {"GET", path, "", 200, strings.Replace(resolved, `"id": "cred-`, `"id": "`+secret, 1)},
		"member too many":     {"GET", path, "", 200, strings.Replace(resolved, `"value"`, `"secret": "`+secret+`", "value"`, 1)},
		"member missing":      {"GET", path, "", 200, strings.Replace(resolved, `"name": "default",`, "", 1)},
		"not JSON":            {"GET", path, "", 200, secret},
		"undocumented status": {"GET", path, "", 418, resolved},
		"echo":                {"PUT", slot, value, 200, strings.Replace(set, `"version"`, `"value": "`+secret+`", "version"`, 1)},
		"bad request":         {"PUT", slot, `{"valeu": "` + secret + `"}`, 200, set},
		"bad parameter":       {"PUT", slot + "?nosuch=" + secret, value, 200, set},
		"bad failure":         {"PUT", slot, value, 400, `{"success": false, "error": "` + secret + `"}`},
		"unknown path":        {"GET", "/v1/nosuch", "", 200, resolved},
	} {
		_, err := exchange(t, c.method, c.path, c.sent, c.status, c.answer)
		if err == nil {
			t.Errorf("%s: not noticed", name)
		} else if strings.Contains(err.Error(), secret) {
			t.Errorf("%s: the error quotes the secret", name)
		}
	}
}
