package contract

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/sidevault/sidevault/plugins/pluginpb"
	"github.com/sidevault/sidevault/vault/secret"
)

// recovered reports how the program does after something odd: as before, or not.
func (b *bench) recovered(ctx context.Context, what string) outcome {
	if b.ended() {
		return failf("%s: the program ended%s", what, lastWords(b.struck.Strike(b.process.errs.String())))
	}
	for _, c := range b.samples() {
		if wrong := b.steady(ctx, c); wrong != "" {
			return failf("after %s: %s", what, wrong)
		}
	}
	return pass()
}

func checkUnknownFields(ctx context.Context, b *bench) outcome {
	for _, c := range b.samples() {
		wire, err := proto.Marshal(b.request(c, set))
		if err != nil {
			return failf("%v", err)
		}
		wire = protowire.AppendString(protowire.AppendTag(wire, 1000, protowire.BytesType), "from the future")
		wire = protowire.AppendVarint(protowire.AppendTag(wire, 1001, protowire.VarintType), 7)
		a := b.sendBytes(ctx, wire)
		if wrong := b.fault(a); wrong != "" {
			return failf("%s", wrong)
		}
		if first, ok := b.alone[c.Name]; ok && (a.err != nil || a.verdict != first) {
			return failf("%s: %v, and %v without them", c.Name, a, first)
		}
	}
	return b.recovered(ctx, "unknown fields")
}

func checkEmpty(ctx context.Context, b *bench) outcome {
	var messages []proto.Message
	if b.report.Kind == Validator {
		messages = []proto.Message{
			&pluginpb.ValidateRequest{}, &pluginpb.ValidateRequest{Place: &pluginpb.Place{}, Fields: map[string]string{"": ""}},
			&pluginpb.ValidateRequest{Fields: map[string]string{"value": ""}, Config: "{}"},
		}
	} else {
		messages = []proto.Message{
			&pluginpb.SyncRequest{}, &pluginpb.SyncRequest{Change: set, Place: &pluginpb.Place{}, Fields: map[string]string{"": ""}},
			&pluginpb.SyncRequest{Change: remove, Config: "{}"},
		}
	}
	for _, m := range messages {
		if wrong := b.fault(b.send(ctx, m)); wrong != "" {
			return failf("%s", wrong)
		}
	}
	return b.recovered(ctx, "an empty request")
}

// Limits of a credential, and what a program must bear without them.
const (
	maxFields = 32
	maxField  = 8 << 10
	tooLong   = 64 << 10
)

func checkLong(ctx context.Context, b *bench) outcome {
	many := Credential{Name: "long", Fields: map[string]secret.Value{}}
	for i := range maxFields {
		many.Fields[fmt.Sprintf("field%d", i)] = b.padded(tooLong / maxFields)
	}
	long := []Credential{
		many,
		{Name: "long", Fields: map[string]secret.Value{"value": b.padded(maxField)}},
		{Name: "long", Fields: map[string]secret.Value{"value": b.padded(tooLong)}},
		{Name: "long", Fields: map[string]secret.Value{strings.Repeat("n", maxField): b.padded(16)}},
	}
	return b.survives(ctx, "long values", append(long, b.variants(strings.Repeat("x", maxField))...))
}

// padded is the canary, repeated up to a length.
func (b *bench) padded(length int) secret.Value {
	return secret.New(strings.Repeat(b.canary, length/len(b.canary)+1)[:length])
}

// oddTexts are valid UTF-8, as protocol buffers demand of text.
func oddTexts() []string {
	return []string{
		"\x00", "\r\n\x1b[2J", "\u202e\u2066", "\ufeff", "\ufffd\uffff", "\U0010ffff", "e\u0301\u0323", "👩‍👩‍👧‍👦", "ﷺ", "İıſK",
		"%s%n%d{}$(id)`id`';--\\", " \t ", `"}],"x":{`,
	}
}

func checkOddText(ctx context.Context, b *bench) outcome {
	var odd []Credential
	for _, text := range oddTexts() {
		odd = append(odd, Credential{Name: "odd", Fields: map[string]secret.Value{text: secret.New(b.canary), "value": secret.New(text + b.canary + text)}, AuthType: text})
		odd = append(odd, b.variants(text)...)
	}
	return b.survives(ctx, "odd text", odd)
}

// variants are the given credentials with more behind each value, one value at a
// time: what begins as it should gets further, and must stay unsaid too.
func (b *bench) variants(more string) []Credential {
	var list []Credential
	for _, c := range append(b.good(), b.bad()...) {
		for name, v := range c.Fields {
			list = append(list, c.with(name, secret.New(v.Reveal()+b.canary+more)))
		}
	}
	return list
}

// survives asks about credentials of which only an answer is expected.
func (b *bench) survives(ctx context.Context, what string, list []Credential) outcome {
	for _, c := range list {
		if wrong := b.fault(b.ask(ctx, c)); wrong != "" {
			return failf("%s: %s", what, wrong)
		}
	}
	return b.recovered(ctx, what)
}

func checkNoMessage(ctx context.Context, b *bench) outcome {
	random := make([]byte, tooLong)
	source := rand.New(rand.NewPCG(1, 2))
	for i := range random {
		random[i] = byte(source.Uint32())
	}
	pair := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), "value")
	pair = protowire.AppendBytes(protowire.AppendTag(pair, 2, protowire.BytesType), []byte("\xff\xfe"+b.canary+"\xc3"))
	field := protowire.Number(2)
	if b.report.Kind == Syncer {
		field = 5
	}
	for what, wire := range map[string][]byte{
		"random bytes":             random,
		"a message cut short":      {0x12, 0xff, 0x01, 'x'},
		"an endless number":        []byte(strings.Repeat("\xff", 64)),
		"a value that is no UTF-8": protowire.AppendBytes(protowire.AppendTag(nil, field, protowire.BytesType), pair),
	} {
		a := b.sendBytes(ctx, wire)
		if a.verdict == accepted {
			return failf("%s: accepted", what)
		}
		if wrong := b.fault(a); wrong != "" && a.err != nil {
			return failf("%s: %s", what, wrong)
		}
	}
	return b.recovered(ctx, "bytes that are no message")
}
