package main

import (
	"log/slog"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// manager is the service manager that has started this process, if one has and wants
// to be told (sd_notify(3), sd_watchdog_enabled(3)).
type manager struct{ log *slog.Logger }

// tell passes a state on. Without a manager it does nothing.
func (m manager) tell(state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		m.log.Warn("the service manager was not told", "state", state, "err", err)
	}
}

// beats returns when the manager is to be told that the process lives, twice as often as
// it wants; nil: it does not want to.
func (m manager) beats() (tick <-chan time.Time, stop func()) {
	interval, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		m.log.Warn("the service manager's watchdog is not served", "err", err)
	}
	if err != nil || interval <= 0 {
		return nil, func() {}
	}
	ticker := time.NewTicker(interval / 2)
	return ticker.C, ticker.Stop
}
