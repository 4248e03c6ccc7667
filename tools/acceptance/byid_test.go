package acceptance

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/sidevault/sidevault/api/wire"
	"github.com/sidevault/sidevault/tools/acceptance/sidecar"
)

// createNamed creates a credential of slack in staging.
func createNamed(c *sidecar.Client, name, secret string) wire.Credential {
	return sidecar.Data[wire.Credential](c.Post("/v1/credentials", map[string]any{
		"integrationId": "slack", "environment": "staging", "name": name, "value": secret,
	}).Wants(http.StatusCreated))
}

func atID(c wire.Credential) string { return "/v1/credentials/" + c.IntegrationID + "/" + c.ID }

func TestCreate(t *testing.T) { onEach(t, testCreate) }

func testCreate(t *testing.T, on *sidecar.Binary) {
	c := on.Serve(t).Admin()
	for i, path := range []string{"/v1/credentials", "/v1/integrations/credentials"} {
		name := fmt.Sprint("partner ", i)
		body := map[string]any{
			"integrationId": "sftp", "environment": "staging", "credentialName": name, "authType": "basic",
			"fields": map[string]any{"host": "h", "username": "u", "password": "p"}, "labels": map[string]any{"owner": "data"},
		}
		made := c.Post(path, body).Wants(http.StatusCreated)
		cred := sidecar.Data[wire.Credential](made)
		if cred.Name != name || cred.CredentialName != name || cred.Version != 1 || cred.Labels["owner"] != "data" || made.Header.Get("ETag") == "" {
			t.Errorf("created %+v", cred)
		}
		c.Post(path, body).Fails(http.StatusConflict, "CREDENTIAL_EXISTS")
		c.Post(path, map[string]any{"integrationId": "slack", "value": "x"}, "If-Match: *").Fails(http.StatusPreconditionFailed, "VERSION_CONFLICT")
		c.Post(path, map[string]any{"integrationId": "nosuch", "value": "x"}).Fails(http.StatusNotFound, "INTEGRATION_NOT_FOUND")
		c.Post(path, map[string]any{"value": "x"}).Fails(http.StatusUnprocessableEntity, "VALIDATION_ERROR")
		c.Post(path, map[string]any{"integrationId": "slack", "name": "a", "credentialName": "b", "value": "x"}).Fails(http.StatusBadRequest, "INVALID_REQUEST")
		c.Post(path, map[string]any{"integrationId": "sftp", "value": "x", "authType": "nosuch"}).Fails(http.StatusUnprocessableEntity, "VALIDATION_ERROR")
		shown := sidecar.Data[wire.Credential](c.Get("/v1/integrations/credentials/" + cred.ID).Wants(http.StatusOK))
		details := sidecar.Data[wire.Credential](c.Get("/v1/credentials/sftp/details?environment=staging&name=" + strings.ReplaceAll(name, " ", "%20")).Wants(http.StatusOK))
		if shown.ID != cred.ID || details.ID != cred.ID {
			t.Error("the credential's metadata is another's")
		}
	}
	c.Get("/v1/credentials/sftp/details?environment=staging").Fails(http.StatusNotFound, "CREDENTIAL_NOT_FOUND")
}

func TestSeveralNamedCredentials(t *testing.T) { onEach(t, testSeveralNamedCredentials) }

func testSeveralNamedCredentials(t *testing.T, on *sidecar.Binary) {
	c := on.Serve(t).Admin()
	one, two := createNamed(c, "one", "secret of one"), createNamed(c, "two", "secret of two")
	wantsSecret(t, c, resolve("slack", "staging")+"&name=one", "secret of one", "staging")
	c.Patch(atID(one), map[string]any{"name": "two"}).Fails(http.StatusConflict, "CREDENTIAL_EXISTS")
	c.Delete(atID(two)).Wants(http.StatusOK)
	c.Patch(atID(one), map[string]any{"name": "two"}).Wants(http.StatusOK)
	wantsSecret(t, c, resolve("slack", "staging")+"&name=two", "secret of one", "staging")
	c.Get(resolve("slack", "staging")+"&name=one").Fails(http.StatusNotFound, "CREDENTIAL_NOT_FOUND")
	c.Patch(atID(two), map[string]any{"name": "three"}).Fails(http.StatusNotFound, "CREDENTIAL_NOT_FOUND")
}

func TestUpdate(t *testing.T) { onEach(t, testUpdate) }

func testUpdate(t *testing.T, on *sidecar.Binary) {
	c := on.Serve(t).Admin()
	cred := createNamed(c, "default", "s")
	change := func(body map[string]any) wire.Credential {
		t.Helper()
		return sidecar.Data[wire.Credential](c.Patch(atID(cred), body).Wants(http.StatusOK))
	}
	got := change(map[string]any{"expiresAt": "2999-01-01T00:00:00Z", "labels": map[string]any{"a": "1", "b": "2"}})
	if got.ExpiresAt == nil || len(got.Labels) != 2 || got.Version != 1 {
		t.Errorf("updated %+v", got)
	}
	if got = change(map[string]any{"labels": map[string]any{"b": "3"}}); got.ExpiresAt == nil || len(got.Labels) != 1 {
		t.Errorf("updated %+v", got)
	}
	if got = change(map[string]any{"expiresAt": nil}); got.ExpiresAt != nil || len(got.Labels) != 1 {
		t.Errorf("updated %+v", got)
	}
	if got = change(map[string]any{"labels": map[string]any{}}); len(got.Labels) != 0 {
		t.Errorf("updated %+v", got)
	}
	for says, body := range map[string]map[string]any{
		"Nothing to change": {}, "active or inactive": {"status": "deleted"}, "future": {"expiresAt": "2001-01-01T00:00:00Z"},
		"printable": {"name": " "}, "label": {"labels": map[string]any{"a b": "c"}}, `"value"`: {"value": "s"},
	} {
		a := c.Patch(atID(cred), body)
		if a.Status != badRequest && a.Status != unprocessable || !strings.Contains(string(a.Body), strings.ReplaceAll(says, `"`, `\"`)) {
			t.Errorf("%v answers %d without %q: %s", body, a.Status, says, a.Body)
		}
	}
	wantsSecret(t, c, resolve("slack", "staging"), "s", "staging")
}

func TestDeactivation(t *testing.T) { onEach(t, testDeactivation) }

func testDeactivation(t *testing.T, on *sidecar.Binary) {
	c := on.Serve(t).Admin()
	cred := createNamed(c, "default", "s")
	c.Put(slot("slack", ""), value("for all")).Wants(http.StatusCreated)
	wantsSecret(t, c, resolve("slack", "staging"), "s", "staging")
	for range 3 {
		c.Patch(atID(cred), map[string]any{"status": "inactive"}).Wants(http.StatusOK)
		c.Get(resolve("slack", "staging")).Fails(http.StatusConflict, "CREDENTIAL_INACTIVE")
		c.Post("/v1/integrations/slack/credentials/test?environment=staging", nil).Fails(http.StatusConflict, "CREDENTIAL_INACTIVE")
		if got := sidecar.Data[wire.Credential](c.Get("/v1/credentials/slack/details?environment=staging").Wants(http.StatusOK)); got.Status != "inactive" {
			t.Errorf("the status is %s", got.Status)
		}
		if got := list(c, "?status=inactive"); len(got) != 1 || got[0].ID != cred.ID {
			t.Errorf("%d inactive credentials are listed", len(got))
		}
		c.Patch(atID(cred), map[string]any{"status": "active"}).Wants(http.StatusOK)
		wantsSecret(t, c, resolve("slack", "staging"), "s", "staging")
	}
	if len(list(c, "?status=inactive")) != 0 || len(list(c, "?integration=slack&environment=staging&name=default&status=active")) != 1 {
		t.Error("the filters do not hold")
	}
}

func list(c *sidecar.Client, query string) []wire.Credential {
	return sidecar.Data[[]wire.Credential](c.Get("/v1/integrations/credentials" + query).Wants(http.StatusOK))
}

func TestVersionsAndRollback(t *testing.T) { onEach(t, testVersionsAndRollback) }

func testVersionsAndRollback(t *testing.T, on *sidecar.Binary) {
	c := on.Serve(t).Admin()
	cred := createNamed(c, "default", "value 1")
	for i := 2; i <= 12; i++ {
		c.Put(slot("slack", "staging"), value(fmt.Sprint("value ", i))).Wants(http.StatusOK)
	}
	versions := sidecar.Data[[]wire.Version](c.Get(atID(cred) + "/versions").Wants(http.StatusOK))
	if len(versions) != 10 || versions[0].Version != 12 || !versions[0].Current || versions[9].Version != 3 || versions[9].Current {
		t.Errorf("versions %+v", versions)
	}
	c.Post(atID(cred)+"/rollback", map[string]any{"version": 2}).Fails(http.StatusNotFound, "CREDENTIAL_NOT_FOUND")
	c.Post(atID(cred)+"/rollback", map[string]any{}).Fails(http.StatusUnprocessableEntity, "VALIDATION_ERROR")
	c.Post(atID(cred)+"/rollback", map[string]any{"version": 5}, `If-Match: "1"`).Fails(http.StatusPreconditionFailed, "VERSION_CONFLICT")
	rolled := sidecar.Data[wire.Credential](c.Post(atID(cred)+"/rollback", map[string]any{"version": 5}).Wants(http.StatusOK))
	if rolled.Version != 13 || rolled.ID != cred.ID {
		t.Errorf("rolled back to %+v", rolled)
	}
	wantsSecret(t, c, resolve("slack", "staging"), "value 5", "staging")
	wantsSecret(t, c, resolve("slack", "staging")+"&version=12", "value 12", "staging")
	c.Get(resolve("slack", "staging")+"&version=3").Fails(http.StatusNotFound, "CREDENTIAL_NOT_FOUND")
}

func TestUsage(t *testing.T) { onEach(t, testUsage) }

func testUsage(t *testing.T, on *sidecar.Binary) {
	c := on.Serve(t).Admin()
	cred := createNamed(c, "default", "s")
	usage := func() wire.Usage {
		return sidecar.Data[wire.Usage](c.Get(atID(cred) + "/usage").Wants(http.StatusOK))
	}
	if got := usage(); got.Reads != 0 || len(got.Consumers) != 0 || got.CredentialID != cred.ID {
		t.Errorf("usage %+v", got)
	}
	reader := createKey(c, map[string]any{"name": "reader", "scope": "user", "environments": []string{"staging"}, "integrations": []string{"slack"}})
	for range 3 {
		wantsSecret(t, c.As(reader.Key), resolve("slack", "staging"), "s", "staging")
	}
	wantsSecret(t, c, resolve("slack", "staging"), "s", "staging")
	const list = "/v1/integrations/credentials?integration=slack"
	if listed := sidecar.Data[[]wire.Credential](c.Get(list + "&usage=true").Wants(http.StatusOK)); len(listed) != 1 || listed[0].LastReadAt == nil {
		t.Errorf("listed with usage: %+v", listed)
	}
	if listed := sidecar.Data[[]wire.Credential](c.Get(list).Wants(http.StatusOK)); len(listed) != 1 || listed[0].LastReadAt != nil {
		t.Errorf("listed without usage: %+v", listed)
	}
	c.As(reader.Key).Get(list+"&usage=true").Fails(http.StatusForbidden, "FORBIDDEN_ADMIN_SCOPE")
	got := usage()
	if got.Reads != 4 || len(got.Consumers) != 2 {
		t.Fatalf("usage %+v", got)
	}
	for _, by := range got.Consumers {
		if want := map[bool]int{true: 3, false: 1}[by.ID == reader.ID]; by.Reads != want || by.Kind != "api_key" {
			t.Errorf("%+v", by)
		}
	}
	removal := sidecar.Data[wire.Removal](c.Delete(atID(cred)).Wants(http.StatusOK))
	if removal.ConsumersAffected == nil || *removal.ConsumersAffected != 2 || *removal.IntegrationsAffected != 1 {
		t.Errorf("the removal concerns %+v", removal)
	}
	if usage().Reads != 4 {
		t.Error("the usage of a deleted credential is gone")
	}
}

func TestChecksWithoutStoring(t *testing.T) { onEach(t, testChecksWithoutStoring) }

func testChecksWithoutStoring(t *testing.T, on *sidecar.Binary) {
	s := on.Serve(t)
	c, canary := s.Admin(), newCanary(t, s)
	const path = "/v1/integrations/sftp/credentials/test"
	canary.inspect(c.Post(path, value(canary.secret))).Wants(http.StatusOK)
	canary.inspect(c.Post(path, map[string]any{"fields": map[string]any{"pasword": canary.secret}})).Fails(unprocessable, validationError)
	c.Post(path, nil).Fails(http.StatusNotFound, "CREDENTIAL_NOT_FOUND")
	c.Post("/v1/integrations/nosuch/credentials/test", value("x")).Fails(http.StatusNotFound, "INTEGRATION_NOT_FOUND")
	if len(list(c, "")) != 0 {
		t.Error("something was stored")
	}
	c.Put("/v1/integrations/sftp/credentials", value(canary.secret)).Wants(http.StatusCreated)
	for _, body := range []any{nil, "{}"} {
		canary.inspect(c.Post(path, body)).Wants(http.StatusOK)
	}
	c.Patch("/v1/integrations/sftp", map[string]any{"enabled": false}).Wants(http.StatusOK)
	c.Post(path, nil).Fails(http.StatusBadRequest, "INTEGRATION_DISABLED")
	canary.absent()
}

func TestRemovalsByID(t *testing.T) { onEach(t, testRemovalsByID) }

func testRemovalsByID(t *testing.T, on *sidecar.Binary) {
	c := on.Serve(t).Admin()
	for path, status := range map[string]int{"/v1/credentials/slack/": http.StatusOK, "/v1/integrations/credentials/": http.StatusNoContent} {
		cred := createNamed(c, "default", "s")
		at := path + cred.ID
		c.Delete(at, `If-Match: "1"`).Fails(http.StatusPreconditionFailed, "VERSION_CONFLICT")
		c.Do(http.MethodDelete, at, `{"a":1}`).Fails(http.StatusBadRequest, "INVALID_REQUEST")
		c.Do(http.MethodDelete, at, `{}`, "If-Match: *").Wants(status)
		c.Delete(at).Fails(http.StatusConflict, "CREDENTIAL_ALREADY_DELETED")
		c.Delete(at + "?ifExists=true").Wants(status)
		c.Delete(path+someID).Fails(http.StatusNotFound, "CREDENTIAL_NOT_FOUND")
		c.Delete(path + someID + "?ifExists=true").Wants(status)
	}
	// Under another integration an ID is that of nothing.
	cred := createNamed(c, "default", "s")
	other := "/v1/credentials/sftp/" + cred.ID
	c.Delete(other).Fails(http.StatusNotFound, "CREDENTIAL_NOT_FOUND")
	if got := sidecar.Data[wire.Removal](c.Delete(other + "?ifExists=true").Wants(http.StatusOK)); !got.WasNoop {
		t.Errorf("removed %+v", got)
	}
	wantsSecret(t, c, resolve("slack", "staging"), "s", "staging")
}

func TestNothingByID(t *testing.T) { onEach(t, testNothingByID) }

func testNothingByID(t *testing.T, on *sidecar.Binary) {
	c := on.Serve(t).Admin()
	for _, op := range operations() {
		if strings.Contains(op.path, someID) {
			op.send(c).Fails(http.StatusNotFound, "CREDENTIAL_NOT_FOUND")
			op.path = strings.ReplaceAll(op.path, someID, "cred-1")
			op.send(c).Fails(http.StatusBadRequest, "INVALID_REQUEST")
		}
	}
}

func TestConcurrentUpdates(t *testing.T) { onEach(t, testConcurrentUpdates) }

func testConcurrentUpdates(t *testing.T, on *sidecar.Binary) {
	const writers = 20
	c := on.Serve(t).Admin()
	cred := createNamed(c, "default", "s")
	tag := c.Get("/v1/integrations/credentials/" + cred.ID).Wants(http.StatusOK).Header.Get("ETag")
	answers := make([]*sidecar.Answer, writers)
	var wg sync.WaitGroup
	for i := range writers {
		wg.Go(func() {
			body := map[string]any{"labels": map[string]any{"writer": fmt.Sprint(i)}}
			answers[i], _ = c.Try(http.MethodPatch, atID(cred), body, "If-Match: "+tag)
		})
	}
	wg.Wait()
	won := ""
	for i, a := range answers {
		switch {
		case a == nil:
			t.Fatal("an update was not answered")
		case a.Status == http.StatusOK:
			won += fmt.Sprint(i)
		default:
			a.Fails(http.StatusPreconditionFailed, "VERSION_CONFLICT")
		}
	}
	if got := sidecar.Data[wire.Credential](c.Get("/v1/integrations/credentials/" + cred.ID)); won == "" || got.Labels["writer"] != won {
		t.Errorf("writers %q won, and the label is of %q", won, got.Labels["writer"])
	}
}
