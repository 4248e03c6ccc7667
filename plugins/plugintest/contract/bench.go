package contract

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sidevault/sidevault/vault/secret"
)

// bench is a program under test.
type bench struct {
	program Program
	dir     string
	process *process
	runs    []*process // all of them
	report  Report
	deaf    bool // it does not answer: asking on would take for ever

	canary  string // the secret of the calls that nobody gave a credential for
	keys    string // what the idempotency keys of this check begin with
	changes atomic.Uint64
	struck  *secret.Striker
	alone   map[string]verdict // what was answered to a sample by itself
	baseErr error              // of the directory

	mu     sync.Mutex
	echoes []string // where a secret was found, struck out
}

// demand is one thing that the contract asks.
type demand struct {
	name   string
	text   string // of the demand, as a sentence about the program
	advice string
	only   Kind // "": both
	always bool // also when the program does not answer
	check  func(context.Context, *bench) outcome
}

// shortestEcho is how long a given value must be to be searched for in what the
// program says: user names like "admin" are in many a text.
const shortestEcho = 8

func newBench(p Program) *bench {
	if p.Timeout == 0 {
		p.Timeout = DefaultTimeout
	}
	// It runs in another folder.
	if path, err := filepath.Abs(p.Path); err == nil {
		p.Path = path
	}
	b := &bench{program: p, canary: "canary" + strings.ToLower(rand.Text()), keys: rand.Text()[:8], alone: map[string]verdict{}}
	b.report.Kind = p.Kind
	secrets := []secret.Value{secret.New(b.canary)}
	for _, c := range append(append([]Credential{}, p.Good...), p.Bad...) {
		for _, v := range c.Fields {
			if v.Len() >= shortestEcho {
				secrets = append(secrets, v)
			}
		}
	}
	b.struck = secret.NewStriker(secrets...)
	b.dir, b.baseErr = os.MkdirTemp("", "sidevault-check-")
	return b
}

func (b *bench) close() {
	for _, r := range b.runs {
		r.stop()
	}
	if b.baseErr == nil {
		os.RemoveAll(b.dir)
	}
}

// start starts the program unless it runs.
func (b *bench) start() error {
	if b.process != nil && !b.process.ended() {
		return nil
	}
	if b.baseErr != nil {
		return b.baseErr
	}
	process, err := start(b.program, b.dir)
	b.runs = append(b.runs, process)
	b.process = process
	if err != nil {
		b.process = nil
		return fmt.Errorf("%s%s", oneLine(b.struck.Strike(err.Error())), lastWords(b.struck.Strike(process.errs.String())))
	}
	return nil
}

// hold holds the program to one demand. One that failed is started afresh for the
// next demand, so that one fault is not reported as many.
func (b *bench) hold(ctx context.Context, d demand) Result {
	r := Result{Name: d.name, Demand: d.text}
	o := b.try(ctx, d)
	r.Status, r.Reason = o.status, b.struck.Strike(o.reason)
	if o.status == Failed {
		r.Advice = d.advice
	}
	return r
}

func (b *bench) try(ctx context.Context, d demand) outcome {
	switch {
	case ctx.Err() != nil:
		return failf("it was interrupted")
	case d.always:
		return d.check(ctx, b)
	case b.deaf:
		return skipf("the program does not run or does not answer")
	}
	if err := b.start(); err != nil {
		b.deaf = true
		return failf("it does not start again: %v", err)
	}
	o := d.check(ctx, b)
	if o.status == Passed && b.ended() {
		o = failf("the program ended%s", lastWords(b.struck.Strike(b.process.errs.String())))
	}
	if o.status == Failed {
		b.process.kill()
	}
	return o
}

// ended gives a process that dies of what it was asked the time to do so.
func (b *bench) ended() bool {
	time.Sleep(10 * time.Millisecond)
	return b.process.ended()
}

// heard searches what the program said for the secrets.
func (b *bench) heard(where, text string) {
	if b.struck.Finds(text) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.echoes = append(b.echoes, fmt.Sprintf("%s: %s", where, oneLine(b.struck.Strike(text))))
	}
}

// fault says what is wrong with an answer that any program must be able to give, ""
// for nothing: an answer without a verdict, or one that did not come.
func (b *bench) fault(a answer) string {
	switch code := status.Code(a.err); {
	case a.err == nil && a.verdict == none:
		return "it answers without a verdict"
	case a.err == nil:
		return ""
	case code == codes.DeadlineExceeded:
		return fmt.Sprintf("no answer within %v", b.program.Timeout)
	case b.ended():
		return "the program ended" + lastWords(b.struck.Strike(b.process.errs.String()))
	}
	return ""
}

// oneLine makes text from elsewhere fit for a report.
func oneLine(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
	r := []rune(strings.TrimSpace(s))
	return string(r[:min(len(r), 300)])
}
