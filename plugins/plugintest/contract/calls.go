package contract

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/sidevault/sidevault/plugins/pluginpb"
	"github.com/sidevault/sidevault/vault/secret"
)

// verdict is what a program decided: a validator about the credential, a syncer
// about whether it is delivered.
type verdict uint8

const (
	none verdict = iota
	accepted
	refused
)

func (v verdict) String() string { return [...]string{"no verdict", "accepted", "refused"}[v] }

// answer is what came back of a call.
type answer struct {
	verdict verdict
	reasons bool // it says why
	err     error
	said    string // in the error, struck out
}

// String says what was answered, in a report.
func (a answer) String() string {
	if a.err != nil {
		return fmt.Sprintf("no answer (%v: %s)", status.Code(a.err), a.said)
	}
	return a.verdict.String()
}

// change is what a syncer is told of.
type change = pluginpb.SyncRequest_Change

const (
	set    = pluginpb.SyncRequest_CHANGE_SET
	remove = pluginpb.SyncRequest_CHANGE_REMOVE
)

// ask asks about a credential, as a sidecar would before it stores it.
func (b *bench) ask(ctx context.Context, c Credential) answer {
	return b.send(ctx, b.request(c, set))
}

func (b *bench) config(c Credential) string {
	if c.Config != "" {
		return c.Config
	}
	return b.program.Config
}

// request is the message that asks about a credential. Every one is a change of its
// own for a syncer.
func (b *bench) request(c Credential, what change) proto.Message {
	place := &pluginpb.Place{Org: "sidevault-check", Integration: "sidevault-check", Environment: proto.String("development"), Name: "default"}
	fields := make(map[string]string, len(c.Fields))
	for name, v := range c.Fields {
		fields[name] = v.Reveal()
	}
	if b.report.Kind == Validator {
		return &pluginpb.ValidateRequest{Place: place, Fields: fields, AuthType: c.AuthType, Config: b.config(c)}
	}
	r := &pluginpb.SyncRequest{
		Change: what, Place: place, CredentialId: "cred-01890000-0000-7000-8000-000000000000", Version: 1, Fields: fields,
		AuthType: c.AuthType, Config: b.config(c), IdempotencyKey: fmt.Sprintf("%s-%d", b.keys, b.changes.Add(1)), Attempt: 1,
	}
	if what == remove {
		r.Fields = nil
	}
	return r
}

// send sends a message and reads the answer.
func (b *bench) send(ctx context.Context, message proto.Message) answer {
	ctx, cancel := context.WithTimeout(ctx, b.program.Timeout)
	defer cancel()
	if b.report.Kind == Validator {
		var r pluginpb.ValidateResponse
		err := b.process.conn.Invoke(ctx, pluginpb.Validator_Validate_FullMethodName, message, &r)
		return b.validated(&r, err)
	}
	var r pluginpb.SyncResponse
	err := b.process.conn.Invoke(ctx, pluginpb.Syncer_Sync_FullMethodName, message, &r)
	return b.synced(&r, err)
}

func (b *bench) validated(r *pluginpb.ValidateResponse, err error) answer {
	a := answer{err: err, said: b.listen(err), reasons: r.GetMessage() != "" || len(r.GetFieldMessages()) > 0}
	b.heard("the message of an answer", r.GetMessage())
	for _, name := range slices.Sorted(maps.Keys(r.GetFieldMessages())) {
		b.heard("the message about a field", name+": "+r.GetFieldMessages()[name])
	}
	switch r.GetVerdict() {
	case pluginpb.ValidateResponse_VERDICT_VALID:
		a.verdict = accepted
	case pluginpb.ValidateResponse_VERDICT_REJECTED:
		a.verdict = refused
	}
	return a
}

func (b *bench) synced(r *pluginpb.SyncResponse, err error) answer {
	a := answer{err: err, said: b.listen(err), reasons: r.GetMessage() != ""}
	b.heard("the message of an answer", r.GetMessage())
	switch r.GetOutcome() {
	case pluginpb.SyncResponse_OUTCOME_DONE:
		a.verdict = accepted
	case pluginpb.SyncResponse_OUTCOME_FAILED:
		a.verdict = refused
	}
	return a
}

// listen searches the text of an error, and returns it without what it found.
func (b *bench) listen(err error) string {
	if err == nil {
		return ""
	}
	text := status.Convert(err).Message()
	b.heard("the text of an error", text)
	return oneLine(b.struck.Strike(text))
}

// sendBytes sends what may be no message at all.
func (b *bench) sendBytes(ctx context.Context, wire []byte) answer {
	ctx, cancel := context.WithTimeout(ctx, b.program.Timeout)
	defer cancel()
	method := pluginpb.Validator_Validate_FullMethodName
	if b.report.Kind == Syncer {
		method = pluginpb.Syncer_Sync_FullMethodName
	}
	var back []byte
	err := b.process.conn.Invoke(ctx, method, wire, &back, grpc.ForceCodec(bytesCodec{}))
	if b.report.Kind == Validator {
		var r pluginpb.ValidateResponse
		if err == nil {
			err = proto.Unmarshal(back, &r)
		}
		return b.validated(&r, err)
	}
	var r pluginpb.SyncResponse
	if err == nil {
		err = proto.Unmarshal(back, &r)
	}
	return b.synced(&r, err)
}

// bytesCodec sends bytes as they are.
type bytesCodec struct{}

var _ encoding.Codec = bytesCodec{}

func (bytesCodec) Name() string                     { return "proto" }
func (bytesCodec) Marshal(v any) ([]byte, error)    { return v.([]byte), nil }
func (bytesCodec) Unmarshal(p []byte, to any) error { *to.(*[]byte) = slices.Clone(p); return nil }

// samples are credentials to ask about where any will do: those that were given, and
// one that nobody knows.
func (b *bench) samples() []Credential {
	list := append(b.good(), b.bad()...)
	return append(list, Credential{Name: "an unknown credential", Fields: map[string]secret.Value{"value": secret.New(b.canary)}})
}

func (b *bench) good() []Credential { return labelled("good", b.program.Good) }
func (b *bench) bad() []Credential  { return labelled("bad", b.program.Bad) }

// labelled gives each credential a name of its own.
func labelled(what string, list []Credential) []Credential {
	list = slices.Clone(list)
	for i, c := range list {
		list[i].Name = fmt.Sprintf("%s credential %d", what, i+1)
		if c.Name != "" {
			list[i].Name += " (" + c.Name + ")"
		}
	}
	return list
}

// steady asks about a sample, and says what is wrong unless the answer is the one
// that the program gave before, in time.
func (b *bench) steady(ctx context.Context, c Credential) string {
	before := time.Now()
	a := b.ask(ctx, c)
	if wrong := b.fault(a); wrong != "" {
		return wrong
	}
	if first, ok := b.alone[c.Name]; ok && a.err == nil && a.verdict != first {
		return c.Name + " is " + a.verdict.String() + ", and was " + first.String() + " when asked alone"
	}
	if _, ok := b.alone[c.Name]; ok && a.err != nil {
		return "a call that was answered before fails after " + time.Since(before).Round(time.Millisecond).String() + ": " + a.String()
	}
	return ""
}
