package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"time"

	"github.com/sidevault/sidevault/tools/bench/load"
)

// size is how much is measured.
type size struct {
	rounds int
	round  time.Duration // of one side of one round
	settle time.Duration // until a sidecar is idle, and has flushed its audit
	stored int           // credentials of the usual vault
	few    int
	many   int
	cold   int           // cold reads of one round
	limit  time.Duration // of all
}

func full() size {
	return size{
		rounds: 5, round: 1500 * time.Millisecond, settle: 1200 * time.Millisecond,
		stored: 10_000, few: 1000, many: 1_000_000, cold: 500, limit: 9 * time.Minute,
	}
}

// short is enough to see that every row works.
func short() size {
	return size{
		rounds: 1, round: 50 * time.Millisecond, settle: 10 * time.Millisecond,
		stored: 100, few: 60, many: 1000, cold: 20, limit: 2 * time.Minute,
	}
}

// bench measures rows. What several of them need is made when the first one does,
// and stays until close.
type bench struct {
	size    size
	dir     string
	program string // the sidevault that is measured
	stores  map[int]*store
	warm    *sidecar // of the usual vault
	other   *reference
	beyond  float64 // the most that any sidecar had in memory besides its cache, in MiB
}

func (b *bench) close() error {
	var errs []error
	if b.warm != nil {
		errs = append(errs, b.end(b.warm))
	}
	if b.other != nil {
		errs = append(errs, b.other.stop())
	}
	return errors.Join(append(errs, os.RemoveAll(b.dir))...)
}

// run measures the rows that are selected, as long as there is time.
func (b *bench) run(ctx context.Context, selected *regexp.Regexp, done func(outcome)) error {
	ctx, cancel := context.WithTimeout(ctx, b.size.limit)
	defer cancel()
	for _, r := range rows() {
		if !selected.MatchString(r.name) {
			continue
		}
		figures, err := r.measure(b, ctx)
		switch {
		case ctx.Err() != nil:
			done(outcome{row: r.name, skipped: fmt.Sprintf("the %s of this run were over", b.size.limit)})
		case err != nil:
			return fmt.Errorf("%s: %w", r.name, err)
		default:
			done(outcome{row: r.name, figures: figures})
		}
	}
	return nil
}

// stock returns a vault with n credentials of which hot are read.
func (b *bench) stock(ctx context.Context, n, hot int) (*store, error) {
	if v, ok := b.stores[n]; ok {
		return v, nil
	}
	// The usual vault is served all the time; with others of its size that share
	// nothing, their order would matter.
	v, err := newStock(ctx, filepath.Join(b.dir, fmt.Sprint(n)), b.program, n, hot)
	if err == nil {
		b.stores[n] = v
	}
	return v, err
}

// usual is the sidecar that most rows measure, and its vault.
func (b *bench) usual(ctx context.Context) (*sidecar, *store, error) {
	v, err := b.stock(ctx, b.size.stored, b.size.stored)
	if err != nil || b.warm != nil {
		return b.warm, v, err
	}
	b.warm, err = v.serve(ctx, b.program)
	return b.warm, v, err
}

// with serves a vault with further arguments. A vault is served once at a time: the
// usual one's sidecar is stopped, and starts again when a row needs it.
func (b *bench) with(ctx context.Context, v *store, args []string, do func(*sidecar) error) error {
	if v == b.stores[b.size.stored] && b.warm != nil {
		if err := b.end(b.warm); err != nil {
			return err
		}
		b.warm = nil
	}
	s, err := v.serve(ctx, b.program, args...)
	if err != nil {
		return err
	}
	return errors.Join(do(s), b.end(s))
}

// end stops a sidecar and remembers what it had in memory at most.
func (b *bench) end(s *sidecar) error {
	m, err := s.memory()
	b.beyond = max(b.beyond, m.peak-s.cacheSize)
	return errors.Join(err, s.stop())
}

// reference is the bare server with the answers of the usual sidecar.
func (b *bench) reference(ctx context.Context) (*reference, error) {
	if b.other != nil {
		return b.other, nil
	}
	s, v, err := b.usual(ctx)
	if err != nil {
		return nil, err
	}
	a, err := record(ctx, s, v)
	if err != nil {
		return nil, err
	}
	b.other, err = startReference(context.WithoutCancel(ctx), b.dir, a)
	return b.other, err
}

// refused runs serve with arguments that it refuses, and returns what it says.
func (b *bench) refused(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, b.program, append([]string{"serve", "--data-dir", filepath.Join(b.dir, "none")}, args...)...)
	cmd.Env = []string{"HOME=" + b.dir}
	out, err := cmd.CombinedOutput()
	if _, exited := errors.AsType[*exec.ExitError](err); !exited {
		return "", errors.Join(errors.New("sidevault serve took what it should refuse"), err)
	}
	return string(out), nil
}

// side is one of the two that are loaded in turn.
type side struct {
	load.Target
	pid     int
	process *sidecar // nil: it does nothing once it is not loaded
}

func (s *sidecar) target(network string, requests [][]byte) side {
	return side{target(network, s.address, s.socket, requests), s.cmd.Process.Pid, s}
}

func (r *reference) target(network string, requests [][]byte) side {
	return side{Target: target(network, r.address, r.socket, requests), pid: r.cmd.Process.Pid}
}

func target(network, address, socket string, requests [][]byte) load.Target {
	if network == "unix" {
		address = socket
	}
	return load.Target{Network: network, Address: address, Requests: requests, Status: http.StatusOK}
}

// load loads one side, and leaves it when what it does behind its answers is done: the
// other's turn must not pay for it.
func (b *bench) load(ctx context.Context, s side, connections int) (load.Result, error) {
	before, err := ticks(s.pid)
	if err != nil {
		return load.Result{}, err
	}
	result, err := load.Run(ctx, s.Target, connections, b.size.round)
	if err != nil {
		return result, err
	}
	after, err := ticks(s.pid)
	result.Processor = time.Duration(after-before) * tick
	if err == nil && s.process != nil {
		err = s.process.quiet(b.size.settle)
	}
	return result, errors.Join(err, ctx.Err())
}

// pairs are the results of rounds.
type pairs struct{ ours, theirs []load.Result }

// alternate loads the two in turn.
func (b *bench) alternate(ctx context.Context, connections int, ours, theirs side) (p pairs, err error) {
	for i := range b.size.rounds + 1 {
		a, err := b.load(ctx, ours, connections)
		if err != nil {
			return p, err
		}
		z, err := b.load(ctx, theirs, connections)
		if err != nil {
			return p, err
		}
		if i > 0 { // the first round warms both
			p.ours, p.theirs = append(p.ours, a), append(p.theirs, z)
		}
	}
	return p, nil
}

func (p pairs) figure(work, reference string, of func(load.Result) float64) figure {
	f := figure{work: work, reference: reference}
	for i := range p.ours {
		f.ours, f.theirs = append(f.ours, of(p.ours[i])), append(f.theirs, of(p.theirs[i]))
	}
	return f
}

func microseconds(quantile float64) func(load.Result) float64 {
	return func(r load.Result) float64 { return r.Latency.Quantile(quantile).Seconds() * 1e6 }
}

// processorTime is the processor time of the server for an answer, in microseconds.
func processorTime(r load.Result) float64 { return r.Processor.Seconds() * 1e6 / float64(r.Requests) }

func milliseconds(r load.Result) float64 { return r.Latency.Quantile(0.5).Seconds() * 1e3 }

// pages are requests for pages of 50 out of n credentials: the first, the last, and
// some between.
func pages(v *store, n int) [][]byte {
	const limit, some = 50, 200
	const list = "/v1/integrations/credentials?limit=50"
	requests := [][]byte{get(list, v.reader)}
	for i := range some {
		after := n - limit - 1
		if i > 0 {
			after = rand.IntN(n - limit)
		}
		place := integration + "/" + environment + "/" + name(after)
		requests = append(requests, get(list+"&cursor="+base64.RawURLEncoding.EncodeToString([]byte(place)), v.reader))
	}
	return requests
}

// count prints a number as people write it.
func count(n int) string {
	switch {
	case n >= 1_000_000 && n%1_000_000 == 0:
		return fmt.Sprintf("%d,000,000", n/1_000_000)
	case n >= 1000 && n%1000 == 0:
		return fmt.Sprintf("%d,000", n/1000)
	}
	return fmt.Sprint(n)
}
