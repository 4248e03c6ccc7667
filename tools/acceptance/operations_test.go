package acceptance

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sidevault/sidevault/tools/acceptance/sidecar"
)

// operation is a call of one documented operation that would succeed.
type operation struct {
	id           string
	method, path string
	body         any
}

// someKeyID and someID are of nothing.
const (
	someKeyID = "00000000-0000-4000-8000-000000000000"
	someID    = "cred-" + someKeyID
)

func operations() []operation {
	const entry, byID = "/v1/integrations/salesforce", "/v1/credentials/salesforce/" + someID
	newKey := map[string]any{"name": "reader", "scope": "user", "environments": []string{"*"}, "integrations": []string{"*"}}
	return []operation{
		{"listIntegrations", http.MethodGet, "/v1/integrations", nil},
		{"registerIntegration", http.MethodPost, "/v1/integrations", map[string]any{"id": "acme_billing"}},
		{"listCategories", http.MethodGet, "/v1/integrations/categories", nil},
		{"getIntegration", http.MethodGet, entry, nil},
		{"updateIntegration", http.MethodPatch, entry, map[string]any{"enabled": true}},
		{"getSlotStatus", http.MethodGet, entry + "/credentials", nil},
		{"setCredentials", http.MethodPut, entry + "/credentials", value("secret")},
		{"saveCredentials", http.MethodPost, entry + "/credentials", value("secret")},
		{"deleteCredentials", http.MethodDelete, entry + "/credentials", nil},
		{"testCredentials", http.MethodPost, entry + "/credentials/test", value("secret")},
		{"listCredentials", http.MethodGet, "/v1/integrations/credentials", nil},
		{"createIntegrationCredential", http.MethodPost, "/v1/integrations/credentials", newCredential("secret")},
		{"getCredential", http.MethodGet, "/v1/integrations/credentials/" + someID, nil},
		{"deleteIntegrationCredential", http.MethodDelete, "/v1/integrations/credentials/" + someID, nil},
		{"createCredential", http.MethodPost, "/v1/credentials", newCredential("secret")},
		{"resolveCredential", http.MethodGet, "/v1/credentials/salesforce", nil},
		{"getCredentialDetails", http.MethodGet, "/v1/credentials/salesforce/details", nil},
		{"updateCredential", http.MethodPatch, byID, map[string]any{"status": "inactive"}},
		{"deleteCredential", http.MethodDelete, byID, nil},
		{"listVersions", http.MethodGet, byID + "/versions", nil},
		{"rollBackCredential", http.MethodPost, byID + "/rollback", map[string]any{"version": 1}},
		{"getUsage", http.MethodGet, byID + "/usage", nil},
		{"watch", http.MethodGet, "/v1/watch", nil},
		{"listEnvironments", http.MethodGet, "/v1/environments", nil},
		{"startRotation", http.MethodPost, "/v1/environments/staging/rotation", nil},
		{"showRotation", http.MethodGet, "/v1/environments/staging/rotation", nil},
		{"listKeys", http.MethodGet, "/v1/keys", nil},
		{"createKey", http.MethodPost, "/v1/keys", newKey},
		{"revokeKey", http.MethodDelete, "/v1/keys/" + someKeyID, nil},
		{"listPlugins", http.MethodGet, "/v1/plugins", nil},
		{"listSyncs", http.MethodGet, "/v1/sync", nil},
		{"retrySyncs", http.MethodPost, "/v1/sync/retry", map[string]any{}},
		{"listAudit", http.MethodGet, "/v1/audit", nil},
		{"getAuditHead", http.MethodGet, "/v1/audit/head", nil},
		{"getBackup", http.MethodGet, "/v1/backup", nil},
		{"whoami", http.MethodGet, "/v1/whoami", nil},
		{"sendMcpMessage", http.MethodPost, "/mcp", mcpInitialize},
		{"streamMcpSession", http.MethodGet, "/mcp", nil},
		{"endMcpSession", http.MethodDelete, "/mcp", nil},
		{"health", http.MethodGet, "/healthz", nil},
		{"ready", http.MethodGet, "/readyz", nil},
		{"metrics", http.MethodGet, "/metrics", nil},
		{"contract", http.MethodGet, "/openapi.yaml", nil},
	}
}

// answering returns the operations that document an answer with that status.
func answering(status string) []operation {
	ids := document.Answering(status)
	return slices.DeleteFunc(operations(), func(op operation) bool { return !slices.Contains(ids, op.id) })
}

func newCredential(secret string) map[string]any {
	return map[string]any{"integrationId": "salesforce", "value": secret}
}

func (op operation) send(c *sidecar.Client, headers ...string) *sidecar.Answer {
	return c.Do(op.method, op.path, op.body, headers...)
}

func TestOperationsAreAllHere(t *testing.T) {
	var here []string
	for _, op := range operations() {
		here = append(here, op.id)
	}
	slices.Sort(here)
	if diff := cmp.Diff(document.Answering("400"), here); diff != "" {
		t.Errorf("documented operations (-) and the ones here (+) differ:\n%s", diff)
	}
}

func TestEveryOperationChecksItsQuery(t *testing.T) {
	t.Parallel()
	c := binary.Serve(t).Admin()
	for _, op := range operations() {
		op.path += "?nosuch=1"
		f := op.send(c).Fails(http.StatusBadRequest, "INVALID_REQUEST")
		if !strings.Contains(f.Error.Message, "nosuch") {
			t.Errorf("%s: the message does not name the parameter: %s", op.id, f.Error.Message)
		}
	}
}

func TestEveryOperationAuthenticates(t *testing.T) {
	t.Parallel()
	s := binary.Serve(t)
	for _, op := range answering("401") {
		answer := op.send(s.Client(""))
		answer.Fails(http.StatusUnauthorized, "UNAUTHORIZED")
		if answer.Header.Get("WWW-Authenticate") != "Bearer" {
			t.Errorf("%s: no WWW-Authenticate", op.id)
		}
	}
	for _, op := range operations() {
		if !slices.Contains(document.Answering("401"), op.id) {
			op.send(s.Client("")).Wants(http.StatusOK)
		}
	}
}

// TestEveryOperationRefusesBrowsersAndProxies covers a foreign Host (DNS
// rebinding), an Origin (cross-site requests) and forwarded requests.
func TestEveryOperationRefusesBrowsersAndProxies(t *testing.T) {
	t.Parallel()
	c := binary.Serve(t).Admin()
	for _, op := range operations() {
		for _, header := range []string{
			"Host: vault.example.com", "Origin: https://example.com", "Origin: null", "Sec-Fetch-Site: cross-site",
			"X-Forwarded-For: 192.0.2.1", "Forwarded: for=192.0.2.1",
		} {
			op.send(c, header).Fails(http.StatusForbidden, "FORBIDDEN")
		}
	}
	c.Get("/v1/whoami", "Host: localhost").Wants(http.StatusOK)
}

func TestFailedAuthenticationsAreLimited(t *testing.T) {
	t.Parallel()
	s := binary.Serve(t)
	bad := s.Client("svk_" + strings.Repeat("0", 43))
	for range 40 {
		bad.Get("/v1/whoami")
	}
	for _, op := range answering("429") {
		answer := op.send(bad)
		for answer.Status == http.StatusUnauthorized {
			answer = op.send(bad)
		}
		answer.Fails(http.StatusTooManyRequests, "RATE_LIMITED")
	}
	s.Admin().Get("/v1/whoami").Wants(http.StatusOK)
}

func TestAdminOperationsTakeAdminScope(t *testing.T) {
	t.Parallel()
	s := binary.Serve(t)
	user := s.Client(newKey(s.Admin(), "user", []string{"*", "production"}, []string{"*"}))
	for _, id := range []string{
		"registerIntegration", "updateIntegration", "setCredentials", "saveCredentials", "deleteCredentials",
		"listKeys", "createKey", "revokeKey", "listPlugins", "listSyncs", "retrySyncs", "listAudit", "getAuditHead",
		"startRotation", "showRotation", "getBackup",
	} {
		operationNamed(id).send(user).Fails(http.StatusForbidden, "FORBIDDEN_ADMIN_SCOPE")
	}
	user.Get(resolve("salesforce", "")+"?version=1").Fails(http.StatusForbidden, "FORBIDDEN_ADMIN_SCOPE")
	for _, id := range []string{"listIntegrations", "listCategories", "getIntegration", "getSlotStatus", "listEnvironments", "whoami"} {
		operationNamed(id).send(user).Wants(http.StatusOK)
	}
}

func operationNamed(id string) operation {
	all := operations()
	return all[slices.IndexFunc(all, func(op operation) bool { return op.id == id })]
}

func TestBodiesAreBounded(t *testing.T) {
	t.Parallel()
	s := binary.Serve(t)
	canary := newCanary(t, s)
	for _, op := range answering("413") {
		op.body = `{"value":"` + strings.Repeat(canary.secret, 1<<20/len(canary.secret)) + `"}`
		canary.inspect(op.send(s.Admin())).Fails(http.StatusRequestEntityTooLarge, "PAYLOAD_TOO_LARGE")
	}
	canary.absent()
}

func TestWrongTypesAreNamed(t *testing.T) {
	t.Parallel()
	s := binary.Serve(t)
	canary := newCanary(t, s)
	wrong := map[string]any{
		"registerIntegration": map[string]any{"id": []string{canary.secret}},
		"updateIntegration":   map[string]any{"enabled": canary.secret},
		"setCredentials":      map[string]any{"value": []string{canary.secret}},
		"saveCredentials":     map[string]any{"value": "x", "labels": []string{canary.secret}},
		"testCredentials":     map[string]any{"value": []string{canary.secret}},
		"updateCredential":    map[string]any{"expiresAt": canary.secret},
		"rollBackCredential":  map[string]any{"version": canary.secret},
		"createCredential":    map[string]any{"integrationId": "salesforce", "fields": canary.secret},
		"retrySyncs":          map[string]any{"plugin": []string{canary.secret}},
		"createKey":           map[string]any{"name": "x", "scope": "user", "environments": canary.secret, "integrations": []string{"*"}},
	}
	wrong["createIntegrationCredential"] = wrong["createCredential"]
	for _, op := range answering("422") {
		op.body = wrong[op.id]
		f := canary.inspect(op.send(s.Admin())).Fails(http.StatusUnprocessableEntity, "VALIDATION_ERROR")
		if len(f.Detail) != 1 || f.Detail[0].Loc[0] != "body" || f.Detail[0].Type != "wrong_type" {
			t.Errorf("%s: detail is %+v", op.id, f.Detail)
		}
	}
	canary.absent()
}
