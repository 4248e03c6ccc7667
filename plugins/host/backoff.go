package host

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/sidevault/sidevault/vault"
)

// A program that fails is started again: at once after the first failure, then after
// growing pauses; after a row of failures it is quarantined, with one start allowed
// at the end of each growing quarantine. An answer ends the row. The methods are
// called with the program's lock held, but for wake and forgive.

// answered ends a row of failures: the program works.
func (p *program) answered() {
	if p.failures == 0 {
		return
	}
	if p.failures >= p.host.tun.crashes {
		p.host.cfg.Metrics.Quarantined(p.cfg.Name, false)
	}
	p.failures, p.nextStart, p.reason = 0, time.Time{}, ""
}

// count notes a failure and when the next start may be.
func (p *program) count(reason string) {
	p.failures++
	p.reason = reason
	t := p.host.tun
	pause := time.Duration(0)
	switch n := p.failures; {
	case n >= t.crashes:
		pause = grown(t.quarantine, n-t.crashes, t.maxQuar)
		p.host.cfg.Metrics.Quarantined(p.cfg.Name, true)
		p.host.log(p.cfg.Name).Error(fmt.Sprintf("the plugin is quarantined for %v after %d failures: it %s", pause, n, reason))
	case n > 1:
		pause = grown(t.firstPause, n-2, t.maxPause)
		pause += time.Duration(rand.Int64N(int64(pause)/4 + 1))
		fallthrough
	default:
		p.host.log(p.cfg.Name).Warn(fmt.Sprintf("the plugin %s; it may be started again in %v", reason, pause))
	}
	p.nextStart = time.Now().Add(pause)
	p.later()
}

func grown(first time.Duration, doublings int, most time.Duration) time.Duration {
	return min(most, first<<min(doublings, 20))
}

// held returns why no process may be started at the moment.
func (p *program) held() *vault.PluginError {
	if p.fault != nil {
		if time.Since(p.faultAt) < p.host.tun.recheck {
			return p.fault
		}
		return nil
	}
	if p.failures == 0 || time.Now().After(p.nextStart) {
		return nil
	}
	state := "is held back"
	if p.failures >= p.host.tun.crashes {
		state = "is quarantined"
	}
	return p.fail(fmt.Sprintf("%s after %d failures, next start at %s: the last time it %s",
		state, p.failures, p.nextStart.UTC().Format("15:04:05Z"), p.reason), nil)
}

// later starts an eager program when it may be.
func (p *program) later() {
	if !p.cfg.Eager || p.over {
		return
	}
	pause := time.Until(p.nextStart)
	if p.fault != nil {
		pause = time.Until(p.faultAt.Add(p.host.tun.recheck))
	}
	if p.retry != nil {
		p.retry.Stop()
	}
	p.retry = time.AfterFunc(max(0, pause)+time.Millisecond, p.wake)
}

// wake starts the first process of an eager program.
func (p *program) wake() {
	if !p.cfg.Eager || !p.host.enter() {
		return
	}
	defer p.host.work.Done()
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.over || p.starting != nil || p.usable() == p.cfg.Instances:
	case p.held() != nil:
		p.later()
	default:
		p.start()
	}
}

// forgive gives a program that is held back a new chance.
func (p *program) forgive() {
	p.seen.forget()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fault = nil
	p.answered()
}
