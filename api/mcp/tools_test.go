package mcp_test

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/jsonschema-go/jsonschema"
	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sidevault/sidevault/vault"
)

const (
	set    = "admin_set_integration_credentials"
	remove = "admin_remove_integration_credentials"
	status = "get_integration_status"
)

type args map[string]any

// What a model reads, as a person should.
func TestToolsListGolden(t *testing.T) {
	f := newFixture(t)
	for name, c := range map[string]vault.Caller{"admin": f.admin, "user": f.user} {
		list, err := f.connect(f.caller(c)).ListTools(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		got, err := json.MarshalIndent(list.Tools, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		path := "testdata/tools_" + name + ".json"
		if os.Getenv("UPDATE_GOLDEN") != "" {
			if err := os.WriteFile(path, append(got, '\n'), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), string(got)+"\n"); diff != "" {
			t.Errorf("tools/list of a caller of scope %s differs (run UPDATE_GOLDEN=1 go test ./api/mcp):\n%s", name, diff)
		}
		if list.CacheScope != "private" || list.TTLMs != 0 {
			t.Errorf("tools/list may be cached: %s for %d ms", list.CacheScope, list.TTLMs)
		}
	}
}

func TestToolsSetStatusRemove(t *testing.T) {
	f := newFixture(t)
	s := f.connect(f.caller(f.admin))
	schemas := outputs(t, s)
	check := func(tool string, a args, want args) called {
		t.Helper()
		got := call(t, s, tool, a)
		if err := schemas[tool].Validate(got.content); err != nil {
			t.Errorf("%s: the result is not as described: %v", tool, err)
		}
		for name, value := range want {
			if fmt.Sprint(got.content[name]) != fmt.Sprint(value) {
				t.Errorf("%s: %s is %v, want %v", tool, name, got.content[name], value)
			}
		}
		return got
	}
	slot := args{"integration_key": "salesforce", "environment": "staging"}
	first := check(set, args{"integration_key": "salesforce", "environment": "staging", "value": "one"},
		args{"key": "salesforce", "isConfigured": true, "hasCredentials": true, "environment": "staging"})
	if first.content["updatedAt"] == "" || len(first.content) != 5 {
		t.Errorf("set answers %v", first.content)
	}
	check(status, slot, args{"isConfigured": true, "version": 1, "status": "active"})
	check(set, args{"integration_key": "sftp", "fields": args{"host": "h", "password": "p"}}, args{"key": "sftp"})
	check("list_integrations", args{"configured": true}, nil)
	check("list_environments", nil, nil)
	for range 2 {
		got := check(remove, slot, args{"key": "salesforce", "isConfigured": false, "environment": "staging"})
		if len(got.content) != 3 {
			t.Errorf("remove answers %v", got.content)
		}
	}
	check(status, slot, args{"isConfigured": false})
	check(status, args{"integration_key": "nosuch"}, args{"code": "integration_not_found", "status": 404})
	check("admin_list_audit_log", args{"limit": 2}, nil)
}

// outputs resolves the schemas that tools/list gives for results.
func outputs(t *testing.T, s *sdk.ClientSession) map[string]*jsonschema.Resolved {
	t.Helper()
	list, err := s.ListTools(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]*jsonschema.Resolved{}
	for _, tool := range list.Tools {
		text, err := json.Marshal(tool.OutputSchema)
		if err != nil {
			t.Fatal(err)
		}
		var schema jsonschema.Schema
		if err := json.Unmarshal(text, &schema); err != nil {
			t.Fatal(err)
		}
		if all[tool.Name], err = schema.Resolve(nil); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

func TestToolsAreAudited(t *testing.T) {
	f := newFixture(t)
	s := f.connect(f.caller(f.admin))
	call(t, s, set, args{"integration_key": "salesforce", "value": "one"})
	call(t, s, set, args{"integration_key": "salesforce", "value": "two"})
	call(t, s, remove, args{"integration_key": "salesforce"})
	call(t, s, remove, args{"integration_key": "salesforce"})
	call(t, f.connect(f.caller(f.user)), set, args{"integration_key": "salesforce", "value": "three"})
	entries, _, err := f.vault.Audit(t.Context(), f.admin, vault.AuditQuery{Limit: 5})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range slices.Backward(entries) {
		got = append(got, fmt.Sprint(e.Action, " ", e.Outcome, " ", e.TargetType, " ", e.TargetID, " ", e.Source, " ", e.Metadata))
	}
	want := []string{
		"set_integration_credentials success integration salesforce mcp map[wasUpdate:false]",
		"set_integration_credentials success integration salesforce mcp map[wasUpdate:true]",
		"remove_integration_credentials success integration salesforce mcp map[wasNoop:false]",
		"remove_integration_credentials success integration salesforce mcp map[wasNoop:true]",
		"set_integration_credentials forbidden_admin_scope integration salesforce mcp map[]",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the audit log differs (-want +got):\n%s", diff)
	}
}

// A user-scoped caller is told that first, whatever else is wrong.
func TestAdminToolsTakeAdminScope(t *testing.T) {
	f := newFixture(t)
	s := f.connect(f.caller(f.user))
	for _, tool := range []string{set, remove, "admin_list_audit_log"} {
		for _, a := range []args{nil, {"integration_key": "salesforce", "value": "x"}, {"integration_key": "salesforce"}, {"nonsense": 1}, {"integration_key": "salesforce", "environment": "nosuch"}} {
			got := call(t, s, tool, a)
			if got.Code != "forbidden_admin_scope" || got.Status != 403 || got.Message == "" {
				t.Errorf("%s %v: %s %d", tool, a, got.Code, got.Status)
			}
		}
	}
}

func TestBadInputNamesTheParameter(t *testing.T) {
	f := newFixture(t)
	s := f.connect(f.caller(f.admin))
	secret := "SECRET-" + strings.Repeat("q", 12)
	for _, c := range []struct {
		tool  string
		args  args
		names string
	}{
		{set, args{"value": secret}, "integration_key"},
		{set, args{"integration_key": "", "value": secret}, "integration_key"},
		{set, args{"integration_key": 7, "value": secret}, "integration_key"},
		{set, args{"integration_key": nil, "value": secret}, "integration_key"},
		{set, args{"integration_key": strings.Repeat("k", 256), "value": secret}, "integration_key"},
		{set, args{"integration_key": secret + " " + secret, "value": secret}, "integration_key"},
		{set, args{"integration_key": "credentials", "value": secret}, "integration_key"},
		{set, args{"integration_key": "salesforce"}, "value"},
		{set, args{"integration_key": "salesforce", "value": ""}, "value"},
		{set, args{"integration_key": "salesforce", "value": strings.Repeat(secret, 432)}, "value"},
		{set, args{"integration_key": "salesforce", "value": []string{secret}}, "value"},
		{set, args{"integration_key": "salesforce", "value": args{secret: secret}}, "value"},
		{set, args{"integration_key": "salesforce", "value": 12345678901}, "value"},
		{set, args{"integration_key": "salesforce", "value": "a\x00" + secret}, "value"},
		{set, args{"integration_key": "salesforce", "value": secret, "fields": args{"a": secret}}, "fields"},
		{set, args{"integration_key": "salesforce", "fields": args{}}, "fields"},
		{set, args{"integration_key": "salesforce", "fields": secret}, "fields"},
		{set, args{"integration_key": "salesforce", "fields": args{"a": 1}}, "fields"},
		{set, args{"integration_key": "sftp", "fields": args{"host": "h"}}, "password"},
		{set, args{"integration_key": "sftp", "fields": args{"host": "h", "pasword": secret}}, "pasword"},
		{set, args{"integration_key": "sftp", "fields": args{"host": "h", "password": "p", secret: secret}}, "field"},
		{set, args{"integration_key": "salesforce", "value": secret, "environment": ""}, "environment"},
		{set, args{"integration_key": "salesforce", "value": secret, "environment": "prodution"}, "environment"},
		{set, args{"integration_key": "salesforce", "value": secret, "environment": secret}, "environment"},
		{set, args{"integration_key": "salesforce", "value": secret, "environment": nil}, "environment"},
		{set, args{"integration_key": "salesforce", "value": secret, "environment": []string{"staging"}}, "environment"},
		{set, args{"integration_key": "salesforce", "value": secret, "name": " x"}, "name"},
		{set, args{"integration_key": "salesforce", "value": secret, "name": strings.Repeat("n", 129)}, "name"},
		{set, args{"integration_key": "salesforce", "valeu": secret}, "valeu"},
		{set, args{"integration_key": "salesforce", "value": secret, secret: 1}, "parameter"},
		{remove, args{}, "integration_key"},
		{remove, args{"integration_key": "salesforce", "value": secret}, "value"},
		{status, args{"integration_key": "salesforce", "environment": "nosuch"}, "environment"},
		{"list_integrations", args{"configured": "yes"}, "configured"},
		{"list_environments", args{"extra": 1}, "extra"},
		{"admin_list_audit_log", args{"limit": 0}, "limit"},
		{"admin_list_audit_log", args{"limit": 501}, "limit"},
		{"admin_list_audit_log", args{"limit": "5"}, "limit"},
		{"admin_list_audit_log", args{"limit": 1.5}, "limit"},
		{"admin_list_audit_log", args{"cursor": secret}, "cursor"},
		{"admin_list_audit_log", args{"action": "delete_everything"}, "action"},
		{"admin_list_audit_log", args{"outcome": "great"}, "outcome"},
		{"admin_list_audit_log", args{"since": "yesterday"}, "since"},
	} {
		got := call(t, s, c.tool, c.args)
		if got.Code != "invalid_request" || got.Status != 400 || !strings.Contains(got.Message+got.Details, c.names) {
			t.Errorf("%s with a bad %s: %s: %s: %s", c.tool, c.names, got.Code, got.Message, got.Details)
		}
		if strings.Contains(got.text, secret[:12]) {
			t.Errorf("%s with a bad %s quotes a secret", c.tool, c.names)
		}
	}
	if strings.Contains(f.logged(), secret[:12]) {
		t.Error("a secret is in the log")
	}
	for _, key := range []string{"salesforce", "sftp"} {
		if got := call(t, s, status, args{"integration_key": key}); got.content["isConfigured"] != false {
			t.Errorf("%s was stored", key)
		}
	}
}

func TestKindsOfError(t *testing.T) {
	f := newFixture(t)
	s := f.connect(f.caller(f.admin))
	limited := f.admin
	limited.Environments, limited.Integrations = []string{"staging"}, []string{"salesforce"}
	for _, c := range []struct {
		session *sdk.ClientSession
		args    args
		code    string
		status  int
	}{
		{s, args{"integration_key": "closed", "value": "x"}, "integration_disabled", 400},
		{s, args{"integration_key": "nosuch", "value": "x"}, "integration_not_found", 404},
		{f.connect(f.caller(limited)), args{"integration_key": "sftp", "value": "x"}, "forbidden", 403},
		{f.connect(f.caller(limited)), args{"integration_key": "salesforce", "environment": "development", "value": "x"}, "forbidden", 403},
		{f.connect(f.caller(limited)), args{"integration_key": "salesforce", "value": "x"}, "forbidden", 403},
	} {
		if got := call(t, c.session, set, c.args); got.Code != c.code || got.Status != c.status {
			t.Errorf("%v: %s %d, want %s", c.args, got.Code, got.Status, c.code)
		}
	}
}
