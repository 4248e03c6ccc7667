package host

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/sidevault/sidevault/vault"
	"github.com/sidevault/sidevault/vault/seal"
)

// errMoved says that a program takes no more calls: there may be another in its place.
var errMoved = errors.New("the program has been replaced")

// program is one configured plugin with its pool of processes. A changed
// configuration makes another one; this one then drains.
type program struct {
	host    *Host
	cfg     Program
	sink    *logSink
	slots   chan struct{} // one for every call under way
	drained chan struct{} // closed when it takes no more calls

	seen sumCache

	mu       sync.Mutex
	over     bool      // drained is closed
	members  []*member // those that run, also retired ones
	starting *starting
	retry    *time.Timer // starts an eager program again
	about    about
	sum      string // of the file that was started last

	fault     *vault.PluginError // of a file: only a person can mend it
	faultAt   time.Time
	failures  int // in a row
	reason    string
	nextStart time.Time

	calls, failed, restarts uint64
	peak                    int // processes that there have been at once
}

// starting is a start under way, which any number of calls may wait for.
type starting struct {
	done chan struct{}
	err  *vault.PluginError
}

func newProgram(h *Host, cfg Program) *program {
	return &program{
		host: h, cfg: cfg, sink: newLogSink(h.log(cfg.Name)),
		slots: make(chan struct{}, cfg.Calls), drained: make(chan struct{}),
	}
}

func (p *program) fail(reason string, err error) *vault.PluginError {
	return &vault.PluginError{Plugin: p.cfg.Name, Reason: reason, Err: err}
}

// run makes one call: it waits for its turn, gets a process, and asks it. The
// binding's timeout is for the turn and for the answer, each; a start has a limit of
// its own, so that a slow one does not fail the call that it is for.
func (p *program) run(ctx context.Context, c rpc, call vault.PluginCall) (*failure, error) {
	if f, err := p.turn(ctx, call.Binding); f != nil || err != nil {
		return f, err
	}
	defer func() { <-p.slots }()
	m, f, err := p.acquire(ctx)
	if m == nil {
		return f, err
	}
	ctx, cancel := limited(ctx, call.Binding)
	defer cancel()
	f = m.call(ctx, c, call.Fields)
	p.release(m, f, timeout(call.Binding))
	return f, nil
}

// turn takes one of the program's slots.
func (p *program) turn(ctx context.Context, b vault.Binding) (*failure, error) {
	select {
	case p.slots <- struct{}{}:
		return nil, nil
	default:
	}
	ctx, cancel := limited(ctx, b)
	defer cancel()
	select {
	case p.slots <- struct{}{}:
		return nil, nil
	case <-p.drained:
		return nil, errMoved
	case <-ctx.Done():
		return busy(ctx, p.cfg.Calls), nil
	}
}

// acquire returns the process with the least to do, starting one if there is none.
func (p *program) acquire(ctx context.Context) (*member, *failure, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		if p.over {
			return nil, nil, errMoved
		}
		if m := p.idlest(); m != nil {
			if m.calls > 0 {
				p.grow()
			}
			m.calls++
			return m, nil, nil
		}
		if p.starting == nil {
			if held := p.held(); held != nil {
				return nil, &failure{reason: held.Reason, err: held.Err, kind: unavailable}, nil
			}
			p.start()
		}
		s := p.starting
		p.mu.Unlock()
		f := s.wait(ctx)
		p.mu.Lock()
		if f != nil && !p.over {
			return nil, f, nil
		}
	}
}

func (s *starting) wait(ctx context.Context) *failure {
	select {
	case <-s.done:
	case <-ctx.Done():
		f := &failure{}
		f.outOfTime(ctx)
		return f
	}
	if s.err != nil {
		return &failure{reason: s.err.Reason, err: s.err.Err, kind: unavailable}
	}
	return nil
}

func (p *program) idlest() *member {
	var best *member
	for _, m := range p.members {
		if !m.retired && (best == nil || m.calls < best.calls) {
			best = m
		}
	}
	return best
}

func (p *program) usable() int {
	n := 0
	for _, m := range p.members {
		if !m.retired {
			n++
		}
	}
	return n
}

// grow starts one more process when all have something to do.
func (p *program) grow() {
	if p.starting == nil && p.usable() < p.cfg.Instances && p.held() == nil {
		p.start()
	}
}

// start starts a process in the background. The lock is held.
func (p *program) start() {
	s := &starting{done: make(chan struct{})}
	p.starting = s
	if n := p.usable() + 1; n > p.peak {
		p.peak = n
	} else {
		p.restarts++
		p.host.cfg.Metrics.Restart(p.cfg.Name)
	}
	p.host.work.Add(1) // whoever starts is counted itself
	go func() {
		defer p.host.work.Done()
		m, err, fault := p.launch()
		p.started(s, m, err, fault)
	}()
}

// started takes a process into the pool, or notes why there is none.
func (p *program) started(s *starting, m *member, err *vault.PluginError, fault bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	defer close(s.done)
	p.starting = nil
	switch {
	case err != nil && p.over:
		s.err = err
	case fault:
		s.err, p.fault, p.faultAt = err, err, time.Now()
		p.host.log(p.cfg.Name).Error("the plugin " + err.Reason)
		p.later()
	case err != nil:
		s.err = err
		p.count(err.Reason)
	default:
		p.fault, p.about = nil, m.about
		p.members = append(p.members, m)
		p.host.work.Add(1)
		go m.attend()
		p.host.count(p.cfg.Name, 1)
		p.host.log(p.cfg.Name).Info("the plugin has been started", "pid", m.proc.ID(), "version", m.about.version)
		if p.over {
			m.retired = true
			p.settle(m)
		} else if p.cfg.Eager && p.usable() < p.cfg.Instances {
			p.start()
		}
	}
}

// release gives a process back, or takes it out of the pool.
func (p *program) release(m *member, f *failure, allowed time.Duration) {
	if f != nil && f.broken {
		p.lost(m, f.reason)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	m.calls--
	switch {
	case f == nil || f.answered:
		p.answered()
	case f.broken:
		m.retired, m.hung = true, true
	case f.kind == timedOut && f.took >= allowed/2:
		// A call that got less time than that says little about the process.
		m.retired, m.hung = true, true
		if m.calls > 0 {
			time.AfterFunc(p.host.tun.grace, m.proc.kill)
		}
	}
	p.settle(m)
}

// settle ends a process that is out of the pool and has no calls.
func (p *program) settle(m *member) {
	if !m.retired {
		return
	}
	m.gone = true
	if m.calls == 0 && !m.ending {
		m.ending = true
		p.host.work.Add(1) // the process or its last call is counted itself
		go m.stop(!m.hung)
	}
}

// lost counts a process that has ended by itself, once.
func (p *program) lost(m *member, reason string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if m.gone {
		return
	}
	m.retired, m.hung, m.gone = true, true, true
	if p.host.ctx.Err() == nil {
		p.count(reason)
	}
}

func (p *program) remove(m *member) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.members = slices.DeleteFunc(p.members, func(other *member) bool { return other == m })
	p.host.count(p.cfg.Name, -1)
	p.later()
}

// drain takes no more calls, and ends the processes with the last of theirs.
func (p *program) drain() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.over {
		return
	}
	p.over = true
	close(p.drained)
	if p.retry != nil {
		p.retry.Stop()
	}
	for _, m := range p.members {
		m.retired = true
		p.settle(m)
	}
}

// same reports whether a configuration and the files that it names are those of the
// program.
func (p *program) same(cfg Program) bool {
	if !reflect.DeepEqual(p.cfg, cfg) {
		return false
	}
	sum, err := cfg.verify(nil)
	p.mu.Lock()
	defer p.mu.Unlock()
	return err == nil && (len(p.members) == 0 || sum == p.sum)
}

func (p *program) setSum(sum string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sum = sum
}

func strikeError(err error, fields seal.Fields) error {
	return errors.New(printable(strikerOf(fields).Strike(err.Error()), longestMessage))
}
