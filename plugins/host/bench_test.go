//go:build linux

package host

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/sidevault/sidevault/plugins/pluginpb"
	"github.com/sidevault/sidevault/vault"
)

// BenchmarkValidate compares a call through the host with a bare one to the same
// process over the same connection. The difference is what the host adds.
func BenchmarkValidate(b *testing.B) {
	h, err := New(Config{Programs: []Program{fixtureProgram("p", "serve")}, Supervisor: testSupervisor})
	if err != nil {
		b.Fatal(err)
	}
	defer h.Close(context.Background())
	call := callTo("p", order{})
	if _, err := h.Validate(context.Background(), call); err != nil {
		b.Fatal(err)
	}
	conn := h.programs["p"].members[0].conn
	b.Run("bare", func(b *testing.B) { timed(b, func() error { return bare(conn, call) }) })
	b.Run("host", func(b *testing.B) {
		timed(b, func() error {
			_, err := h.Validate(context.Background(), call)
			return err
		})
	})
}

func bare(conn grpc.ClientConnInterface, c vault.PluginCall) error {
	_, err := pluginpb.NewValidatorClient(conn).Validate(context.Background(), &pluginpb.ValidateRequest{
		Place: place(c), Fields: reveal(c.Fields), AuthType: c.AuthType, Config: string(c.Binding.Config),
	})
	return err
}

// timed reports the median too, which a busy machine disturbs less than the mean.
func timed(b *testing.B, f func() error) {
	b.Helper()
	b.ReportAllocs()
	var took []time.Duration
	for b.Loop() {
		began := time.Now()
		if err := f(); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Nanoseconds()), "median-ns/op")
}

// BenchmarkStart is what the first call waits for.
func BenchmarkStart(b *testing.B) {
	h, err := New(Config{Programs: []Program{fixtureProgram("p", "serve")}, Supervisor: testSupervisor})
	if err != nil {
		b.Fatal(err)
	}
	defer h.Close(context.Background())
	p := h.programs["p"]
	for b.Loop() {
		m, err, _ := p.launch()
		if err != nil {
			b.Fatal(err)
		}
		m.discard()
	}
}

// BenchmarkStrike is a log line of a process that has been given many secrets.
func BenchmarkStrike(b *testing.B) {
	r := newRecent()
	for i := range remembered {
		r.add(callWith(i))
	}
	for name, line := range map[string]string{
		"usual":   "level=info msg=\"asked the provider\" status=200 took=12ms",
		"longest": strings.Repeat("Level=info msg=\"x\" ", longestLine/20),
	} {
		r.strike(line)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				r.strike(line)
			}
		})
	}
}
