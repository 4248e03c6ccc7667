package rest

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/sidevault/sidevault/api"
	"github.com/sidevault/sidevault/api/codes"
	"github.com/sidevault/sidevault/api/wire"
	"github.com/sidevault/sidevault/vault"
)

// health answers that the process serves requests.
func (s *server) health(*request) (answer, error) {
	return answer{status: http.StatusOK, body: wire.Health{Status: "ok"}}, nil
}

// ready answers whether the vault can serve, and which part of it cannot. Plugins
// that cannot be used do not keep it from that: reads need none. Nor do backups that
// fail, nor does storage that is away while reads of what is kept are served: a sidecar
// that is taken out of use then serves nobody.
func (s *server) ready(r *request) (answer, error) {
	vaultItself := wire.Check{Name: "vault", Status: "ok"}
	others := append([]wire.Check{s.checkPlugins(), s.checkStorage()}, s.checkBackups()...)
	err := s.vault.Ready(r.ctx())
	if err == nil {
		status := "ok"
		if slices.ContainsFunc(others, func(c wire.Check) bool { return c.Status != "ok" }) {
			status = "degraded"
		}
		return answer{status: http.StatusOK, body: wire.Health{Status: status, Checks: append([]wire.Check{vaultItself}, others...)}}, nil
	}
	vaultItself.Status, vaultItself.Reason = "unavailable", "internal error"
	if e, known := errors.AsType[*vault.Error](err); known {
		vaultItself.Reason = e.Msg
	}
	if storage := &others[1]; storage.Status != "ok" {
		storage.Status = "unavailable"
	}
	s.log.WarnContext(r.ctx(), "not ready", "request_id", r.id(), "err", err)
	return answer{
		status: codes.Status(vault.BackendUnavailable),
		body:   wire.Health{Status: "unavailable", Checks: append([]wire.Check{vaultItself}, others...)},
	}, nil
}

// checkBackups is empty where no backups are scheduled.
func (s *server) checkBackups() []wire.Check {
	if s.backups == nil {
		return nil
	}
	if reason := s.backups(); reason != "" {
		return []wire.Check{{Name: "backups", Status: "degraded", Reason: reason}}
	}
	return []wire.Check{{Name: "backups", Status: "ok"}}
}

// checkStorage says whether what is served is from storage, or kept from before.
func (s *server) checkStorage() wire.Check {
	stale := s.vault.Stale()
	if stale <= 0 {
		return wire.Check{Name: "storage", Status: "ok"}
	}
	since := now().Add(-stale).UTC().Format(wire.TimeFormat)
	return wire.Check{Name: "storage", Status: "degraded", Reason: "it does not answer: nothing is known of it since " + since}
}

func (s *server) checkPlugins() wire.Check {
	names := s.vault.QuarantinedPlugins()
	if len(names) == 0 {
		return wire.Check{Name: "plugins", Status: "ok"}
	}
	return wire.Check{Name: "plugins", Status: "degraded", Reason: "quarantined or unusable: " + strings.Join(names, ", ")}
}

// showMetrics and showContract write their own bodies, which are not JSON.
func (s *server) showMetrics(r *request) (answer, error) {
	promhttp.HandlerFor(s.registry, promhttp.HandlerOpts{}).ServeHTTP(r.gin.Writer, r.gin.Request)
	return answer{}, nil
}

func (s *server) showContract(r *request) (answer, error) {
	r.gin.Data(http.StatusOK, "application/yaml; charset=utf-8", api.OpenAPI())
	return answer{}, nil
}

func now() time.Time { return time.Now() }

// moment is a time from the wire, in the precision that times are stored with.
func moment(t wire.Time) time.Time { return time.Time(t).UTC().Truncate(time.Millisecond) }

// wireTime is a time out of an audit entry, which has the format of the wire.
func wireTime(s string) (t wire.Time) {
	// An entry whose time does not parse is shown with the zero time.
	_ = t.UnmarshalText([]byte(s))
	return t
}
