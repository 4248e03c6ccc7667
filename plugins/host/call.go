package host

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sidevault/sidevault/vault"
)

// Outcomes of calls without an answer, as Metrics names them.
const (
	unavailable = "unavailable"
	timedOut    = "timeout"
	isBusy      = "busy"
)

func timeout(b vault.Binding) time.Duration {
	if b.Timeout > 0 {
		return b.Timeout
	}
	return vault.DefaultPluginTimeout
}

// limited ends a context after the binding's timeout.
func limited(ctx context.Context, b vault.Binding) (context.Context, context.CancelFunc) {
	within := timeout(b)
	return context.WithTimeoutCause(ctx, within, errLate{within})
}

// errLate is the cause of a context that the binding's timeout has ended.
type errLate struct{ after time.Duration }

// Error returns the text.
func (e errLate) Error() string { return fmt.Sprintf("no answer within %v", e.after) }

func (h *Host) call(ctx context.Context, call vault.PluginCall, c rpc) error {
	name := call.Binding.Plugin
	if !h.enter() {
		return &vault.PluginError{Plugin: name, Reason: "is stopped: the sidecar is shutting down"}
	}
	defer h.work.Done()
	began := time.Now()
	for {
		p, err := h.program(name)
		if err != nil {
			return err
		}
		f, err := p.run(ctx, c, call)
		if err != nil {
			continue // errMoved: look again
		}
		outcome := c.outcome()
		if f != nil {
			outcome = f.kind
		}
		p.tally(f != nil)
		h.cfg.Metrics.Call(name, c.service(), outcome, time.Since(began))
		if f != nil {
			return p.fail(f.reason, f.err)
		}
		return nil
	}
}

// enter counts one more thing that Close waits for, unless it has begun to.
func (h *Host) enter() bool {
	h.mu.RLock()
	defer h.mu.RUnlock()
	if h.closed {
		return false
	}
	h.work.Add(1)
	return true
}

func (p *program) tally(failed bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls++
	if failed {
		p.failed++
	}
}

// isOver reports whether a call's time is up. The program has the same deadline, and on a busy
// machine its answer that it was too late may be here before the timer that ends ctx.
func isOver(ctx context.Context) bool {
	if deadline, ok := ctx.Deadline(); ok && !time.Now().Before(deadline) {
		<-ctx.Done()
	}
	return ctx.Err() != nil
}

// outOfTime says that a call's time was up.
func (f *failure) outOfTime(ctx context.Context) {
	f.err = context.Cause(ctx)
	late := errLate{}
	switch {
	case errors.As(f.err, &late):
		f.kind, f.reason = timedOut, fmt.Sprintf("did not answer within %v", late.after)
	case errors.Is(f.err, context.DeadlineExceeded):
		f.kind, f.reason = timedOut, "did not answer before the caller's deadline"
	default:
		f.kind, f.reason = unavailable, "was not waited for: the caller is gone"
	}
}

func busy(ctx context.Context, calls int) *failure {
	f := new(failure)
	f.outOfTime(ctx)
	if f.kind == timedOut {
		f.kind, f.reason = isBusy, fmt.Sprintf("is busy: %d calls at once are allowed, and none of them ended in time", calls)
	}
	return f
}

// state is what States returns.
func (p *program) state() vault.PluginState {
	sum, err := p.seen.look(p)
	p.mu.Lock()
	defer p.mu.Unlock()
	s := vault.PluginState{
		Name: p.cfg.Name, Path: p.cfg.Path, SHA256: sum, Version: p.about.version, Description: p.about.description, Services: p.about.services,
		Status: vault.PluginIdle, Reason: p.reason, Processes: len(p.members),
		Calls: p.calls, Failures: p.failed, Restarts: p.restarts,
	}
	if p.failures > 0 {
		s.NextStart = p.nextStart.UTC()
	}
	switch {
	case p.usable() > 0:
		s.Status, s.NextStart = vault.PluginRunning, time.Time{}
	case err != nil:
		s.Status, s.Reason = vault.PluginUnusable, err.Error()
	case p.failures >= p.host.tun.crashes:
		s.Status = vault.PluginQuarantined
	case p.failures > 0 && time.Now().Before(p.nextStart):
		s.Status = vault.PluginBackoff
	default:
		s.NextStart = time.Time{}
	}
	return s
}
