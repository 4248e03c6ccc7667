package mcp

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
)

// What gets through the screen is a message to the SDK too, and what does not is
// refused without a word of it.
func FuzzScreen(f *testing.F) {
	for _, seed := range []string{
		`{"jsonrpc":"2.0","id":1,"method":"ping"}`,
		`{"jsonrpc":"2.0","id":"a","method":"tools/call","params":{"name":"list_environments","arguments":{"x":1}}}`,
		`{"jsonrpc":"2.0","method":"notifications/initialized"}`,
		`[{"jsonrpc":"2.0","id":1,"method":"ping"}]`,
		`{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}`,
		"{\"a\":\"\xff\"}", `{"id":null}`, `nul`, ``,
	} {
		f.Add([]byte(seed))
	}
	s := New(Config{Logger: slog.New(slog.DiscardHandler)})
	f.Fuzz(func(t *testing.T, raw []byte) {
		m, err := s.screen(raw)
		if err != nil {
			bad, ok := err.(*refused)
			if !ok {
				t.Fatalf("refused with %T", err)
			}
			if _, err := jsonrpc.DecodeMessage(bad.encode()); bad.id != nil && err != nil || !json.Valid(bad.encode()) {
				t.Fatalf("the refusal is no message: %s", bad.encode())
			}
			return
		}
		decoded, err := jsonrpc.DecodeMessage(m.text)
		if err != nil {
			t.Fatalf("the SDK cannot read %q", m.text)
		}
		if r := decoded.(*jsonrpc.Request); r.Method != m.method || r.IsCall() != methods[m.method] {
			t.Fatalf("the SDK reads another message: %q", m.text)
		}
	})
}

// Every parameter that takes a secret is declared to.
func TestSecretsAreDeclared(t *testing.T) {
	for _, tool := range table() {
		for _, p := range tool.params {
			if secret := p.kind == opaque || p.kind == fields; secret != p.sensitive {
				t.Errorf("%s: %s is sensitive: %v", tool.name, p.name, p.sensitive)
			}
		}
		if tool.admin != strings.HasPrefix(tool.name, adminPrefix) {
			t.Errorf("%s: admin is %v", tool.name, tool.admin)
		}
	}
}

func TestStrike(t *testing.T) {
	long := strings.Repeat("Zq9/", 40)
	f := &Failure{Message: `unknown "` + clipped(long) + `…" and prodution`, Details: "field A1B2C3D4E5 is sesame"}
	f.strike([]byte(`{"environment":"prodution","name":"` + long + `","fields":{"A1B2C3D4E5":"sesame"}}`))
	odd := &Failure{Message: fmt.Sprintf("unknown %q", "\"<é\\ abc>")}
	odd.strike([]byte(`{"environment":"\"<é\\ a\nbc>"}`))
	if odd.Message != `unknown "<redacted>"` {
		t.Error(odd.Message)
	}
	if f.Message != `unknown "<redacted>…" and prodution` || f.Details != "field <redacted> is <redacted>" {
		t.Errorf("%s: %s", f.Message, f.Details)
	}
}
