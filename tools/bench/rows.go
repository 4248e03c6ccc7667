package main

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/sidevault/sidevault/tools/bench/load"
)

// row is a part of the table that is measured by itself.
type row struct {
	name    string
	measure func(*bench, context.Context) ([]figure, error)
}

// rows are in the order in which they are measured: what needs little is first, and
// the million credentials are last.
func rows() []row {
	var list []row
	for _, network := range []string{"tcp", "unix"} {
		for _, connections := range []int{64, 16, 1} {
			list = append(list, row{fmt.Sprintf("resolve/%s/%d", network, connections), func(b *bench, ctx context.Context) ([]figure, error) {
				return b.resolve(ctx, network, connections)
			}})
		}
	}
	return append(list,
		row{"resolve/each", (*bench).resolveEach},
		row{"resolve/written", (*bench).resolveWritten},
		row{"resolve/cold", (*bench).resolveCold},
		row{"resolve/postgres", func(b *bench, ctx context.Context) ([]figure, error) { return b.resolveShared(ctx, "postgres") }},
		row{"resolve/etcd", func(b *bench, ctx context.Context) ([]figure, error) { return b.resolveShared(ctx, "etcd") }},
		row{"allocations", (*bench).allocations},
		row{"set/64", func(b *bench, ctx context.Context) ([]figure, error) { return b.set(ctx, 64) }},
		row{"set/1", func(b *bench, ctx context.Context) ([]figure, error) { return b.set(ctx, 1) }},
		row{"resolve/stored", (*bench).resolveStored},
		row{"list", (*bench).list},
		row{"start", (*bench).start},
		row{"memory", (*bench).memory},
	)
}

// resolve compares warm reads with the reference.
func (b *bench) resolve(ctx context.Context, network string, connections int) ([]figure, error) {
	s, v, err := b.usual(ctx)
	if err != nil {
		return nil, err
	}
	r, err := b.reference(ctx)
	if err != nil {
		return nil, err
	}
	pairs, err := b.alternate(ctx, connections, s.target(network, resolves(v)), r.target(network, resolves(v)))
	if err != nil {
		return nil, err
	}
	work := fmt.Sprintf("resolve, %s, %s", network, plural(connections))
	if connections == 1 {
		f := pairs.figure(work+", p50", "bare Gin", microseconds(0.5))
		f.unit, f.measure, f.goal = "µs", difference("µs"), 20
		return []figure{f}, nil
	}
	rate, p99 := pairs.figure(work, "bare Gin", load.Result.PerSecond), pairs.figure(work+", p99", "bare Gin", microseconds(0.99))
	rate.unit, rate.measure, rate.goal, rate.atLeast = "requests/s", ratio(), 0.8, true
	p99.unit, p99.measure, p99.goal = "µs", ratio(), 1.4
	spent := pairs.figure(work+", processor time of the server for each", "bare Gin", processorTime)
	spent.unit, spent.measure, spent.report = "µs", difference("µs"), true
	return []figure{rate, p99, spent}, nil
}

func plural(connections int) string {
	if connections == 1 {
		return "1 connection"
	}
	return fmt.Sprintf("%d connections", connections)
}

// resolveEach is resolve with every read's audit entry durable before the answer.
func (b *bench) resolveEach(ctx context.Context) ([]figure, error) {
	f, err := b.audited(ctx, "each")
	f.goal, f.atLeast = 0.35, true
	return []figure{f}, err
}

// resolveWritten is resolve with every read's audit written, not synced, before the
// answer: in a probe, and with every setting of audit.reads that does so.
func (b *bench) resolveWritten(ctx context.Context) ([]figure, error) {
	modes, err := b.auditModes(ctx)
	if err != nil {
		return nil, err
	}
	probe, err := b.probeWritten(ctx)
	if err != nil {
		return nil, err
	}
	figures := []figure{probe}
	for _, mode := range modes {
		f, err := b.audited(ctx, mode)
		if err != nil {
			return nil, err
		}
		f.report = true
		figures = append(figures, f)
	}
	return figures, nil
}

// probeWritten compares a bare Gin handler that has an audit entry written before each
// answer with one that has not: what such a setting could reach at best.
func (b *bench) probeWritten(ctx context.Context) (f figure, err error) {
	_, v, err := b.usual(ctx)
	if err != nil {
		return f, err
	}
	r, err := b.reference(ctx)
	if err != nil {
		return f, err
	}
	probe := side{Target: target("tcp", r.written, "", resolves(v)), pid: r.cmd.Process.Pid}
	pairs, err := b.alternate(ctx, 64, probe, r.target("tcp", resolves(v)))
	f = pairs.figure("no sidecar: bare Gin, an audit entry written before each answer, 64 connections", "bare Gin", load.Result.PerSecond)
	f.unit, f.measure, f.report = "requests/s", ratio(), true
	return f, err
}

// audited compares reads under a setting of audit.reads with the reference.
func (b *bench) audited(ctx context.Context, mode string) (f figure, err error) {
	r, err := b.reference(ctx)
	if err != nil {
		return f, err
	}
	v, err := b.stock(ctx, b.size.stored, b.size.stored)
	if err != nil {
		return f, err
	}
	err = b.with(ctx, v, []string{"--audit-reads", mode}, func(s *sidecar) error {
		if err := v.readAll(ctx, s); err != nil {
			return err
		}
		pairs, err := b.alternate(ctx, 64, s.target("tcp", resolves(v)), r.target("tcp", resolves(v)))
		f = pairs.figure("resolve, audit.reads "+mode+", 64 connections", "bare Gin", load.Result.PerSecond)
		return err
	})
	f.unit, f.measure = "requests/s", ratio()
	return f, err
}

var auditModesRE = regexp.MustCompile(`is none of (.*)`)

// auditModes asks the program for the settings of audit.reads besides those that
// have rows of their own.
func (b *bench) auditModes(ctx context.Context) (modes []string, err error) {
	out, err := b.refused(ctx, "--audit-reads", "unknown")
	if err != nil {
		return nil, err
	}
	m := auditModesRE.FindStringSubmatch(out)
	if m == nil {
		return nil, fmt.Errorf("sidevault serve does not list the settings of audit.reads: %s", out)
	}
	for mode := range strings.SplitSeq(m[1], ",") {
		if mode, _, _ = strings.Cut(strings.TrimSpace(mode), ";"); mode != "coalesced" && mode != "each" {
			modes = append(modes, mode)
		}
	}
	return modes, nil
}

// resolveStored compares reads of few of very many credentials with reads of few of few.
func (b *bench) resolveStored(ctx context.Context) ([]figure, error) {
	s, v, err := b.usual(ctx)
	if err != nil {
		return nil, err
	}
	big, err := b.stock(ctx, b.size.many, b.size.stored)
	if err != nil {
		return nil, err
	}
	var f figure
	err = b.with(ctx, big, nil, func(many *sidecar) error {
		if err := errors.Join(big.readAll(ctx, many), v.readAll(ctx, s)); err != nil {
			return err
		}
		pairs, err := b.alternate(ctx, 64, many.target("tcp", resolves(big)), s.target("tcp", resolves(v)))
		f = pairs.figure(fmt.Sprintf("resolve %s of %s stored, 64 connections", count(b.size.stored), count(b.size.many)), "itself with no more stored", load.Result.PerSecond)
		return err
	})
	f.unit, f.measure, f.goal, f.atLeast = "requests/s", ratio(), 0.95, true
	return []figure{f}, err
}

// list compares a page of very many credentials with a page of a thousand.
func (b *bench) list(ctx context.Context) ([]figure, error) {
	big, err := b.stock(ctx, b.size.many, b.size.stored)
	if err != nil {
		return nil, err
	}
	small, err := b.stock(ctx, b.size.few, b.size.few)
	if err != nil {
		return nil, err
	}
	var f figure
	err = b.with(ctx, big, nil, func(many *sidecar) error {
		return b.with(ctx, small, nil, func(few *sidecar) error {
			pairs, err := b.alternate(ctx, 1, many.target("tcp", pages(big, b.size.many)), few.target("tcp", pages(small, b.size.few)))
			f = pairs.figure(fmt.Sprintf("list 50 of %s, any page, p50", count(b.size.many)), "itself with "+count(b.size.few), milliseconds)
			return err
		})
	})
	if err != nil {
		return nil, err
	}
	f.unit, f.measure, f.goal = "ms", ratio(), 1.5
	whole := f
	whole.measure, whole.goal = alone("ms"), 5
	return []figure{f, whole}, nil
}

// start compares the time to the first answer.
func (b *bench) start(ctx context.Context) ([]figure, error) {
	big, err := b.stock(ctx, b.size.many, b.size.stored)
	if err != nil {
		return nil, err
	}
	small, err := b.stock(ctx, b.size.few, b.size.few)
	if err != nil {
		return nil, err
	}
	f := figure{
		work: "start with " + count(b.size.many) + " to the first answer", reference: "itself with " + count(b.size.few),
		unit: "ms", measure: difference("ms"), goal: 300,
	}
	took := func(v *store) (ms float64, err error) {
		err = b.with(ctx, v, nil, func(s *sidecar) error {
			ms = s.took.Seconds() * 1e3
			return nil
		})
		return ms, err
	}
	for range b.size.rounds {
		ours, err := took(big)
		if err != nil {
			return nil, err
		}
		theirs, err := took(small)
		if err != nil {
			return nil, err
		}
		f.ours, f.theirs = append(f.ours, ours), append(f.theirs, theirs)
	}
	return []figure{f}, nil
}

// Memory that may be used, in MiB.
const (
	idleGoal   = 40
	loadedGoal = 96
	beyondGoal = 64
)

// memory is what a sidecar of the usual size holds, idle and while it is read from.
func (b *bench) memory(ctx context.Context) ([]figure, error) {
	v, err := b.stock(ctx, b.size.stored, b.size.stored)
	if err != nil {
		return nil, err
	}
	var idle, loaded memory
	err = b.with(ctx, v, nil, func(s *sidecar) (err error) {
		if err := s.quiet(b.size.settle); err != nil {
			return err
		}
		if idle, err = s.memory(); err != nil {
			return err
		}
		if _, err = load.Run(ctx, s.target("tcp", resolves(v)).Target, 64, 2*b.size.round); err != nil {
			return err
		}
		loaded, err = s.memory()
		return err
	})
	if err != nil {
		return nil, err
	}
	line := func(work string, mib, goal float64) figure {
		return figure{work: work, unit: "MiB", ours: []float64{mib}, measure: alone("MiB"), goal: goal, report: goal == 0}
	}
	return []figure{
		line("resident, idle", idle.resident, idleGoal),
		line("resident, idle, anonymous", idle.anonymous, 0),
		line("resident, while resolving over 64 connections, peak", loaded.peak, loadedGoal),
		line("resident, after it, anonymous", loaded.anonymous, 0),
		line("resident beyond cache-size, the most of any sidecar of this run", b.beyond, beyondGoal),
	}, nil
}
