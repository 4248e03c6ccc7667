package rest

import (
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sidevault/sidevault/api/codes"
	"github.com/sidevault/sidevault/api/wire"
	"github.com/sidevault/sidevault/vault"
)

// The states of a part.
const (
	isOK          = "ok"
	isDegraded    = "degraded"
	isUnavailable = "unavailable"
)

// ready answers whether the vault can serve, and which part of it cannot. Plugins
// that cannot be used do not keep it from that: reads need none. Nor do backups that
// fail, nor does storage that is away while reads of what is kept are served: a sidecar
// that is taken out of use then serves nobody.
func (s *server) ready(r *request) (answer, error) {
	now := s.vault.Readiness(r.ctx())
	checks := []part{checkVault(now), s.checkPlugins(), s.checkStorage(now), checkAudit(now), checkKeys(now)}
	checks = append(checks, s.checkBackups()...)
	body := wire.Health{Status: isOK, Checks: s.history.settle(checks, time.Now())}
	if slices.ContainsFunc(checks, func(c part) bool { return c.Status != isOK }) {
		body.Status = isDegraded
	}
	if now.Err == nil {
		return answer{status: http.StatusOK, body: body}, nil
	}
	body.Status = isUnavailable
	s.log.WarnContext(r.ctx(), "not ready", "request_id", r.id(), "err", now.Err)
	return answer{status: codes.Status(vault.BackendUnavailable), body: body}, nil
}

// part is a check; where it knows since when its state is what it is, it says so.
type part struct {
	wire.Check
	since time.Time
}

// inOrder is a part that nothing is known against.
func inOrder(name string) part { return part{Check: wire.Check{Name: name, Status: isOK}} }

// because returns the part in another state.
func (p part) because(status, reason string, since time.Time) part {
	p.Status, p.Reason, p.since = status, reason, since
	return p
}

// checkVault says whether the vault serves at all.
func checkVault(now vault.Readiness) part {
	if now.Err == nil {
		return inOrder("vault")
	}
	return inOrder("vault").because(isUnavailable, publicText(now.Err), time.Time{})
}

// publicText is what everyone may see of an error.
func publicText(err error) string {
	if vault.KindOf(err) == vault.Internal {
		return "internal error"
	}
	return vault.MessageOf(err)
}

func (s *server) checkPlugins() part {
	names := s.vault.QuarantinedPlugins()
	if len(names) == 0 {
		return inOrder("plugins")
	}
	return inOrder("plugins").because(isDegraded, "quarantined or unusable: "+strings.Join(names, ", "), time.Time{})
}

// checkStorage says whether what is served is from storage, kept from before, or refused.
func (s *server) checkStorage(r vault.Readiness) part {
	storage := inOrder("storage")
	if stale := s.vault.Stale(); stale > 0 {
		since := now().Add(-stale).UTC()
		storage = storage.because(isDegraded, "it does not answer: nothing is known of it since "+since.Format(wire.TimeFormat), since)
	} else if r.Storage != nil {
		storage = storage.because(isDegraded, publicText(r.Storage), time.Time{})
	}
	if storage.Status != isOK && r.Err != nil {
		storage.Status = isUnavailable
	}
	return storage
}

func checkAudit(now vault.Readiness) part {
	audit, since := inOrder("audit"), now.Audit.FailingSince
	switch {
	case now.Audit.Refused != nil:
		return audit.because(isUnavailable, publicText(now.Audit.Refused), since)
	case !since.IsZero():
		return audit.because(isDegraded, "reads could not be written into the audit log; they are kept, and tried every second", since)
	}
	return audit
}

// checkKeys says which environments this host has no key of. That is no fault: it is how
// a host is kept out of one. A plugin of its identities that gave no answer is.
func checkKeys(now vault.Readiness) part {
	keys := inOrder("keys")
	if now.KeysUnread != nil {
		return keys.because(isDegraded, "a plugin of this host's identities gave no answer, so keys could not be opened", time.Time{})
	}
	var missing []string
	for _, k := range now.Keys {
		if !k.Held {
			missing = append(missing, k.Scope)
		}
	}
	if len(missing) > 0 {
		keys.Reason = "this host has no key of: " + strings.Join(missing, ", ")
	}
	return keys
}

// checkBackups is empty where no backups are scheduled.
func (s *server) checkBackups() []part {
	if s.backups == nil {
		return nil
	}
	if reason := s.backups(); reason != "" {
		return []part{inOrder("backups").because(isDegraded, reason, time.Time{})}
	}
	return []part{inOrder("backups")}
}

// history remembers since when the parts are in the states that they were last seen in.
type history struct {
	began time.Time
	mu    sync.Mutex
	seen  map[string]wire.Check
}

func newHistory() *history { return &history{began: now(), seen: map[string]wire.Check{}} }

// settle adds since when each part is in its state: as the part knows, else since it was
// first seen in it, else since the server began.
func (h *history) settle(parts []part, at time.Time) []wire.Check {
	h.mu.Lock()
	defer h.mu.Unlock()
	checks := make([]wire.Check, len(parts))
	for i, p := range parts {
		before, known := h.seen[p.Name]
		switch {
		case !p.since.IsZero():
			p.Since = wire.Time(p.since)
		case known && before.Status == p.Status:
			p.Since = before.Since
		case !known && p.Status == isOK:
			p.Since = wire.Time(h.began)
		default:
			p.Since = wire.Time(at)
		}
		h.seen[p.Name], checks[i] = p.Check, p.Check
	}
	return checks
}
