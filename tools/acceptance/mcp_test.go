package acceptance

import (
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sidevault/sidevault/api/mcp"
	"github.com/sidevault/sidevault/api/wire"
	"github.com/sidevault/sidevault/tools/acceptance/sidecar"
)

func TestMCPSetStatusRemove(t *testing.T) {
	t.Parallel()
	eachTransport(t, func(t *testing.T, connect func(*sidecar.Sidecar, string) *agent) {
		s := binary.Serve(t)
		a := connect(s, s.AdminKey)
		at := arguments{"integration_key": "hginsights_v2", "environment": "staging"}
		if got := a.tools(); len(got) != 6 || !slices.Contains(got, mcpSet) {
			t.Errorf("an admin's tools: %v", got)
		}
		a.call(mcpSet, arguments{"integration_key": "hginsights_v2", "environment": "staging", "value": "one"}).ok()
		wantsSecret(t, s.Admin(), resolve("hginsights_v2", "staging"), "one", "staging")
		if got := a.call(mcpStatus, at).ok(); got["isConfigured"] != true || got["version"] != 1.0 {
			t.Errorf("status %v", got)
		}
		// The documents' example, with the environment that was given.
		for range 2 {
			want := map[string]any{"key": "hginsights_v2", "isConfigured": false, "environment": "staging"}
			if diff := cmp.Diff(want, a.call(mcpRemove, at).ok()); diff != "" {
				t.Error(diff)
			}
		}
		if got := a.call(mcpStatus, at).ok(); got["isConfigured"] != false {
			t.Errorf("status %v", got)
		}
		for _, e := range auditOf(s.Admin(), "remove_integration_credentials") {
			if e.Source != "mcp" || e.RequestID == "" {
				t.Errorf("the source is %s, the request %q", e.Source, e.RequestID)
			}
		}
		var list struct{ Integrations []mcp.Integration }
		a.call(mcpList, arguments{"category": "crm"}).into(&list)
		if !slices.ContainsFunc(list.Integrations, func(i mcp.Integration) bool { return i.Key == "salesforce" }) {
			t.Error("salesforce is not in the list")
		}
		var environments struct{ Environments []mcp.Environment }
		a.call("list_environments", nil).into(&environments)
		if len(environments.Environments) != 4 {
			t.Errorf("environments: %v", environments)
		}
		var page mcp.AuditPage
		a.call(mcpAudit, arguments{"limit": 1, "action": "remove_integration_credentials"}).into(&page)
		if len(page.Entries) != 1 || page.NextCursor == "" || page.Entries[0].Metadata["wasNoop"] != true {
			t.Errorf("audit: %+v", page)
		}
		a.call(mcpAudit, arguments{"limit": 1, "action": "remove_integration_credentials", "cursor": page.NextCursor}).into(&page)
		if page.Entries[0].Metadata["wasNoop"] != false {
			t.Errorf("audit: %+v", page)
		}
	})
}

// The steps of the document about setting. Those of the validators and of the syncers
// take plugins.
func TestMCPSetSteps(t *testing.T) {
	t.Parallel()
	c := newCompany(t, binary)
	a := overHTTP(t, c.sidecar, c.keys[admin], mcpModern)
	t.Run("1 the org is the key's", func(t *testing.T) {
		overHTTP(t, c.sidecar, c.keys[stranger], mcpModern).call(mcpSet, arguments{"integration_key": "zoominfo", "value": "x"}).ok()
		if got := a.call(mcpStatus, arguments{"integration_key": "zoominfo"}).ok(); got["isConfigured"] != false {
			t.Error("another org's credential is seen")
		}
	})
	t.Run("2 the catalog entry is there and enabled", func(t *testing.T) {
		a.call(mcpSet, arguments{"integration_key": "nosuch", "value": "x"}).fails(http.StatusNotFound, "integration_not_found")
		c.admin.Patch("/v1/integrations/telegram", map[string]any{"enabled": false}).Wants(http.StatusOK)
		a.call(mcpSet, arguments{"integration_key": "telegram", "value": "x"}).fails(http.StatusBadRequest, "integration_disabled")
	})
	t.Run("4 concurrent sets make one", func(t *testing.T) {
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				if got, err := a.try(mcpSet, arguments{"integration_key": "slack", "environment": "staging", "value": "x"}); err != nil || got.failed {
					t.Errorf("%v %s", err, got.Message)
				}
			})
		}
		wg.Wait()
		if got := flags(c.admin, "set_integration_credentials", "slack", "wasUpdate"); got[false] != 1 || got[true] != 7 {
			t.Errorf("wasUpdate of 8 sets: %v", got)
		}
	})
	t.Run("5 the next call reads the new value", func(t *testing.T) {
		for _, v := range []string{"one", "two"} {
			a.call(mcpSet, arguments{"integration_key": "salesforce", "value": v}).ok()
			wantsSecret(t, c.admin, resolve("salesforce", ""), v, "null")
		}
	})
	t.Run("7 it is audited", func(t *testing.T) {
		a.call(mcpSet, arguments{"integration_key": "hubspot", "value": "x"}).ok()
		a.call(mcpSet, arguments{"integration_key": "hubspot", "value": "y"}).ok()
		if got := flags(c.admin, "set_integration_credentials", "hubspot", "wasUpdate"); got[false] != 1 || got[true] != 1 {
			t.Errorf("wasUpdate: %v", got)
		}
	})
}

// The steps of the document about removing. That of the syncers takes plugins.
func TestMCPRemoveSteps(t *testing.T) {
	t.Parallel()
	c := newCompany(t, binary)
	a := overHTTP(t, c.sidecar, c.keys[admin], mcpModern)
	a.call(mcpSet, arguments{"integration_key": "zoominfo", "value": "x"}).ok()
	t.Run("1 the org is the key's", func(t *testing.T) {
		overHTTP(t, c.sidecar, c.keys[stranger], mcpModern).call(mcpRemove, arguments{"integration_key": "zoominfo"}).ok()
		wantsSecret(t, c.admin, resolve("zoominfo", ""), "x", "null")
	})
	t.Run("2 the catalog entry is there", func(t *testing.T) {
		a.call(mcpRemove, arguments{"integration_key": "nosuch"}).fails(http.StatusNotFound, "integration_not_found")
	})
	t.Run("3 and 5 it is removed, again it is not, and both are audited", func(t *testing.T) {
		for range 2 {
			a.call(mcpRemove, arguments{"integration_key": "zoominfo"}).ok()
			c.admin.Get(resolve("zoominfo", "")).Fails(http.StatusNotFound, "CREDENTIAL_NOT_FOUND")
		}
		if got := flags(c.admin, "remove_integration_credentials", "zoominfo", "wasNoop"); got[false] != 1 || got[true] != 1 {
			t.Errorf("wasNoop: %v", got)
		}
	})
}

// flags counts the values of a flag in the audit entries of successes.
func flags(c *sidecar.Client, action, integration, flag string) map[bool]int {
	counts := map[bool]int{}
	for _, e := range auditOf(c, action) {
		if e.TargetID == integration && e.Outcome == "success" && e.TargetType == "integration" {
			counts[e.Metadata[flag].(bool)]++
		}
	}
	return counts
}

func TestMCPGrants(t *testing.T) {
	t.Parallel()
	c := newCompany(t, binary)
	user := []string{mcpList, mcpStatus, "list_environments"}
	production := arguments{"integration_key": "salesforce", "environment": "production"}
	set := arguments{"integration_key": "salesforce", "environment": "production", "value": "x"}
	for name, connect := range map[string]func(*testing.T, *sidecar.Sidecar, string, string) *agent{"http": overHTTP, "stdio": overStdio} {
		t.Run(name, func(t *testing.T) {
			for _, caller := range []int{reader, stagingReader, slackReader} {
				a := connect(t, c.sidecar, c.keys[caller], mcpModern)
				if diff := cmp.Diff(user, a.tools()); diff != "" {
					t.Errorf("the tools of a %s: %s", callerNames[caller], diff)
				}
				a.call(mcpSet, set).fails(http.StatusForbidden, "forbidden_admin_scope")
				a.call(mcpRemove, production).fails(http.StatusForbidden, "forbidden_admin_scope")
				a.call(mcpAudit, nil).fails(http.StatusForbidden, "forbidden_admin_scope")
				a.call(mcpSet, arguments{"nonsense": true}).fails(http.StatusForbidden, "forbidden_admin_scope")
			}
			connect(t, c.sidecar, c.keys[stagingReader], mcpModern).call(mcpStatus, production).fails(http.StatusForbidden, "forbidden")
			connect(t, c.sidecar, c.keys[slackReader], mcpModern).call(mcpStatus, arguments{"integration_key": "salesforce"}).fails(http.StatusForbidden, "forbidden")
			lesser := connect(t, c.sidecar, c.keys[lesserAdmin], mcpModern)
			lesser.call(mcpSet, set).fails(http.StatusForbidden, "forbidden")
			lesser.call(mcpRemove, production).fails(http.StatusForbidden, "forbidden")
			lesser.call(mcpSet, arguments{"integration_key": "salesforce", "environment": "staging", "value": "x"}).ok()
			var list struct{ Integrations []mcp.Integration }
			connect(t, c.sidecar, c.keys[slackReader], mcpModern).call(mcpList, nil).into(&list)
			if len(list.Integrations) != 1 {
				t.Errorf("a reader of slack sees %d integrations", len(list.Integrations))
			}
		})
	}
	refused := 0
	for _, e := range sidecar.Data[[]wire.AuditEntry](c.admin.Get("/v1/audit?limit=500&outcome=forbidden_admin_scope").Wants(http.StatusOK)) {
		if e.Source == "mcp" && strings.Contains(e.Action, "integration_credentials") {
			refused++
		}
	}
	if refused != 12 {
		t.Errorf("%d refused calls are audited, of 12", refused)
	}
}

// What is wrong with the input is said alike over both transports, by parameter.
func TestMCPBadInput(t *testing.T) {
	t.Parallel()
	eachTransport(t, func(t *testing.T, connect func(*sidecar.Sidecar, string) *agent) {
		s := binary.Serve(t)
		a := connect(s, s.AdminKey)
		const key, ok = "integration_key", "salesforce"
		for _, c := range []struct {
			args  arguments
			names string
		}{
			{arguments{"value": "x"}, key},
			{arguments{key: "", "value": "x"}, key},
			{arguments{key: strings.Repeat("k", 256), "value": "x"}, key},
			{arguments{key: 1, "value": "x"}, key},
			{arguments{key: ok}, "value"},
			{arguments{key: ok, "value": ""}, "value"},
			{arguments{key: ok, "value": strings.Repeat("v", 8193)}, "value"},
			{arguments{key: ok, "value": 1}, "value"},
			{arguments{key: ok, "value": "x", "valeu": "x"}, "valeu"},
			{arguments{key: ok, "value": "x", "environment": "prodution"}, "production"},
			{arguments{key: ok, "value": "x", "environment": ""}, "environment"},
			{arguments{key: "sftp", "fields": arguments{"host": "h"}}, "username"},
		} {
			got := a.call(mcpSet, c.args).fails(http.StatusBadRequest, "invalid_request")
			if !strings.Contains(got.Message+got.Details, c.names) {
				t.Errorf("a bad %s: %s: %s", c.names, got.Message, got.Details)
			}
		}
		for _, entry := range list(s.Admin(), "") {
			t.Errorf("%s was stored", entry.IntegrationID)
		}
		if _, err := a.try("admin_set_nothing", nil); err == nil || strings.Contains(err.Error(), "set_nothing\" is") {
			t.Errorf("an unknown tool: %v", err)
		}
	})
}
