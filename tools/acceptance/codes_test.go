package acceptance

import (
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sidevault/sidevault/api/wire"
	"github.com/sidevault/sidevault/tools/acceptance/sidecar"
)

// newKey creates an API key and returns its secret.
func newKey(c *sidecar.Client, scope string, environments, integrations []string) string {
	return createKey(c, map[string]any{"name": scope, "scope": scope, "environments": environments, "integrations": integrations}).Key
}

type createdKey struct{ ID, Key string }

func createKey(c *sidecar.Client, request map[string]any) createdKey {
	return sidecar.Data[createdKey](c.Post("/v1/keys", request).Wants(http.StatusCreated))
}

func TestKeys(t *testing.T) { onEach(t, testKeys) }

func testKeys(t *testing.T, on *sidecar.Binary) {
	s := on.Serve(t)
	c := s.Admin()
	soon := time.Now().Add(2 * time.Second)
	grant := map[string]any{"name": "short", "scope": "user", "environments": []string{"*"}, "integrations": []string{"*"}}
	key := createKey(c, grant)
	grant["expiresAt"] = soon.Format(time.RFC3339Nano)
	expiring := createKey(c, grant)
	c.As(key.Key).Get("/v1/whoami").Wants(http.StatusOK)
	c.As(expiring.Key).Get("/v1/whoami").Wants(http.StatusOK)

	listed := c.Get("/v1/keys").Wants(http.StatusOK)
	if strings.Contains(string(listed.Body), "svk_") {
		t.Error("the list of keys shows a secret")
	}
	c.Delete("/v1/keys/" + key.ID).Wants(http.StatusOK)
	c.Do(http.MethodDelete, "/v1/keys/"+key.ID, "{}").Wants(http.StatusOK)
	c.Delete("/v1/keys/"+someKeyID).Fails(http.StatusNotFound, "KEY_NOT_FOUND")
	revoked := c.As(key.Key).Get("/v1/whoami").Fails(http.StatusUnauthorized, "UNAUTHORIZED")
	time.Sleep(time.Until(soon))
	expired := c.As(expiring.Key).Get("/v1/whoami").Fails(http.StatusUnauthorized, "UNAUTHORIZED")
	unknown := c.As("svk_"+strings.Repeat("0", 43)).Get("/v1/whoami").Fails(http.StatusUnauthorized, "UNAUTHORIZED")
	if revoked.Error != expired.Error || expired.Error != unknown.Error {
		t.Error("the answer tells a revoked, an expired and an unknown key apart")
	}
	c.As("").Get("/v1/whoami", "Authorization: Basic "+s.AdminKey).Fails(http.StatusUnauthorized, "UNAUTHORIZED")
	c.As("").Get("/v1/whoami", "Authorization: "+s.AdminKey).Wants(http.StatusOK)
	c.As("").Get("/v1/whoami", "Authorization: bearer "+s.AdminKey).Wants(http.StatusOK)
	for _, secret := range []string{key.Key, expiring.Key, s.AdminKey} {
		if strings.Contains(s.Log(), secret) {
			t.Error("an API key is in the log")
		}
	}
}

func TestBadKeys(t *testing.T) { onEach(t, testBadKeys) }

func testBadKeys(t *testing.T, on *sidecar.Binary) {
	c := on.Serve(t).Admin()
	for says, change := range map[string]map[string]any{
		`did you mean "production"`: {"environments": []string{"prod"}},
		"user or admin":             {"scope": "root"},
		"name":                      {"name": " x"},
		"e-mail":                    {"email": "nobody"},
		"future":                    {"expiresAt": "2001-01-01T00:00:00Z"},
		"integrations":              {"integrations": []string{}},
	} {
		request := map[string]any{"name": "x", "scope": "user", "environments": []string{"*"}, "integrations": []string{"*"}}
		for member, value := range change {
			request[member] = value
		}
		f := c.Post("/v1/keys", request).Fails(http.StatusBadRequest, "INVALID_REQUEST")
		if !strings.Contains(f.Error.Message+f.Error.Details, says) {
			t.Errorf("the failure does not say %q: %s: %s", says, f.Error.Message, f.Error.Details)
		}
	}
}

func TestMissingMembers(t *testing.T) {
	t.Parallel()
	c := binary.Serve(t).Admin()
	whole := map[string]any{"name": "x", "scope": "user", "environments": []string{"*"}, "integrations": []string{"*"}}
	for member := range whole {
		partial := maps.Clone(whole)
		delete(partial, member)
		c.Post("/v1/keys", partial).Fails(http.StatusUnprocessableEntity, "VALIDATION_ERROR")
	}
	c.Post("/v1/integrations", map[string]any{}).Fails(http.StatusUnprocessableEntity, "VALIDATION_ERROR")
	c.Put(slot("slack", ""), map[string]any{}).Fails(http.StatusUnprocessableEntity, "VALIDATION_ERROR")
}

func TestGrants(t *testing.T) { onEach(t, testGrants) }

func testGrants(t *testing.T, on *sidecar.Binary) {
	c := on.Serve(t).Admin()
	for _, environment := range []string{"", "staging", "production"} {
		c.Put(slot("slack", environment), value("of "+environment)).Wants(http.StatusCreated)
	}
	user := c.As(newKey(c, "user", []string{"*"}, []string{"slack"}))
	wantsSecret(t, user, resolve("slack", "staging"), "of staging", "staging")
	user.Get(resolve("slack", "production")).Fails(http.StatusForbidden, "FORBIDDEN")
	user.Get(slot("slack", "production")).Fails(http.StatusForbidden, "FORBIDDEN")
	user.Get(resolve("sftp", "staging")).Fails(http.StatusForbidden, "FORBIDDEN")
	user.Get("/v1/integrations/sftp").Fails(http.StatusForbidden, "FORBIDDEN")
	user.Get("/v1/integrations?environment=production").Fails(http.StatusForbidden, "FORBIDDEN")

	staging := c.As(newKey(c, "admin", []string{"staging"}, []string{"*"}))
	staging.Put(slot("slack", ""), value("x")).Fails(http.StatusForbidden, "FORBIDDEN")
	staging.Put(slot("slack", "staging"), value("x")).Wants(http.StatusOK)
	staging.Delete(slot("slack", "production")).Fails(http.StatusForbidden, "FORBIDDEN")
	more := map[string]any{"name": "x", "scope": "admin", "environments": []string{"production"}, "integrations": []string{"*"}}
	staging.Post("/v1/keys", more).Fails(http.StatusForbidden, "FORBIDDEN")

	named := c.As(newKey(c, "user", []string{"production"}, []string{"*"}))
	wantsSecret(t, named, resolve("slack", "production"), "of production", "production")
	if got := sidecar.Data[[]wire.Environment](named.Get("/v1/environments")); len(got) != 1 || got[0].Name != "production" {
		t.Errorf("a key for production sees %d environments", len(got))
	}
	checkOutcomes(t, c, "forbidden")
}

// checkOutcomes fails the test unless refused attempts are in the audit log.
func checkOutcomes(t *testing.T, c *sidecar.Client, outcome string) {
	t.Helper()
	entries := sidecar.Data[[]wire.AuditEntry](c.Get("/v1/audit?limit=500&outcome=" + outcome).Wants(http.StatusOK))
	seen := map[string]bool{}
	for _, e := range entries {
		seen[e.Action] = true
	}
	for _, action := range []string{"set_integration_credentials", "read_integration_credentials", "remove_integration_credentials", "create_api_key"} {
		if !seen[action] {
			t.Errorf("no refused %s is in the audit log", action)
		}
	}
}

func TestCatalogEntries(t *testing.T) { onEach(t, testCatalogEntries) }

func testCatalogEntries(t *testing.T, on *sidecar.Binary) {
	c := on.Serve(t).Admin()
	entry := map[string]any{"id": "acme_billing", "name": "Acme billing", "category": "finance", "authTypes": []string{"api_key"}}
	c.Post("/v1/integrations", entry).Wants(http.StatusCreated)
	c.Post("/v1/integrations", entry).Fails(http.StatusConflict, "INTEGRATION_EXISTS")
	c.Post("/v1/integrations", map[string]any{"id": "slack"}).Fails(http.StatusConflict, "INTEGRATION_EXISTS")
	c.Post("/v1/integrations", map[string]any{"id": "categories"}).Fails(http.StatusBadRequest, "INVALID_REQUEST")
	c.Put(slot("acme_billing", ""), value("x")).Wants(http.StatusCreated)

	c.Patch("/v1/integrations/acme_billing", map[string]any{"name": "Billing"}).Wants(http.StatusOK)
	c.Patch("/v1/integrations/slack", map[string]any{"name": "Chat"}).Fails(http.StatusBadRequest, "INVALID_REQUEST")
	c.Patch("/v1/integrations/nosuch", map[string]any{"enabled": false}).Fails(http.StatusNotFound, "INTEGRATION_NOT_FOUND")
	disabled := sidecar.Data[wire.Integration](c.Patch("/v1/integrations/acme_billing", map[string]any{"enabled": false}).Wants(http.StatusOK))
	if disabled.Enabled || disabled.Name != "Billing" || !disabled.Registered {
		t.Error("the entry is not disabled, renamed and registered")
	}
	c.Put(slot("acme_billing", ""), value("y")).Fails(http.StatusBadRequest, "INTEGRATION_DISABLED")
	c.Post(slot("acme_billing", ""), value("y")).Fails(http.StatusBadRequest, "INTEGRATION_DISABLED")
	c.Get(resolve("acme_billing", "")).Fails(http.StatusBadRequest, "INTEGRATION_DISABLED")
	c.Delete(slot("acme_billing", "")).Wants(http.StatusOK)
}

func TestUnknownIntegrations(t *testing.T) { onEach(t, testUnknownIntegrations) }

func testUnknownIntegrations(t *testing.T, on *sidecar.Binary) {
	c := on.Serve(t).Admin()
	for _, a := range []*sidecar.Answer{
		c.Get("/v1/integrations/nosuch"), c.Get(slot("nosuch", "")), c.Get(resolve("nosuch", "")),
		c.Put(slot("nosuch", ""), value("x")), c.Post(slot("nosuch", ""), value("x")), c.Delete(slot("nosuch", "")),
	} {
		a.Fails(http.StatusNotFound, "INTEGRATION_NOT_FOUND")
	}
}

func TestExpiry(t *testing.T) { onEach(t, testExpiry) }

func testExpiry(t *testing.T, on *sidecar.Binary) {
	c := on.Serve(t).Admin()
	soon := time.Now().Add(2 * time.Second)
	c.Put(slot("slack", ""), value("for all")).Wants(http.StatusCreated)
	c.Put(slot("slack", "staging"), map[string]any{"value": "x", "expiresAt": soon.Format(time.RFC3339Nano)}).Wants(http.StatusCreated)
	wantsSecret(t, c, resolve("slack", "staging"), "x", "staging")
	time.Sleep(time.Until(soon))
	c.Get(resolve("slack", "staging")).Fails(http.StatusConflict, "CREDENTIAL_EXPIRED")
	status := sidecar.Data[wire.SlotStatus](c.Get(slot("slack", "staging")))
	if status.Credential == nil || status.Credential.Status != "expired" {
		t.Error("the status is not expired")
	}
	c.Put(slot("slack", "staging"), value("y")).Wants(http.StatusOK)
	wantsSecret(t, c, resolve("slack", "staging"), "y", "staging")
}

func TestLists(t *testing.T) { onEach(t, testLists) }

func testLists(t *testing.T, on *sidecar.Binary) {
	c := on.Serve(t).Admin()
	c.Put(slot("slack", "staging"), value("x")).Wants(http.StatusCreated)
	list := func(query string) []wire.Integration {
		return sidecar.Data[[]wire.Integration](c.Get("/v1/integrations" + query).Wants(http.StatusOK))
	}
	all, configured, without := list(""), list("?configured=true"), list("?configured=false")
	if len(configured) != 1 || len(without) != len(all)-1 || len(list("?environment=production&configured=true")) != 0 {
		t.Errorf("of %d entries %d are configured and %d are not", len(all), len(configured), len(without))
	}
	categories := sidecar.Data[[]wire.Category](c.Get("/v1/integrations/categories").Wants(http.StatusOK))
	n := 0
	for _, category := range categories {
		n += len(category.Integrations)
		if got := list("?category=" + category.Category); len(got) != len(category.Integrations) {
			t.Errorf("category %s has %d entries, or %d", category.Category, len(category.Integrations), len(got))
		}
	}
	if len(all) < 30 || len(categories) < 8 || n != len(all) {
		t.Errorf("%d entries, %d in %d categories", len(all), n, len(categories))
	}
}

func TestAuditPages(t *testing.T) { onEach(t, testAuditPages) }

func testAuditPages(t *testing.T, on *sidecar.Binary) {
	c := on.Serve(t).Admin()
	for _, v := range []string{"a", "b", "c", "d", "e"} {
		c.Put(slot("slack", "staging"), value(v))
	}
	var seen []uint64
	for e := range auditPages(c, "limit=2&action=set_integration_credentials&integration=slack&environment=staging&outcome=success&since=2001-01-01T00:00:00Z") {
		seen = append(seen, e.Seq)
	}
	if len(seen) != 5 {
		t.Fatalf("the pages have the entries %v", seen)
	}
	for i := 1; i < len(seen); i++ {
		if seen[i] >= seen[i-1] {
			t.Errorf("entries %v are not newest first, each once", seen)
		}
	}
	if got := auditOf(c, "set_integration_credentials&until=2001-01-01T00:00:00Z"); len(got) != 0 {
		t.Error("until does not hold")
	}
}
