package mcp

import (
	"context"
	std "encoding/json"
	"runtime/debug"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sidevault/sidevault/vault"
	"github.com/sidevault/sidevault/vault/secret"
)

// call runs a tool and records that it did. What goes wrong is part of the result:
// the model that called can see it and do better.
func (s *Server) call(ctx context.Context, c Caller, t tool, raw []byte) *sdk.CallToolResult {
	start := time.Now()
	ctx = &vault.RequestContext{Context: ctx, ID: c.RequestID}
	answer, f := s.run(ctx, c, t, raw)
	outcome := vault.OutcomeSuccess
	if f != nil {
		outcome = f.Code
		f.strike(raw)
		answer = f
	}
	s.record(ctx, c, t, raw, outcome, time.Since(start))
	return result(answer, f != nil)
}

// run does the tool's work. A panic ends the call and not the sidecar; its value is
// not logged, since it could quote what was being handled.
func (s *Server) run(ctx context.Context, c Caller, t tool, raw []byte) (answer any, f *Failure) {
	defer func() {
		if recover() != nil {
			s.log.ErrorContext(ctx, "panic while handling a tool call", "request_id", c.RequestID, "tool", t.name, "stack", string(debug.Stack()))
			answer, f = nil, failure(vault.Internal, "Internal error", "")
		}
	}()
	args, err := t.decode(raw)
	if err == nil {
		answer, err = t.do(ctx, c.Port, args)
	}
	if err == nil {
		return answer, nil
	}
	f = s.explain(ctx, c.RequestID, err)
	if t.admin && f.Code == vault.InvalidRequest.String() {
		return nil, s.refusal(ctx, c, f)
	}
	return nil, f
}

// refusal returns what input that is not valid is refused with by an admin tool: who
// may not call it is told that first.
func (s *Server) refusal(ctx context.Context, c Caller, f *Failure) *Failure {
	switch admin, err := c.Port.Admin(ctx); {
	case err != nil:
		return s.explain(ctx, c.RequestID, err)
	case !admin:
		return forbidden()
	}
	return f
}

// result returns an answer as structured content and, for clients that show text, as
// the same JSON.
func result(answer any, failed bool) *sdk.CallToolResult {
	text, err := json.Marshal(answer, json.Deterministic(true))
	if err != nil {
		// A type of ours that cannot be encoded; its text could quote.
		text, failed = []byte(`{"code":"internal","status":500,"message":"Internal error"}`), true
	}
	return &sdk.CallToolResult{
		Content:           []sdk.Content{&sdk.TextContent{Text: string(text)}},
		StructuredContent: std.RawMessage(text),
		IsError:           failed,
	}
}

// record logs and counts a call.
func (s *Server) record(ctx context.Context, c Caller, t tool, raw []byte, outcome string, took time.Duration) {
	s.metrics.calls.WithLabelValues(t.name, outcome).Inc()
	s.metrics.duration.WithLabelValues(t.name).Observe(took.Seconds())
	s.log.InfoContext(ctx, "tool call", "tool", t.name, "caller", c.ID, "request_id", c.RequestID,
		"duration", took, "outcome", outcome, "parameters", t.redact(raw, outcome == vault.OutcomeSuccess))
}

// redact returns a call's parameters as they may be kept. Of one that was refused,
// nobody has said that what stands in the other parameters is no secret, so only what
// looks like a name is kept.
func (t tool) redact(raw []byte, accepted bool) map[string]string {
	var given map[string]jsontext.Value
	if json.Unmarshal(raw, &given) != nil {
		return nil
	}
	kept := map[string]string{}
	for _, p := range t.params {
		value, ok := given[p.name]
		if !ok {
			continue
		}
		kept[p.name] = secret.Redacted
		var s string
		switch isText := json.Unmarshal(value, &s) == nil; {
		case p.sensitive:
		case accepted && !isText:
			kept[p.name] = string(value)
		case accepted || isText && nameLikeRE.MatchString(s):
			kept[p.name] = s
		}
	}
	return kept
}
