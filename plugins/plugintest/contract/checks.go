package contract

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// checkAnswers asks about each sample by itself, and keeps the verdicts to compare
// later ones with.
func checkAnswers(ctx context.Context, b *bench) outcome {
	for _, c := range b.samples() {
		a := b.ask(ctx, c)
		wrong := b.fault(a)
		if status.Code(a.err) == codes.Unimplemented {
			wrong = "the service is not implemented"
		}
		if wrong != "" {
			b.deaf = true
			return failf("%s: %s", c.Name, wrong)
		}
		if a.err == nil {
			b.alone[c.Name] = a.verdict
		}
	}
	return pass()
}

func checkGood(ctx context.Context, b *bench) outcome { return b.decide(ctx, b.good(), accepted) }
func checkBad(ctx context.Context, b *bench) outcome  { return b.decide(ctx, b.bad(), refused) }

// decide asks about credentials whose verdict is known. A bad one must not be
// accepted; that nobody could tell will do for a syncer, whose failures are errors.
func (b *bench) decide(ctx context.Context, list []Credential, want verdict) outcome {
	if len(list) == 0 {
		return skipf("none are given")
	}
	for _, c := range list {
		a := b.ask(ctx, c)
		if a.verdict != want && (want == accepted || b.report.Kind == Validator || a.err == nil) {
			return failf("%s: %v", c.Name, a)
		}
	}
	return pass()
}

func checkReasons(ctx context.Context, b *bench) outcome {
	seen := false
	for _, c := range b.samples() {
		a := b.ask(ctx, c)
		if a.err != nil || a.verdict != refused {
			continue
		}
		if seen = true; !a.reasons {
			return failf("%s is refused without a message", c.Name)
		}
	}
	if !seen {
		return skipf("it refused nothing that it was asked about: give a credential that is bad")
	}
	return pass()
}

// checkRemoval removes what checkGood has set, twice.
func checkRemoval(ctx context.Context, b *bench) outcome {
	for i := range 2 {
		for _, c := range b.samples() {
			if wrong := b.fault(b.send(ctx, b.request(c, remove))); wrong != "" {
				return failf("%s: %s", c.Name, wrong)
			}
		}
		for _, c := range b.good() {
			if a := b.send(ctx, b.request(c, remove)); a.verdict != accepted {
				return failf("removal %d of %s: %v", i+1, c.Name, a)
			}
		}
	}
	if len(b.program.Good) == 0 {
		return skipf("it answers; whether it removes anything shows only with a credential that is good")
	}
	return pass()
}

func checkRepetition(ctx context.Context, b *bench) outcome {
	if len(b.program.Good) == 0 {
		return skipf("no good credentials are given")
	}
	for _, c := range b.good() {
		delivery := b.request(c, set)
		for i := range 3 {
			if a := b.send(ctx, delivery); a.verdict != accepted {
				return failf("%s, delivery %d: %v", c.Name, i+1, a)
			}
		}
	}
	return pass()
}

func checkUnknownChange(ctx context.Context, b *bench) outcome {
	for _, unknown := range []change{0, 99} {
		for _, c := range b.samples() {
			if a := b.send(ctx, b.request(c, unknown)); a.verdict == accepted {
				return failf("it says that the change %d is done", unknown)
			}
		}
	}
	return pass()
}

// atOnce is how many calls a sidecar makes at the same time.
const atOnce = 16

func checkConcurrency(ctx context.Context, b *bench) outcome {
	for range 3 {
		if wrong := b.together(ctx); wrong != "" {
			return failf("%s", wrong)
		}
	}
	return pass()
}

func (b *bench) together(ctx context.Context) (wrong string) {
	samples := b.samples()
	found := make(chan string, atOnce)
	var calls sync.WaitGroup
	for i := range atOnce {
		calls.Go(func() { found <- b.steady(ctx, samples[i%len(samples)]) })
	}
	calls.Wait()
	close(found)
	for f := range found {
		if f != "" {
			wrong = fmt.Sprintf("of %d calls at once: %s", atOnce, f)
		}
	}
	return wrong
}

// checkCancellation cannot see whether a call goes on after it was given up: only
// whether what it does then gets into the way of others.
func checkCancellation(ctx context.Context, b *bench) outcome {
	for _, after := range []time.Duration{0, time.Millisecond, 20 * time.Millisecond} {
		b.abandon(ctx, after)
		for _, c := range b.samples() {
			if wrong := b.steady(ctx, c); wrong != "" {
				return failf("after %d calls that were given up: %s", 2*atOnce, wrong)
			}
		}
	}
	if wrong := b.together(ctx); wrong != "" {
		return failf("after calls that were given up: %s", wrong)
	}
	return pass()
}

// abandon makes calls and gives them up, one half by cancelling, the other by a
// deadline.
func (b *bench) abandon(ctx context.Context, after time.Duration) {
	samples := b.samples()
	early, cancel := context.WithCancel(ctx)
	late, stop := context.WithTimeout(ctx, after)
	defer stop()
	var calls sync.WaitGroup
	for i := range 2 * atOnce {
		of := early
		if i%2 == 1 {
			of = late
		}
		calls.Go(func() { b.ask(of, samples[i%len(samples)]) })
	}
	time.Sleep(after)
	cancel()
	calls.Wait()
}

// brokenConfigs are not JSON objects.
func brokenConfigs() []string { return []string{"{", "[]", "null", `"text"`, "{} {}", "\x01"} }

func checkBrokenConfig(ctx context.Context, b *bench) outcome {
	for _, config := range brokenConfigs() {
		for _, c := range b.samples() {
			a := b.ask(ctx, c.WithConfig(config))
			if wrong := b.fault(a); wrong != "" {
				return failf("with %q: %s", config, wrong)
			}
			if a.verdict == accepted {
				return failf("with %q: %s is accepted", config, c.Name)
			}
		}
	}
	return b.unlessNothingIsAccepted()
}

func checkUnknownOption(ctx context.Context, b *bench) outcome {
	seen := false
	for _, c := range b.samples() {
		var options map[string]json.RawMessage
		if json.Unmarshal([]byte(b.config(c)), &options) != nil || len(options) == 0 {
			continue
		}
		seen = true
		options["sidevault-check-unknown"] = json.RawMessage("true")
		config, err := json.Marshal(options)
		if err != nil {
			return failf("%v", err)
		}
		if a := b.ask(ctx, c.WithConfig(string(config))); a.verdict == accepted {
			return failf("%s is accepted", c.Name)
		}
	}
	if !seen {
		return skipf("no configuration is given")
	}
	return b.unlessNothingIsAccepted()
}

// unlessNothingIsAccepted passes when there was something to accept: a program that
// refuses whatever it is asked about shows nothing.
func (b *bench) unlessNothingIsAccepted() outcome {
	for _, v := range b.alone {
		if v == accepted {
			return pass()
		}
	}
	return skipf("it accepts nothing that it was asked about: give a credential that is good")
}

// checkShutdown ends the program as the sidecar does.
func checkShutdown(_ context.Context, b *bench) outcome {
	if b.deaf && b.process == nil {
		return skipf("the program does not run")
	}
	if err := b.start(); err != nil {
		return failf("it does not start again: %v", err)
	}
	// What it wrote last is on its way.
	time.Sleep(50 * time.Millisecond)
	process := b.process
	process.stop()
	b.process = nil
	if process.killed.Load() {
		return failf("it still ran after two seconds, and was killed")
	}
	return pass()
}

// checkSilence comes when everything is said.
func checkSilence(_ context.Context, b *bench) outcome {
	for _, run := range b.runs {
		for where, text := range map[string]string{
			"standard error": run.errs.String() + "\n" + run.laterErrs.String(), "standard output": run.out.String() + "\n" + run.later.String(),
		} {
			before := len(b.echoes)
			for line := range strings.Lines(text) {
				b.heard(where, line)
			}
			if len(b.echoes) == before {
				b.heard(where, text) // a value of several lines
			}
		}
	}
	if len(b.echoes) > 0 {
		return failf("%d times, first in %s", len(b.echoes), b.echoes[0])
	}
	if len(b.runs) == 0 || b.deaf {
		return skipf("the program does not run or does not answer")
	}
	return pass()
}

func checkOutput(_ context.Context, b *bench) outcome {
	for _, run := range b.runs {
		if run.conn == nil {
			continue // the handshake says it
		}
		_, more, _ := strings.Cut(run.out.String(), "\n")
		if more += run.later.String(); strings.TrimSpace(more) != "" {
			return failf("it printed %q", oneLine(b.struck.Strike(more)))
		}
	}
	if len(b.runs) == 0 || b.deaf {
		return skipf("the program does not run or does not answer")
	}
	return pass()
}
