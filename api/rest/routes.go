package rest

import (
	"net/http"
	"strings"
)

// route is one operation of the API.
type route struct {
	method string
	path   string   // in gin's form, below the version prefix unless it is open or MCP's
	query  []string // the parameters that it takes
	open   bool     // answers without authentication, at the root
	do     handler
}

// handler answers an authenticated request that passed every check.
type handler func(*request) (answer, error)

// routes is the API.
func (s *server) routes() []route {
	const (
		integration = "/integrations/:integration"
		slot        = integration + "/credentials"
		credential  = "/credentials/:integration"
		byID        = credential + "/:id"
		rotation    = "/environments/:environment/rotation"
	)
	return []route{
		{http.MethodGet, "/integrations", []string{"category", "environment", "configured"}, false, s.listIntegrations},
		{http.MethodPost, "/integrations", nil, false, s.registerIntegration},
		{http.MethodGet, "/integrations/categories", []string{"environment", "configured"}, false, s.listCategories},
		{http.MethodGet, integration, nil, false, s.getIntegration},
		{http.MethodPatch, integration, nil, false, s.updateIntegration},
		{http.MethodGet, slot, []string{"environment", "name"}, false, s.getStatus},
		{http.MethodPut, slot, []string{"environment", "name"}, false, s.setCredential},
		{http.MethodPost, slot, []string{"environment", "name"}, false, s.setCredential},
		{http.MethodDelete, slot, []string{"environment", "name", "ifExists"}, false, s.removeCredential},
		{http.MethodPost, slot + "/test", []string{"environment", "name"}, false, s.testCredential},
		{http.MethodGet, "/integrations/credentials", listParameters, false, s.listCredentials},
		{http.MethodPost, "/integrations/credentials", nil, false, s.createCredential},
		{http.MethodGet, "/integrations/credentials/:id", nil, false, s.getCredential},
		{http.MethodDelete, "/integrations/credentials/:id", []string{"ifExists"}, false, s.removeSilently},
		{http.MethodPost, "/credentials", nil, false, s.createCredential},
		{http.MethodGet, credential, []string{"environment", "name", "version", "fallback"}, false, s.resolveCredential},
		{http.MethodGet, credential + "/details", []string{"environment", "name", "fallback"}, false, s.getDetails},
		{http.MethodPatch, byID, nil, false, s.updateCredential},
		{http.MethodDelete, byID, []string{"ifExists"}, false, s.removeByID},
		{http.MethodGet, byID + "/versions", nil, false, s.listVersions},
		{http.MethodPost, byID + "/rollback", nil, false, s.rollBack},
		{http.MethodGet, byID + "/usage", nil, false, s.showUsage},
		{http.MethodGet, "/watch", nil, false, s.watch},
		{http.MethodGet, "/environments", nil, false, s.listEnvironments},
		{http.MethodPost, rotation, nil, false, s.startRotation},
		{http.MethodGet, rotation, nil, false, s.showRotation},
		{http.MethodGet, "/keys", nil, false, s.listKeys},
		{http.MethodPost, "/keys", nil, false, s.createKey},
		{http.MethodDelete, "/keys/:id", nil, false, s.revokeKey},
		{http.MethodGet, "/plugins", nil, false, s.listPlugins},
		{http.MethodGet, "/sync", syncParameters, false, s.listSyncs},
		{http.MethodPost, "/sync/retry", nil, false, s.retrySyncs},
		{http.MethodGet, "/audit", auditParameters, false, s.listAudit},
		{http.MethodGet, "/audit/head", []string{"verify"}, false, s.auditHead},
		{http.MethodGet, "/backup", []string{"recipients"}, false, s.backUp},
		{http.MethodGet, "/whoami", nil, false, s.whoami},
		{http.MethodPost, mcpPath, nil, false, s.serveMCP},
		{http.MethodGet, mcpPath, nil, false, s.serveMCP},
		{http.MethodDelete, mcpPath, nil, false, s.serveMCP},
		{http.MethodGet, "/healthz", nil, true, s.health},
		{http.MethodGet, "/readyz", nil, true, s.ready},
		{http.MethodGet, "/metrics", nil, true, s.showMetrics},
		{http.MethodGet, "/openapi.yaml", nil, true, s.showContract},
	}
}

// bases returns the prefixes that the route answers under.
func (r route) bases() []string {
	if r.open || r.path == mcpPath {
		return []string{""}
	}
	return []string{"/v1", "/api/v1"}
}

// Routes returns every operation as the contract names it, such as
// "GET /v1/integrations/{integration}", under the first of its prefixes.
func Routes() []string {
	var names []string
	for _, r := range new(server).routes() {
		segments := strings.Split(r.bases()[0]+r.path, "/")
		for i, s := range segments {
			if name, ok := strings.CutPrefix(s, ":"); ok {
				segments[i] = "{" + name + "}"
			}
		}
		names = append(names, r.method+" "+strings.Join(segments, "/"))
	}
	return names
}
