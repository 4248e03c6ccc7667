package acceptance

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sidevault/sidevault/api/wire"
	"github.com/sidevault/sidevault/tools/acceptance/sidecar"
)

// slot returns the path of an integration's slot; "" is the shared scope.
func slot(integration, environment string) string {
	return "/v1/integrations/" + integration + "/credentials" + query(environment)
}

// resolve returns the path that a credential is resolved at.
func resolve(integration, environment string) string {
	return "/v1/credentials/" + integration + query(environment)
}

func query(environment string) string {
	if environment == "" {
		return ""
	}
	return "?environment=" + url.QueryEscape(environment)
}

func value(secret string) map[string]any { return map[string]any{"value": secret} }

// scope shows an environment of the wire for messages.
func scope(environment *string) string {
	if environment == nil {
		return "null"
	}
	return *environment
}

// wantsSecret fails the test unless the credential resolves to the secret, from
// that scope.
func wantsSecret(t *testing.T, c *sidecar.Client, path, secret, from string) wire.Resolved {
	t.Helper()
	got := sidecar.Data[wire.Resolved](c.Get(path).Wants(http.StatusOK))
	if got.Value == nil || got.Value.Reveal() != secret {
		t.Errorf("%s does not resolve to the secret that was set", path)
	}
	if scope(got.ResolvedFrom) != from {
		t.Errorf("%s has resolvedFrom %s, want %s", path, scope(got.ResolvedFrom), from)
	}
	return got
}

func TestEnvironmentsInherit(t *testing.T) { onEach(t, testEnvironmentsInherit) }

func testEnvironmentsInherit(t *testing.T, on *sidecar.Binary) {
	c := on.Serve(t).Admin()
	shared := sidecar.Data[wire.SetResult](c.Put(slot("salesforce", ""), value("for all")).Wants(http.StatusCreated))
	production := sidecar.Data[wire.SetResult](c.Put(slot("salesforce", "production"), value("for production")).Wants(http.StatusCreated))
	if shared.ID == production.ID {
		t.Error("the two slots have one credential")
	}
	wantsSecret(t, c, resolve("salesforce", ""), "for all", "null")
	wantsSecret(t, c, resolve("salesforce", "staging"), "for all", "null")
	wantsSecret(t, c, resolve("salesforce", "production"), "for production", "production")
	wantsSecret(t, c, resolve("salesforce", "production")+"&fallback=false", "for production", "production")
	c.Get(resolve("salesforce", "staging")+"&fallback=false").Fails(http.StatusNotFound, "CREDENTIAL_NOT_FOUND")

	wantsSecret(t, c, resolve("salesforce", "preview"), "for all", "null")
	c.Post(slot("salesforce", "development"), value("for development")).Wants(http.StatusCreated)
	wantsSecret(t, c, resolve("salesforce", "preview"), "for development", "development")
	c.Get(resolve("salesforce", "preview")+"&fallback=false").Fails(http.StatusNotFound, "CREDENTIAL_NOT_FOUND")

	entry := sidecar.Data[wire.Integration](c.Get("/v1/integrations/salesforce").Wants(http.StatusOK))
	var configured []string
	for _, at := range entry.ConfiguredIn {
		configured = append(configured, scope(at))
	}
	if diff := cmp.Diff([]string{"development", "production", "null"}, configured); diff != "" {
		t.Errorf("configuredIn (-want +got):\n%s", diff)
	}
}

func TestStatusNeverFallsBack(t *testing.T) { onEach(t, testStatusNeverFallsBack) }

func testStatusNeverFallsBack(t *testing.T, on *sidecar.Binary) {
	c := on.Serve(t).Admin()
	set := c.Put(slot("slack", ""), value("for all")).Wants(http.StatusCreated)
	shared := c.Get(slot("slack", "")).Wants(http.StatusOK)
	if tag := shared.Header.Get("ETag"); tag == "" || tag != set.Header.Get("ETag") {
		t.Error("the status does not have the ETag of the set")
	}
	staging := c.Get(slot("slack", "staging")).Wants(http.StatusOK)
	if got := sidecar.Data[wire.SlotStatus](staging); got.IsConfigured || got.HasCredentials || got.Credential != nil {
		t.Error("staging's own slot is said to hold the shared credential")
	}
	if staging.Header.Get("ETag") != "" {
		t.Error("an empty slot has an ETag")
	}
}

func TestDeleteTouchesOneSlot(t *testing.T) { onEach(t, testDeleteTouchesOneSlot) }

func testDeleteTouchesOneSlot(t *testing.T, on *sidecar.Binary) {
	s := on.Init(t, "--admin-email", "admin@example.com").Start(t)
	c := s.Admin()
	c.Put(slot("salesforce", ""), value("for all")).Wants(http.StatusCreated)
	first := sidecar.Data[wire.SetResult](c.Put(slot("salesforce", "production"), value("old")).Wants(http.StatusCreated))

	answer := c.As("").Do(http.MethodDelete, slot("salesforce", "production"), "{}", "Authorization: "+s.AdminKey).Wants(http.StatusOK)
	var body map[string]any
	answer.Into(&body)
	for member, want := range map[string]any{
		"environment": "production", "integrationId": "salesforce", "success": true,
		"message": "Credentials successfully deleted for the production environment.",
	} {
		if body[member] != want {
			t.Errorf("the body's %s is %v, want %v", member, body[member], want)
		}
	}
	removal := sidecar.Data[wire.Removal](answer)
	if removal.WasNoop || removal.ID != first.ID || removal.DeletedAt == nil {
		t.Error("data does not say which credential was deleted, and when")
	}

	again := c.Delete(slot("salesforce", "production")).Fails(http.StatusConflict, "CREDENTIAL_ALREADY_DELETED")
	at, _ := removal.DeletedAt.MarshalText()
	if want := "The credential was deleted on " + string(at) + " by admin@example.com"; again.Error.Details != want {
		t.Errorf("details are %q, want %q", again.Error.Details, want)
	}
	c.Delete(slot("salesforce", "staging")).Fails(http.StatusNotFound, "CREDENTIAL_NOT_FOUND")
	wantsSecret(t, c, resolve("salesforce", "production"), "for all", "null")

	second := sidecar.Data[wire.SetResult](c.Put(slot("salesforce", "production"), value("new")).Wants(http.StatusCreated))
	if second.ID == first.ID || second.Version != 1 {
		t.Error("setting again did not make a new credential")
	}
	wantsSecret(t, c, resolve("salesforce", "production"), "new", "production")
}

func TestDeleteOfTheSharedSlot(t *testing.T) { onEach(t, testDeleteOfTheSharedSlot) }

func testDeleteOfTheSharedSlot(t *testing.T, on *sidecar.Binary) {
	c := on.Serve(t).Admin()
	c.Put(slot("slack", ""), value("for all")).Wants(http.StatusCreated)
	c.Put(slot("slack", "production"), value("for production")).Wants(http.StatusCreated)
	var body map[string]any
	c.Delete(slot("slack", "")).Wants(http.StatusOK).Into(&body)
	if want := "Credentials successfully deleted for all environments."; body["message"] != want || body["environment"] != nil {
		t.Errorf("the message is %v and the environment %v", body["message"], body["environment"])
	}
	wantsSecret(t, c, resolve("slack", "production"), "for production", "production")
	c.Get(resolve("slack", "staging")).Fails(http.StatusNotFound, "CREDENTIAL_NOT_FOUND")
}

func TestDeleteIfExists(t *testing.T) { onEach(t, testDeleteIfExists) }

func testDeleteIfExists(t *testing.T, on *sidecar.Binary) {
	c := on.Serve(t).Admin()
	path := slot("slack", "staging") + "&ifExists=true"
	wantsNoop := func(want bool) {
		t.Helper()
		if got := sidecar.Data[wire.Removal](c.Delete(path).Wants(http.StatusOK)); got.WasNoop != want {
			t.Errorf("wasNoop is %v, want %v", got.WasNoop, want)
		}
	}
	wantsNoop(true)
	c.Put(slot("slack", "staging"), value("x")).Wants(http.StatusCreated)
	wantsNoop(false)
	wantsNoop(true)
	c.Delete(slot("nosuch", "staging")+"&ifExists=true").Fails(http.StatusNotFound, "INTEGRATION_NOT_FOUND")
}

func TestRotation(t *testing.T) { onEach(t, testRotation) }

func testRotation(t *testing.T, on *sidecar.Binary) {
	c := on.Serve(t).Admin()
	created := c.Put(slot("slack", ""), value("first")).Wants(http.StatusCreated)
	rotated := c.Put(slot("slack", ""), value("second")).Wants(http.StatusOK)
	one, two := sidecar.Data[wire.SetResult](created), sidecar.Data[wire.SetResult](rotated)
	if one.ID != two.ID || one.Version != 1 || two.Version != 2 {
		t.Errorf("versions %d and %d of %s and %s", one.Version, two.Version, one.ID, two.ID)
	}
	wantsSecret(t, c, resolve("slack", ""), "second", "null")
	wantsSecret(t, c, resolve("slack", "")+"?version=1", "first", "null")
	c.Post(slot("slack", ""), value("third")).Wants(http.StatusOK)
	c.Get(resolve("slack", "")+"?version=4").Fails(http.StatusNotFound, "CREDENTIAL_NOT_FOUND")
}

func TestIfMatch(t *testing.T) { onEach(t, testIfMatch) }

func testIfMatch(t *testing.T, on *sidecar.Binary) {
	c := on.Serve(t).Admin()
	old := c.Put(slot("slack", ""), value("first")).Wants(http.StatusCreated).Header.Get("ETag")
	current := c.Put(slot("slack", ""), value("second"), "If-Match: "+old).Wants(http.StatusOK).Header.Get("ETag")
	c.Put(slot("slack", ""), value("third"), "If-Match: "+old).Fails(http.StatusPreconditionFailed, "VERSION_CONFLICT")
	c.Post(slot("slack", ""), value("third"), "If-Match: "+old).Fails(http.StatusPreconditionFailed, "VERSION_CONFLICT")
	c.Delete(slot("slack", ""), "If-Match: "+old).Fails(http.StatusPreconditionFailed, "VERSION_CONFLICT")
	c.Put(slot("slack", "staging"), value("x"), "If-Match: *").Fails(http.StatusPreconditionFailed, "VERSION_CONFLICT")
	c.Put(slot("slack", ""), value("third"), "If-Match: second").Fails(http.StatusBadRequest, "INVALID_REQUEST")
	wantsSecret(t, c, resolve("slack", ""), "second", "null")
	c.Delete(slot("slack", ""), "If-Match: "+current).Wants(http.StatusOK)
}

func TestNamesAreSlotsOfTheirOwn(t *testing.T) { onEach(t, testNamesAreSlotsOfTheirOwn) }

func testNamesAreSlotsOfTheirOwn(t *testing.T, on *sidecar.Binary) {
	c := on.Serve(t).Admin()
	c.Put(slot("sftp", ""), value("default")).Wants(http.StatusCreated)
	c.Put(slot("sftp", ""), map[string]any{"name": "partner", "value": "partner"}).Wants(http.StatusCreated)
	wantsSecret(t, c, resolve("sftp", ""), "default", "null")
	wantsSecret(t, c, resolve("sftp", "staging")+"&name=partner", "partner", "null")
	c.Delete(slot("sftp", "") + "?name=partner").Wants(http.StatusOK)
	wantsSecret(t, c, resolve("sftp", ""), "default", "null")
}

func TestFieldsComeBackAsTheyWere(t *testing.T) { onEach(t, testFieldsComeBackAsTheyWere) }

func testFieldsComeBackAsTheyWere(t *testing.T, on *sidecar.Binary) {
	c := on.Serve(t).Admin()
	fields := map[string]string{"host": "sftp.example.com", "username": "üser", "password": "a \"b\" \\ \u2028 </script> 漢字 😀"}
	c.Put(slot("sftp", "production"), map[string]any{"fields": fields, "labels": map[string]string{"owner": "data"}}).Wants(http.StatusCreated)
	var got struct {
		Data struct{ Fields map[string]string }
	}
	c.Get(resolve("sftp", "production")).Wants(http.StatusOK).Into(&got)
	if !cmp.Equal(fields, got.Data.Fields) {
		t.Error("the fields are not those that were set")
	}
}

func TestBothPrefixesAndTenantHeaders(t *testing.T) { onEach(t, testBothPrefixesAndTenantHeaders) }

func testBothPrefixesAndTenantHeaders(t *testing.T, on *sidecar.Binary) {
	c := on.Serve(t).Admin()
	org := sidecar.Data[wire.Whoami](c.Get("/api/v1/whoami").Wants(http.StatusOK)).Org
	c.Get("/v1/whoami", "X-Tenantid: "+org.ID, "realmname: employees").Wants(http.StatusOK)
	c.Get("/v1/whoami", "X-Tenantid: "+strings.ToUpper(org.ID)).Wants(http.StatusOK)
	c.Get("/v1/whoami", "X-Tenantid: 00000000-0000-4000-8000-000000000000").Fails(http.StatusForbidden, "FORBIDDEN")
	c.Put("/api/v1/integrations/slack/credentials", value("x")).Wants(http.StatusCreated)
	wantsSecret(t, c, "/v1/credentials/slack", "x", "null")
}

func TestRequestIDs(t *testing.T) { onEach(t, testRequestIDs) }

func testRequestIDs(t *testing.T, on *sidecar.Binary) {
	c := on.Serve(t).Admin()
	if got := c.Get("/v1/whoami", "X-Request-Id: mine-1").Header.Get("X-Request-Id"); got != "mine-1" {
		t.Errorf("the request's ID became %q", got)
	}
	for _, bad := range []string{strings.Repeat("x", 129), "caf\u00e9"} {
		got := c.Get("/v1/whoami", "X-Request-Id: "+bad).Header.Get("X-Request-Id")
		if got == "" || got == bad {
			t.Errorf("the ID %q was not replaced", bad)
		}
	}
	f := c.Get("/v1/nosuch").Fails(http.StatusNotFound, "INVALID_REQUEST")
	if f.RequestID == "" {
		t.Error("an unknown path's answer has no request_id")
	}
	c.Post("/v1/whoami", nil).Fails(http.StatusMethodNotAllowed, "INVALID_REQUEST")
}
