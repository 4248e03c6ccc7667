//go:build linux

package host

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/sidevault/sidevault/plugins/pluginpb"
	"github.com/sidevault/sidevault/vault"
	"github.com/sidevault/sidevault/vault/seal"
	"github.com/sidevault/sidevault/vault/secret"
)

// answering is a connection to a program that answers every call with these bytes.
type answering []byte

func (a answering) Invoke(_ context.Context, _ string, _, reply any, _ ...grpc.CallOption) error {
	return proto.Unmarshal(a, reply.(proto.Message))
}

func (answering) NewStream(context.Context, *grpc.StreamDesc, string, ...grpc.CallOption) (grpc.ClientStream, error) {
	return nil, errors.ErrUnsupported
}

// FuzzAnswers makes calls of a program that answers with anything. Only the verdict
// valid is one, and every text is short, printable and without the secret where it was
// cut.
func FuzzAnswers(f *testing.F) {
	const hidden = "hunter2-hunter2-hunter2"
	for _, m := range []proto.Message{
		&pluginpb.ValidateResponse{Verdict: pluginpb.ValidateResponse_VERDICT_VALID},
		&pluginpb.ValidateResponse{Verdict: pluginpb.ValidateResponse_VERDICT_REJECTED, Message: strings.Repeat("x", longestMessage-3) + hidden, FieldMessages: map[string]string{hidden: "no\x1b[31m"}},
		&pluginpb.ValidateResponse{Verdict: 77}, &pluginpb.SyncResponse{Outcome: pluginpb.SyncResponse_OUTCOME_FAILED, Message: "\u202e", RetryAfterSeconds: 1 << 31}, &pluginpb.SyncResponse{Outcome: -1},
	} {
		text, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Add([]byte{0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f})
	call := vault.PluginCall{Fields: seal.Fields{"value": secret.New(hidden)}}
	f.Fuzz(func(t *testing.T, answer []byte) {
		v := validateCall{call: call}
		reason, err := v.invoke(t.Context(), answering(answer))
		var said pluginpb.ValidateResponse
		valid := proto.Unmarshal(answer, &said) == nil && said.Verdict == pluginpb.ValidateResponse_VERDICT_VALID
		if accepted := err == nil && reason == "" && !v.result.Rejected; accepted != valid {
			t.Errorf("accepted: %v, and the verdict is valid: %v", accepted, valid)
		}
		if len(v.result.Fields) > mostFields {
			t.Errorf("%d fields", len(v.result.Fields))
		}
		for name, text := range v.result.Fields {
			fit(t, name, longestField, hidden)
			fit(t, text, longestMessage, hidden)
		}
		fit(t, v.result.Message, longestMessage, hidden)
		s := syncCall{call: vault.SyncCall{PluginCall: call}}
		if _, err := s.invoke(t.Context(), answering(answer)); err == nil {
			fit(t, s.result.Message, longestMessage, hidden)
			if s.result.RetryAfter < 0 || s.result.RetryAfter > 24*time.Hour {
				t.Errorf("it may be asked again after %s", s.result.RetryAfter)
			}
		}
	})
}

func fit(t *testing.T, text string, most int, hidden string) {
	t.Helper()
	if len(text) > most || !utf8.ValidString(text) || strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
		t.Errorf("a text of %d bytes that is not fit to be shown", len(text))
	}
	// The vault strikes whole secrets out; a piece at the end it would not find.
	for n := len(hidden) - 1; n >= 12; n-- {
		if strings.HasSuffix(text, hidden[:n]) && len(text) > most-len(hidden) {
			t.Error("a piece of the secret is left where the text was cut")
		}
	}
}
