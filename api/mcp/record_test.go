package mcp_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/sidevault/sidevault/api/mcp"
)

// records returns the records of tool calls in the log.
func (f *fixture) records() (list []map[string]any) {
	f.t.Helper()
	for line := range strings.Lines(f.logged()) {
		var r map[string]any
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			f.t.Fatal(err)
		}
		if r["msg"] == "tool call" {
			list = append(list, r)
		}
	}
	return list
}

func TestCallsAreRecordedRedacted(t *testing.T) {
	f := newFixture(t)
	s := f.connect(f.caller(f.admin))
	const secret = "SECRETQ7Z9"
	call(t, s, set, args{"integration_key": "salesforce", "environment": "staging", "value": secret})
	call(t, s, set, args{"integration_key": "sftp", "fields": args{"host": secret, "password": secret}})
	call(t, s, set, args{"integration_key": secret, "environment": secret, "name": secret, "value": secret, secret: secret})
	if strings.Contains(f.logged(), secret) {
		t.Error("a secret is in the log")
	}
	records := f.records()
	if len(records) != 3 {
		t.Fatalf("%d records of 3 calls", len(records))
	}
	for i, want := range []struct {
		outcome    string
		parameters map[string]any
	}{
		{"success", map[string]any{"integration_key": "salesforce", "environment": "staging", "value": "<redacted>"}},
		{"success", map[string]any{"integration_key": "sftp", "fields": "<redacted>"}},
		{"invalid_request", map[string]any{"integration_key": "<redacted>", "environment": "<redacted>", "name": "<redacted>", "value": "<redacted>"}},
	} {
		r := records[i]
		got, _ := r["parameters"].(map[string]any)
		if r["outcome"] != want.outcome || r["tool"] != set || r["caller"] != f.admin.Actor.ID || r["request_id"] != "r1" || r["duration"] == nil || len(got) != len(want.parameters) {
			t.Errorf("record %d: %v", i, r)
		}
		for name, value := range want.parameters {
			if got[name] != value {
				t.Errorf("record %d: %s is %v, want %v", i, name, got[name], value)
			}
		}
	}
}

func TestCallsAreCounted(t *testing.T) {
	f := newFixture(t)
	s := f.connect(f.caller(f.admin))
	call(t, s, status, args{"integration_key": "salesforce"})
	call(t, s, status, args{"integration_key": "nosuch"})
	f.exchange(f.caller(f.admin), `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"made_up"}}`)
	families, err := f.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetValue())
			}
			// Labels come in the order of their names: outcome, tool.
			got[strings.Join(append([]string{family.GetName()}, labels...), " ")] = m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	for name, want := range map[string]float64{
		"sidevault_mcp_tool_calls_total success get_integration_status":               1,
		"sidevault_mcp_tool_calls_total integration_not_found get_integration_status": 1,
		"sidevault_mcp_tool_calls_total invalid_request unknown":                      1,
		"sidevault_mcp_tool_duration_seconds get_integration_status":                  2,
	} {
		if got[name] != want {
			t.Errorf("%s is %v, want %v", name, got[name], want)
		}
	}
	for name := range got {
		if strings.Contains(name, "made_up") {
			t.Errorf("a name that a client made up is a label: %s", name)
		}
	}
}

// panicking is a port with a fault in it.
type panicking struct{ mcp.Port }

func (panicking) Words(context.Context) (mcp.Words, error) { panic("SECRETQ7Z9") }

func (panicking) Set(context.Context, mcp.Slot, mcp.Credential) (time.Time, error) {
	panic("SECRETQ7Z9")
}

func TestPanicEndsTheCallAlone(t *testing.T) {
	f := newFixture(t)
	c := f.caller(f.admin)
	c.Port = panicking{c.Port}
	s := f.connect(c)
	if got := call(t, s, set, args{"integration_key": "salesforce", "value": "x"}); got.Code != "internal" || got.Status != 500 {
		t.Errorf("%s %d", got.Code, got.Status)
	}
	if _, err := s.ListTools(t.Context(), nil); err == nil || strings.Contains(err.Error(), "SECRETQ7Z9") {
		t.Errorf("tools/list: %v", err)
	}
	if got := call(t, s, status, args{"integration_key": "salesforce"}); got.failed {
		t.Error("the server does not go on")
	}
	if strings.Contains(f.logged(), "SECRETQ7Z9") || !strings.Contains(f.logged(), "panic while handling a tool call") {
		t.Error("the log has the panic's value, or no word of it")
	}
}

// A message that cannot be read is refused, and the next one is served.
func TestStdioGoesOnAfterBadMessages(t *testing.T) {
	f := newFixture(t)
	answers := f.exchange(f.caller(f.admin),
		`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"SECRETQ7Z9`,
		strings.Repeat("SECRETQ7Z9", 30000),
		"",
		`{"jsonrpc":"2.0","id":2,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}`,
	)
	if len(answers) != 3 || !strings.Contains(answers[2], `"protocolVersion":"2025-11-25"`) {
		t.Errorf("answers: %v", answers)
	}
	if strings.Contains(strings.Join(answers, ""), "SECRETQ7Z9") {
		t.Error("an answer quotes the message")
	}
}
