package acceptance

import (
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/sidevault/sidevault/api/wire"
	"github.com/sidevault/sidevault/tools/acceptance/sidecar"
)

// Documents of other systems print these requests and answers. They must work as
// they are printed, with only the host, the token and the IDs replaced.

// printed returns an answer as it is printed, with some texts replaced.
func printed(t *testing.T, name string, replace ...string) map[string]any {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "printed", name))
	if err != nil {
		t.Fatal(err)
	}
	var body map[string]any
	if err := json.Unmarshal([]byte(strings.NewReplacer(replace...).Replace(string(text))), &body); err != nil {
		t.Fatal(err)
	}
	return body
}

// variable are the parts of texts that are different each time.
var variable = map[string]*regexp.Regexp{
	"TIME": regexp.MustCompile(`\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3}Z`),
	"ID":   regexp.MustCompile(`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`),
}

// sameAsPrinted fails the test unless everything that is printed is in the answer,
// of the same type and, where it is neither an ID nor a time, with the same text.
func sameAsPrinted(t *testing.T, at string, want, got any) {
	t.Helper()
	switch want := want.(type) {
	case map[string]any:
		members, ok := got.(map[string]any)
		if !ok {
			t.Errorf("%s is %T, want an object", at, got)
		}
		for name, value := range want {
			if _, ok := members[name]; !ok {
				t.Errorf("%s.%s is missing", at, name)
				continue
			}
			sameAsPrinted(t, at+"."+name, value, members[name])
		}
	case string:
		text, ok := got.(string)
		if form(want) != form(text) || !ok {
			t.Errorf("%s is %v, want %q", at, got, want)
		}
	default:
		if !reflect.DeepEqual(want, got) {
			t.Errorf("%s is %v, want %v", at, got, want)
		}
	}
}

func form(text string) string {
	for name, part := range variable {
		text = part.ReplaceAllString(text, name)
	}
	return text
}

func (p *printedCase) body(a *sidecar.Answer) map[string]any {
	p.Helper()
	var body map[string]any
	a.Into(&body)
	return body
}

// printedCase is a sidecar with an administrator of the name and address that the
// documents print.
type printedCase struct {
	*testing.T
	admin *sidecar.Client
	key   createdKey
	org   wire.Org
}

const customKey = "servicenow-prod-001"

func newPrintedCase(t *testing.T, on *sidecar.Binary, args ...string) *printedCase {
	t.Helper()
	s := on.Serve(t, args...)
	by := printed(t, "delete_by_id.json")["data"].(map[string]any)["deletedBy"].(map[string]any)
	p := &printedCase{T: t}
	p.key = createKey(s.Admin(), map[string]any{
		"name": by["name"], "email": by["email"], "scope": "admin", "environments": []string{"*", "production"}, "integrations": []string{"*"},
	})
	p.admin = s.Admin().As(p.key.Key)
	p.org = sidecar.Data[wire.Whoami](p.admin.Get("/v1/whoami").Wants(http.StatusOK)).Org
	return p
}

// create creates the credential that the document deletes.
func (p *printedCase) create() wire.Credential {
	p.Helper()
	return sidecar.Data[wire.Credential](p.admin.Post("/api/v1/credentials", map[string]any{
		"integrationId": customKey, "environment": "production", "credentialName": "ServiceNow Production",
		"authType": "oauth2_bearer", "value": "example-token",
	}).Wants(http.StatusCreated))
}

// deleteByID is the request of the document, header for header.
func (p *printedCase) deleteByID(id string) *sidecar.Answer {
	p.Helper()
	return p.admin.As("").Do(http.MethodDelete, "/api/v1/credentials/"+customKey+"/"+id, nil,
		"accept: application/json", "authorization: Bearer "+p.key.Key, "x-tenantid: "+p.org.ID)
}

// catalogFile has the document's integration, and two that use its credential.
const catalogFile = `integrations:
  - {key: servicenow-prod-001, name: ServiceNow}
  - {key: servicenow-cmdb, name: ServiceNow CMDB, credentialOf: servicenow-prod-001}
  - {key: servicenow-itsm, name: ServiceNow ITSM, credentialOf: servicenow-prod-001}
`

func TestPrintedDeleteByID(t *testing.T) { onEach(t, testPrintedDeleteByID) }

func testPrintedDeleteByID(t *testing.T, on *sidecar.Binary) {
	file := filepath.Join(t.TempDir(), "catalog.yaml")
	if err := os.WriteFile(file, []byte(catalogFile), 0o600); err != nil {
		t.Fatal(err)
	}
	p := newPrintedCase(t, on, "--catalog", file)
	cred := p.create()
	deleted := p.body(p.deleteByID(cred.ID).Wants(http.StatusOK))
	sameAsPrinted(t, "body", printed(t, "delete_by_id.json"), deleted)
	data := deleted["data"].(map[string]any)
	if by := data["deletedBy"].(map[string]any); data["id"] != cred.ID || by["id"] != p.key.ID {
		t.Errorf("%v was deleted by %v", data["id"], by["id"])
	}
	p.fails(deleted, cred.ID)
}

// fails deletes what is deleted, and what never was.
func (p *printedCase) fails(deleted map[string]any, id string) {
	data := deleted["data"].(map[string]any)
	by := data["deletedBy"].(map[string]any)
	again := p.body(p.deleteByID(id).Wants(http.StatusConflict))
	sameAsPrinted(p.T, "body", printed(p.T, "delete_by_id_409.json", "admin@example.com", by["email"].(string)), again)
	details := again["error"].(map[string]any)["details"]
	if want := "The credential was deleted on " + data["deletedAt"].(string) + " by " + by["email"].(string); details != want {
		p.Errorf("details are %q, want %q", details, want)
	}
	never := "cred-550e8400-e29b-41d4-a716-446655440099"
	missing := p.body(p.deleteByID(never).Wants(http.StatusNotFound))
	want := printed(p.T, "delete_by_id_404.json")
	sameAsPrinted(p.T, "body", want, missing)
	if got := missing["error"].(map[string]any)["details"]; got != want["error"].(map[string]any)["details"] {
		p.Errorf("details are %q", got)
	}
}

// The same with an integration that was registered through the API: the catalog
// then says that it is used by itself alone.
func TestPrintedDeleteByIDOfARegisteredIntegration(t *testing.T) {
	onEach(t, testPrintedDeleteByIDOfARegisteredIntegration)
}

func testPrintedDeleteByIDOfARegisteredIntegration(t *testing.T, on *sidecar.Binary) {
	p := newPrintedCase(t, on)
	p.admin.Post("/v1/integrations", map[string]any{"id": customKey}).Wants(http.StatusCreated)
	users := 1
	for _, i := range sidecar.Data[[]wire.Integration](p.admin.Get("/v1/integrations").Wants(http.StatusOK)) {
		if i.CredentialOf == customKey {
			users++
		}
	}
	cred := p.create()
	deleted := p.body(p.deleteByID(cred.ID).Wants(http.StatusOK))
	want := printed(t, "delete_by_id.json")
	want["data"].(map[string]any)["integrationsAffected"] = float64(users)
	sameAsPrinted(t, "body", want, deleted)
	p.fails(deleted, cred.ID)
}

func TestPrintedDeleteOfASlot(t *testing.T) { onEach(t, testPrintedDeleteOfASlot) }

func testPrintedDeleteOfASlot(t *testing.T, on *sidecar.Binary) {
	p := newPrintedCase(t, on)
	send := func(query string) map[string]any {
		t.Helper()
		p.admin.Put("/v1/integrations/salesforce/credentials"+query, value("x")).Wants(http.StatusCreated)
		return p.body(p.admin.As("").Do(http.MethodDelete, "/v1/integrations/salesforce/credentials"+query, "{}",
			"Authorization: "+p.key.Key, "Content-Type: application/json").Wants(http.StatusOK))
	}
	want := printed(t, "delete_slot.json", "intg_9f8b7c6d5e4a3b2c1d0e", "salesforce")
	sameAsPrinted(t, "body", want, send("?environment=production"))
	want["environment"], want["message"] = nil, "Credentials successfully deleted for all environments."
	sameAsPrinted(t, "body", want, send(""))
}

func TestPrintedDeleteWithAnEmptyAnswer(t *testing.T) { onEach(t, testPrintedDeleteWithAnEmptyAnswer) }

func testPrintedDeleteWithAnEmptyAnswer(t *testing.T, on *sidecar.Binary) {
	p := newPrintedCase(t, on)
	p.admin.Post("/v1/integrations", map[string]any{"id": customKey}).Wants(http.StatusCreated)
	cred := p.create()
	path := "/v1/integrations/credentials/" + strings.TrimPrefix(cred.ID, "cred-")
	p.admin.Get(path).Wants(http.StatusOK)
	gone := p.admin.As("").Delete(path, "Authorization: Bearer "+p.key.Key).Wants(http.StatusNoContent)
	if len(gone.Body) != 0 || gone.Header.Get("Content-Type") != "" {
		t.Errorf("a 204 with %d bytes of %s", len(gone.Body), gone.Header.Get("Content-Type"))
	}
	p.admin.Get(path).Fails(http.StatusNotFound, "CREDENTIAL_NOT_FOUND")
	p.admin.Get("/v1/credentials/"+customKey+"?environment=production&name=ServiceNow%20Production").Fails(http.StatusNotFound, "CREDENTIAL_NOT_FOUND")
	if list := sidecar.Data[[]wire.Credential](p.admin.Get("/v1/integrations/credentials").Wants(http.StatusOK)); len(list) != 0 {
		t.Errorf("%d credentials are listed", len(list))
	}
	p.create()
	if list := sidecar.Data[[]wire.Credential](p.admin.Get("/v1/integrations/credentials").Wants(http.StatusOK)); len(list) != 1 || list[0].ID == cred.ID {
		t.Error("the slot cannot be used again")
	}
}

// The tools that set and remove a credential answer with members that the routes
// for slots have too.
func TestPrintedSetAndRemove(t *testing.T) { onEach(t, testPrintedSetAndRemove) }

func testPrintedSetAndRemove(t *testing.T, on *sidecar.Binary) {
	p := newPrintedCase(t, on)
	path := func(key any) string { return "/v1/integrations/" + key.(string) + "/credentials" }
	set := printed(t, "set.json")
	key := set["key"]
	delete(set, "key")
	canaryValue := "canary-" + form(p.key.ID)
	for _, updated := range []bool{false, true} {
		answer := p.admin.Put(path(key), value(canaryValue))
		data := p.body(answer)["data"].(map[string]any)
		sameAsPrinted(t, "data", set, data)
		if data["integrationId"] != key || strings.Contains(string(answer.Body), canaryValue) {
			t.Error("the answer is about another integration, or has the value")
		}
		if newest := auditOf(p.admin, "set_integration_credentials")[0]; newest.Metadata["wasUpdate"] != updated || newest.TargetID != key || newest.TargetType != "integration" {
			t.Errorf("the audit entry is %+v", newest)
		}
	}
	removed := printed(t, "remove.json")
	key = removed["key"]
	delete(removed, "key")
	p.admin.Put(path(key), value("x")).Wants(http.StatusCreated)
	for _, noop := range []bool{false, true} {
		p.admin.Delete(path(key) + "?ifExists=true").Wants(http.StatusOK)
		sameAsPrinted(t, "data", removed, p.body(p.admin.Get(path(key)).Wants(http.StatusOK))["data"])
		if newest := auditOf(p.admin, "remove_integration_credentials")[0]; newest.Metadata["wasNoop"] != noop || newest.TargetID != key {
			t.Errorf("the audit entry is %+v", newest)
		}
	}
}

// printedError is a row of a document's table of errors.
type printedError struct {
	name   string
	send   func(c *sidecar.Client) *sidecar.Answer
	status int
	code   string
}

// printedErrors are the rows that a deletion at that path has.
func printedErrors(path, malformed, missing, deleted string) []printedError {
	at := func(path, key string) func(*sidecar.Client) *sidecar.Answer {
		return func(c *sidecar.Client) *sidecar.Answer {
			if key != "" {
				c = c.As(key)
			}
			return c.Delete(path)
		}
	}
	anonymous := func(c *sidecar.Client) *sidecar.Answer { return c.As("").Delete(path) }
	return []printedError{
		{"malformed", at(malformed, ""), http.StatusBadRequest, "INVALID_REQUEST"},
		{"no token", anonymous, http.StatusUnauthorized, "UNAUTHORIZED"},
		{"invalid token", at(path, "svk_"+strings.Repeat("0", 43)), http.StatusUnauthorized, "UNAUTHORIZED"},
		{"not found", at(missing, ""), http.StatusNotFound, "CREDENTIAL_NOT_FOUND"},
		{"deleted", at(deleted, ""), http.StatusConflict, "CREDENTIAL_ALREADY_DELETED"},
	}
}

func TestPrintedErrorsOfDeletions(t *testing.T) { onEach(t, testPrintedErrorsOfDeletions) }

func testPrintedErrorsOfDeletions(t *testing.T, on *sidecar.Binary) {
	c := on.Serve(t).Admin()
	id := func(name string) string {
		return sidecar.Data[wire.Credential](c.Post("/v1/credentials", map[string]any{"integrationId": "slack", "name": name, "value": "x"}).Wants(http.StatusCreated)).ID
	}
	there, gone := id("there"), id("gone")
	c.Delete("/v1/credentials/slack/" + gone).Wants(http.StatusOK)
	user := newKey(c, "user", []string{"*"}, []string{"*"})
	expiry := time.Now().Add(time.Second)
	expired := createKey(c, map[string]any{
		"name": "short", "scope": "admin", "environments": []string{"*"}, "integrations": []string{"*"}, "expiresAt": expiry.Format(time.RFC3339Nano),
	}).Key
	time.Sleep(time.Until(expiry))
	const byID, silently, slots = "/api/v1/credentials/slack/", "/v1/integrations/credentials/", "/v1/integrations/slack/credentials?name="
	for path, rows := range map[string][]printedError{
		byID + there:     printedErrors(byID+there, byID+"not-an-id", byID+someID, byID+gone),
		silently + there: printedErrors(silently+there, silently+"not-an-id", silently+someID, silently+gone),
		slots + "there":  printedErrors(slots+"there", slots+"there&environment=prod", slots+"never", slots+"gone"),
	} {
		rows = append(rows,
			printedError{"expired token", func(c *sidecar.Client) *sidecar.Answer { return c.As(expired).Delete(path) }, http.StatusUnauthorized, "UNAUTHORIZED"},
			printedError{"no permission", func(c *sidecar.Client) *sidecar.Answer { return c.As(user).Delete(path) }, http.StatusForbidden, "FORBIDDEN_ADMIN_SCOPE"},
		)
		for _, row := range rows {
			t.Run(path[:len("/api/v1/cred")]+" "+row.name, func(t *testing.T) { row.send(c.For(t)).Fails(row.status, row.code) })
		}
	}
	c.Delete("/api/v1/credentials/-slack/"+there).Fails(http.StatusBadRequest, "INVALID_REQUEST")
	c.Delete(byID + there).Wants(http.StatusOK)
}

func TestPrintedErrorsOfSets(t *testing.T) { onEach(t, testPrintedErrorsOfSets) }

func testPrintedErrorsOfSets(t *testing.T, on *sidecar.Binary) {
	c := on.Serve(t).Admin()
	const path = "/v1/integrations/slack/credentials"
	user := newKey(c, "user", []string{"*"}, []string{"*"})
	c.Put(path, map[string]any{}).Fails(http.StatusUnprocessableEntity, "VALIDATION_ERROR")
	c.Put(path, value(strings.Repeat("x", 8193))).Fails(http.StatusUnprocessableEntity, "VALIDATION_ERROR")
	c.Put("/v1/integrations/"+strings.Repeat("k", 256)+"/credentials", value("x")).Fails(http.StatusBadRequest, "INVALID_REQUEST")
	c.As(user).Put(path, value("x")).Fails(http.StatusForbidden, "FORBIDDEN_ADMIN_SCOPE")
	c.Put("/v1/integrations/nosuch/credentials", value("x")).Fails(http.StatusNotFound, "INTEGRATION_NOT_FOUND")
	c.Delete("/v1/integrations/nosuch/credentials?ifExists=true").Fails(http.StatusNotFound, "INTEGRATION_NOT_FOUND")
	c.Patch("/v1/integrations/slack", map[string]any{"enabled": false}).Wants(http.StatusOK)
	c.Put(path, value("x")).Fails(http.StatusBadRequest, "INTEGRATION_DISABLED")
	c.Delete(path + "?ifExists=true").Wants(http.StatusOK)
}

func TestPrintedInternalErrors(t *testing.T) {
	t.Parallel()
	s := serveBroken(t)
	s.storage.fail(errors.New("disk on fire"), nil)
	for _, id := range []string{"deleteCredentials", "deleteIntegrationCredential", "deleteCredential", "setCredentials"} {
		operationNamed(id).send(s.Client).Fails(http.StatusInternalServerError, "INTERNAL")
	}
}
