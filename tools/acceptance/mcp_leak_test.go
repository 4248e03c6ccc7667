package acceptance

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/sidevault/sidevault/tools/acceptance/sidecar"
)

// TestMCPCanary sends secrets over MCP in every way, proper and improper, and searches
// for them wherever a sidecar writes.
func TestMCPCanary(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"json", "text"} {
		t.Run(format, func(t *testing.T) {
			t.Parallel()
			l := &leaks{secrets: newSecrets(t), s: binary.Init(t).Start(t, "--log-format", format)}
			l.add("admin key", strings.TrimPrefix(l.s.AdminKey, "svk_"))
			ended := listenMCP(t, l.s, l.s.AdminKey)
			l.mcpOverHTTP()
			l.mcpOverStdio()
			l.searchOutputs()
			l.s.Stop()
			<-ended
			l.searchRest()
		})
	}
}

// secretMessages returns messages with secrets in them, all of other ones each time. The
// form of a revision is put around what is read as a message at all.
func (l *leaks) secretMessages(prefix string, wrap func(method, params string) string) []string {
	quoted := func(name string) string {
		text, err := json.Marshal(l.text(prefix + name))
		if err != nil {
			l.t.Fatal(err)
		}
		return string(text)
	}
	core := func(name string) string { return l.core(prefix + name) }
	set := func(args string) string {
		return wrap("tools/call", `"name":"`+mcpSet+`","arguments":{`+args+`}`)
	}
	const key = `"integration_key":"salesforce",`
	return []string{
		set(key + `"value":` + quoted("set")),
		set(key + `"value":` + quoted("rotated")),
		set(`"integration_key":"sftp","fields":{"host":"h","username":` + quoted("username") + `,"password":` + quoted("password") + `}`),
		set(`"integration_key":"sftp","fields":{"host":"h","pasword":` + quoted("unknown field") + `}`),
		set(`"integration_key":"sftp","fields":{"host":"h","` + core("name of a field") + `":"x"}`),
		set(`"integration_key":"sftp","fields":{"host":[` + quoted("field of a wrong type") + `]}`),
		set(key + `"value":"` + strings.Repeat(core("too long"), 400) + `"`),
		set(key + `"value":[` + quoted("in an array") + `]`),
		set(key + `"value":{"a":` + quoted("in an object") + `}`),
		set(key + `"value":` + l.digits(prefix+"a number")),
		set(key + `"value":` + quoted("value and fields") + `,"fields":{"a":"b"}`),
		set(key + `"valeu":` + quoted("unknown parameter")),
		set(key + `"value":"x","` + core("as a parameter") + `":1`),
		set(key + `"value":"x","environment":` + quoted("as an environment")),
		set(key + `"value":"x","environment":"` + core("as a plain environment") + `"`),
		set(key + `"value":` + quoted("for a bad environment") + `,"environment":"prod"`),
		set(key + `"value":"x","name":` + quoted("as a name")),
		set(`"integration_key":` + quoted("as a key") + `,"value":"x"`),
		set(`"integration_key":"` + core("as a plain key") + `","value":"x"`),
		set(`"integration_key":"nosuch","value":` + quoted("for nothing")),
		set(`"value":` + quoted("without a key")),
		wrap("tools/call", `"name":"`+mcpRemove+`","arguments":{`+key+`"value":`+quoted("with a removal")+`}`),
		wrap("tools/call", `"name":"`+mcpStatus+`","arguments":{"integration_key":"`+core("as a key of a status")+`"}`),
		wrap("tools/call", `"name":"`+mcpAudit+`","arguments":{"action":`+quoted("as an action")+`}`),
		wrap("tools/call", `"name":"`+mcpAudit+`","arguments":{"cursor":"`+core("as a cursor")+`"}`),
		wrap("tools/call", `"name":"`+mcpList+`","arguments":{"configured":`+quoted("as a flag")+`}`),
		wrap("tools/call", `"name":`+quoted("as a tool")+`,"arguments":{}`),
		wrap("tools/call", `"name":"`+core("as a plain tool")+`"`),
		wrap("tools/call", `"name":"admin_set_secret","arguments":{"value":`+quoted("for an unknown tool")+`}`),
		wrap("tools/call", `"name":["`+core("as a tool of a wrong type")+`"]`),
		wrap("tools/call", `"name":"`+mcpSet+`","arguments":"`+core("as the arguments")+`"`),
		wrap("tools/call", `"name":"`+mcpSet+`","`+core("beside the arguments")+`":1`),
		wrap("tools/list", `"cursor":`+quoted("as a cursor of tools")),
		wrap("resources/read", `"uri":"sidevault://`+core("as a resource")+`"`),
		wrap("prompts/get", `"name":"`+core("as a prompt")+`"`),
		wrap(core("as a method"), ""),
		`{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"` + mcpSet + `","arguments":{` + key + `"value":"` + core("cut off"),
		`{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"` + mcpSet + `","arguments":{` + key + `"value":` + core("no quotes") + `}}}`,
		`{"jsonrpc":"2.0","id":7,"method":"tools/call","params":"` + core("as params") + `"}`,
		`{"jsonrpc":"2.0","id":["` + core("as an id of a wrong type") + `"],"method":"ping"}`,
		`{"jsonrpc":"` + core("as a version") + `","id":7,"method":"ping"}`,
		`{"jsonrpc":"2.0","id":7,"result":{"value":` + quoted("as a result") + `}}`,
		`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":8,"reason":` + quoted("as a reason") + `}}`,
		`[` + quoted("in a batch") + `]`, quoted("a mere string"), core("no JSON"),
	}
}

// mcpID numbers messages: an ID that is in use is refused.
var mcpID atomic.Int64

func plainMessage(method, params string) string {
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":%q,"params":{%s}}`, 100+mcpID.Add(1), method, params)
}

func modernMessage(method, params string) string {
	const meta = `"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}`
	if params != "" {
		params += ","
	}
	return plainMessage(method, params+meta)
}

// mcpOverHTTP sends the messages in a session, and at the revision without one.
func (l *leaks) mcpOverHTTP() {
	l.t.Helper()
	c := l.admin()
	session := "Mcp-Session-Id: " + openMCP(c)
	c.Post("/mcp", `{"jsonrpc":"2.0","method":"notifications/initialized"}`, session)
	for _, m := range l.secretMessages("in a session: ", plainMessage) {
		c.Post("/mcp", m, session)
	}
	for _, m := range l.secretMessages("without one: ", modernMessage) {
		var named struct {
			Method string
			Params struct{ Name any }
		}
		headers := []string{"Mcp-Protocol-Version: " + mcpModern}
		if json.Unmarshal([]byte(m), &named) == nil {
			headers = append(headers, "Mcp-Method: "+named.Method)
			if name, ok := named.Params.Name.(string); ok && !strings.ContainsAny(name, "\n") {
				headers = append(headers, "Mcp-Name: "+name)
			}
		}
		c.Post("/mcp", m, headers...)
	}
	for _, h := range []string{"Mcp-Session-Id: ", "Mcp-Protocol-Version: ", "Mcp-Name: ", "Last-Event-ID: ", "Accept: text/", "Content-Type: text/"} {
		name, _, _ := strings.Cut(h, ":")
		c.Post("/mcp", mcpPing, session, h+l.core("as the header "+name))
	}
	l.wants("the value that was set last", l.admin("without one: rotated").Get(resolve("salesforce", "")), http.StatusOK)
}

// mcpOverStdio sends the messages to a sidevault mcp. Its standard error is searched as
// its answers are.
func (l *leaks) mcpOverStdio() {
	l.t.Helper()
	lines := append([]string{mcpInitialize, `{"jsonrpc":"2.0","method":"notifications/initialized"}`}, l.secretMessages("over stdio: ", plainMessage)...)
	lines = append(lines, strings.Repeat(l.core("far too long a line"), 20000))
	environ := []string{"SIDEVAULT_ADDR=" + l.s.URL, "SIDEVAULT_TOKEN=" + l.s.AdminKey}
	o := l.run(0, nil, strings.Join(lines, "\n")+"\n", environ, "mcp")
	if n := strings.Count(o.Stdout, "\n"); n < len(lines)-3 {
		l.t.Errorf("%d messages of %d were answered", n, len(lines))
	}
	l.wants("the value that was set last", l.admin("over stdio: set", "over stdio: rotated").Get(resolve("salesforce", "")), http.StatusOK)
}

// A secret that a tool takes is seen by whoever resolves it, and by nobody else.
func TestMCPReturnsNoSecret(t *testing.T) {
	t.Parallel()
	s := binary.Serve(t)
	c := newCanary(t, s)
	a := overHTTP(t, s, s.AdminKey, mcpModern)
	c.search("what set answers", a.call(mcpSet, arguments{"integration_key": "slack", "value": c.secret}).data)
	for _, tool := range []string{mcpStatus, mcpRemove} {
		c.search("what "+tool+" answers", a.call(tool, arguments{"integration_key": "slack"}).data)
	}
	for _, tool := range []string{mcpList, mcpAudit, "list_environments"} {
		c.search("what "+tool+" answers", a.call(tool, nil).data)
	}
	c.absent()
	records := strings.Count(s.Log(), `"msg":"tool call"`)
	if records != 6 || !strings.Contains(s.Log(), `"value":"<redacted>"`) {
		t.Errorf("the log has %d records of 6 tool calls", records)
	}
	metrics := string(sidecar.NewClient(t, s.URL, "", recorder).Get("/metrics").Wants(http.StatusOK).Body)
	for _, want := range []string{
		`sidevault_mcp_tool_calls_total{outcome="success",tool="admin_set_integration_credentials"} 1`,
		`sidevault_mcp_tool_duration_seconds_count{tool="admin_set_integration_credentials"} 1`,
	} {
		if !strings.Contains(metrics, want) {
			t.Errorf("the metrics do not have %s", want)
		}
	}
}
