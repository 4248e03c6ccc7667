package mcp

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	sdk "github.com/modelcontextprotocol/go-sdk/mcp"
)

// maxMessage is how many bytes of one message are read.
const maxMessage = 256 << 10

// message is a JSON-RPC request or notification of a client.
type message struct {
	id       jsontext.Value // absent: a notification
	method   string
	revision string // in _meta; "" when not given
	tool     string // with tools/call
	text     []byte // the message as the SDK gets it
}

// methods are those that are served, and whether they are calls.
var methods = map[string]bool{
	"initialize":                       true,
	"ping":                             true,
	"server/discover":                  true,
	"subscriptions/listen":             true,
	"tools/list":                       true,
	"tools/call":                       true,
	"prompts/get":                      true,
	"prompts/list":                     true,
	"resources/list":                   true,
	"resources/read":                   true,
	"resources/templates/list":         true,
	"notifications/initialized":        false,
	"notifications/cancelled":          false,
	"notifications/progress":           false,
	"notifications/roots/list_changed": false,
}

// refused is a message that does not get to the SDK.
type refused struct {
	id   jsontext.Value
	code int64
	msg  string
}

func (r *refused) Error() string { return r.msg }

// encode returns the response that says so. What has no ID of its own is answered
// without one, as MCP has it, where plain JSON-RPC says null.
func (r *refused) encode() []byte {
	id := ""
	if r.id != nil {
		id = fmt.Sprintf(`"id":%s,`, r.id)
	}
	return fmt.Appendf(nil, `{"jsonrpc":"2.0",%s"error":{"code":%d,"message":%q}}`, id, r.code, r.msg)
}

// screen reads a message: one JSON object, UTF-8, no member twice. What it returns for
// the SDK is made anew from the parts that it knows. Its errors quote nothing.
func (s *Server) screen(raw []byte) (message, error) {
	var in struct {
		Version string         `json:"jsonrpc"`
		ID      jsontext.Value `json:"id"`
		Method  *string        `json:"method"`
		Params  jsontext.Value `json:"params"`
	}
	if err := json.Unmarshal(raw, &in); err != nil {
		return message{}, unreadable(err)
	}
	m := message{id: in.ID}
	if k := in.ID.Kind(); in.ID != nil && k != '"' && k != '0' {
		return m, &refused{nil, jsonrpc.CodeInvalidRequest, "the id is neither a string nor a number"}
	}
	if in.Version != "2.0" || in.Method == nil {
		return m, &refused{in.ID, jsonrpc.CodeInvalidRequest, "not a JSON-RPC 2.0 request"}
	}
	m.method = *in.Method
	isCall, known := methods[m.method]
	switch {
	case !known:
		return message{id: in.ID}, &refused{in.ID, jsonrpc.CodeMethodNotFound, "there is no such method here: this server has tools only"}
	case isCall != (in.ID != nil):
		return m, &refused{in.ID, jsonrpc.CodeInvalidRequest, "a request has an id, and a notification has none"}
	}
	return m, s.screenParams(&m, in.Params)
}

// unreadable says that a text is no message. A decoder's own words can quote it.
func unreadable(err error) *refused {
	if _, ok := errors.AsType[*json.SemanticError](err); ok && !errors.Is(err, jsontext.ErrDuplicateName) {
		return &refused{nil, jsonrpc.CodeInvalidRequest, "not a JSON-RPC 2.0 request; batches are not served"}
	}
	return &refused{nil, jsonrpc.CodeParseError, "the message is not valid JSON: one object in UTF-8 with each member once"}
}

// screenParams reads the params and puts the message together again.
func (s *Server) screenParams(m *message, raw jsontext.Value) error {
	bad := func(msg string) error { return &refused{m.id, jsonrpc.CodeInvalidParams, msg} }
	params := map[string]jsontext.Value{}
	if raw != nil && (raw.Kind() != '{' || json.Unmarshal(raw, &params) != nil) {
		return bad("params is not an object")
	}
	if meta, given := params["_meta"]; given {
		if meta.Kind() != '{' {
			return bad("_meta is not an object")
		}
		m.revision = revisionOf(meta)
	}
	if m.method == "tools/call" {
		for name := range params {
			if !slices.Contains([]string{"name", "arguments", "_meta"}, name) {
				delete(params, name)
			}
		}
		if err := json.Unmarshal(params["name"], &m.tool); err != nil || m.tool == "" {
			return bad("name is missing or not a string: it names the tool")
		}
		if args, given := params["arguments"]; given && args.Kind() == 'n' {
			delete(params, "arguments")
		}
		if !s.has(m.tool) {
			s.metrics.calls.WithLabelValues(unknownTool, "invalid_request").Inc()
			return bad("unknown tool: tools/list names the tools")
		}
	}
	return m.compose(params)
}

func (s *Server) has(name string) bool {
	return slices.ContainsFunc(s.tools, func(t tool) bool { return t.name == name })
}

// compose encodes the message.
func (m *message) compose(params map[string]jsontext.Value) error {
	out := struct {
		Version string                    `json:"jsonrpc"`
		ID      jsontext.Value            `json:"id,omitempty"`
		Method  string                    `json:"method"`
		Params  map[string]jsontext.Value `json:"params"`
	}{"2.0", m.id, m.method, params}
	text, err := json.Marshal(out, json.Deterministic(true))
	if err != nil {
		return &refused{m.id, jsonrpc.CodeInvalidRequest, "the message cannot be read"}
	}
	m.text = text
	return nil
}

// revisionOf returns the protocol revision that a request's _meta names.
func revisionOf(meta jsontext.Value) string {
	var known struct {
		Revision string `json:"io.modelcontextprotocol/protocolVersion"`
	}
	if json.Unmarshal(meta, &known) != nil {
		return ""
	}
	return known.Revision
}

// revisionRE is what the name of a revision looks like. One that the client made up is
// named to it.
var revisionRE = regexp.MustCompile(`^v?[0-9][0-9.-]{0,15}$`)

// errorTexts are the words for the SDK's errors. Its own quote what it was sent.
var errorTexts = map[int64]string{
	jsonrpc.CodeParseError:                    "the message is not valid JSON",
	jsonrpc.CodeInvalidRequest:                "invalid request",
	jsonrpc.CodeMethodNotFound:                "there is no such method at this protocol revision",
	jsonrpc.CodeInvalidParams:                 "invalid params",
	jsonrpc.CodeInternalError:                 "internal error",
	sdk.CodeHeaderMismatch:                    "the MCP headers are missing or do not agree with the message",
	sdk.CodeMissingRequiredClientCapabilities: "the client lacks a capability that is required",
	sdk.CodeUnsupportedProtocolVersion:        "unsupported protocol version",
}

// codeFailed is the code of the errors that this package makes behind the SDK: one that
// JSON-RPC leaves to servers and MCP does not use.
const codeFailed = -32050

// bland returns an error that comes from behind the SDK without anything that a client
// sent.
func bland(e *jsonrpc.Error) *jsonrpc.Error {
	if e.Code == codeFailed {
		return e
	}
	text, known := errorTexts[e.Code]
	if !known {
		return &jsonrpc.Error{Code: jsonrpc.CodeInvalidRequest, Message: errorTexts[jsonrpc.CodeInvalidRequest]}
	}
	out := &jsonrpc.Error{Code: e.Code, Message: text}
	if e.Code == sdk.CodeUnsupportedProtocolVersion {
		out.Data = blandVersions(e.Data)
	}
	return out
}

func blandVersions(data []byte) []byte {
	var v sdk.UnsupportedProtocolVersionData
	if json.Unmarshal(data, &v) != nil {
		return nil
	}
	if !revisionRE.MatchString(v.Requested) {
		v.Requested = "unknown"
	}
	text, err := json.Marshal(v)
	if err != nil || strings.Contains(string(text), "null") {
		return nil
	}
	return text
}
