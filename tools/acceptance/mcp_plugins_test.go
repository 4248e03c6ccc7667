package acceptance

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/sidevault/sidevault/api/wire"
	"github.com/sidevault/sidevault/tools/acceptance/sidecar"
)

// TestMCPPluginSteps follows the steps of both documents that plugins take part in:
// a validator's rejection leaves the row intact, a failed sync is surfaced on set and
// swallowed on remove.
func TestMCPPluginSteps(t *testing.T) {
	t.Parallel()
	eachTransport(t, func(t *testing.T, connect func(*sidecar.Sidecar, string) *agent) {
		other := newSystem(t)
		v := binary.Init(t)
		catalog := fmt.Sprintf("integrations:\n  - key: acme\n    validators: [{plugin: trial, config: {prefix: good-}}]\n"+
			"    syncers: [{plugin: carrier, config: {url: %q}, timeout: 3s}]\n", other.URL)
		s := v.Start(t, v.Configure(t, catalog, trial(t), sidecar.Program{Name: "carrier", Path: binary.BuildProgram(t, "./programs/syncer")})...)
		admin, a := s.Admin(), connect(s, s.AdminKey)
		set := func(value string) toolAnswer {
			return a.call(mcpSet, arguments{"integration_key": "acme", "value": value})
		}
		serves := func(value string) {
			t.Helper()
			r := sidecar.Data[wire.Resolved](admin.Get("/v1/credentials/acme").Wants(http.StatusOK))
			if r.Value == nil || r.Value.Reveal() != value {
				t.Error("another value is stored")
			}
		}
		set("good-1").ok()
		if f := set("bad-2").fails(http.StatusBadRequest, "invalid_credentials"); !strings.Contains(f.Message, "a value begins with good-") {
			t.Errorf("the validator's message is %q", f.Message)
		}
		serves("good-1")
		other.answers(always(http.StatusBadGateway))
		if f := set("good-3").fails(http.StatusInternalServerError, "tool_setup_failed"); !strings.Contains(f.Message, "stored") || strings.Contains(f.Message+f.Details, "good-3") {
			t.Errorf("the failed sync is told as %q, %q", f.Message, f.Details)
		}
		serves("good-3")
		other.answers(nil)
		set("good-4").ok()
		other.answers(always(http.StatusBadGateway))
		if got := a.call(mcpRemove, arguments{"integration_key": "acme"}).ok(); got["isConfigured"] != false {
			t.Errorf("the removal answers %v", got)
		}
		waitFor(t, "a failed attempt", func() bool { return syncState(t, admin, "").State == "failing" })
		other.answers(nil)
		waitFor(t, "the removal", func() bool { return syncState(t, admin, "").State == "synced" })
	})
}
