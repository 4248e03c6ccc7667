package main

import (
	"fmt"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// limits bound what clients can take of a sidecar.
type limits struct {
	Connections   int // at a time
	HeaderSize    int // bytes of a request's line and header
	HeaderTimeout time.Duration
	ReadTimeout   time.Duration
	WriteTimeout  time.Duration
	IdleTimeout   time.Duration

	Watchers  int // at a time
	Heartbeat time.Duration
	Stall     time.Duration
}

const (
	connectionsKey = "limits.connections"
	watchersKey    = "watch.limit"
	// ownFiles is how many files a sidecar has open besides its connections: the vault,
	// storage, plugins.
	ownFiles = 256
)

func limitSettings() []setting {
	number := func(at func(*limits) *int, least, most int) func(*settings, []string) error {
		return func(c *settings, v []string) error { return parseNumber(at(&c.Limits), v[0], least, most) }
	}
	duration := func(at func(*limits) *time.Duration, least, most time.Duration) func(*settings, []string) error {
		return func(c *settings, v []string) error { return parseDuration(at(&c.Limits), v[0], least, most) }
	}
	return []setting{
		{key: connectionsKey, def: []string{"4096"},
			help:  "`number` of connections that are served at a time, 16 to 1000000; further ones take the place of idle ones, or are told to come again",
			apply: number(func(l *limits) *int { return &l.Connections }, 16, 1_000_000)},
		{key: "limits.header-size", def: []string{"16KiB"},
			help:  "`bytes` that a request's line and header may have, 4KiB to 1MiB",
			apply: applyHeaderSize},
		{key: "limits.header-timeout", def: []string{"5s"},
			help:  "`time` that a client may take over sending a request's line and header, 100ms to 1h",
			apply: duration(func(l *limits) *time.Duration { return &l.HeaderTimeout }, 100*time.Millisecond, time.Hour)},
		{key: "limits.read-timeout", def: []string{"30s"},
			help:  "`time` that a client may take over sending a request, 100ms to 1h",
			apply: duration(func(l *limits) *time.Duration { return &l.ReadTimeout }, 100*time.Millisecond, time.Hour)},
		{key: "limits.write-timeout", def: []string{"60s"},
			help:  "`time` from a request's header to the end of its answer, 100ms to 1h; watches and backups have their own, and plugins theirs",
			apply: duration(func(l *limits) *time.Duration { return &l.WriteTimeout }, 100*time.Millisecond, time.Hour)},
		{key: "limits.idle-timeout", def: []string{"2m"},
			help:  "`time` that a connection is kept open for the next request, 100ms to 1h",
			apply: duration(func(l *limits) *time.Duration { return &l.IdleTimeout }, 100*time.Millisecond, time.Hour)},
		{key: watchersKey, def: []string{"1000"},
			help:  "`number` of watches that are served at a time, fewer than connections; further ones are told to come again",
			apply: number(func(l *limits) *int { return &l.Watchers }, 1, 1_000_000)},
		{key: "watch.heartbeat", def: []string{"15s"},
			help:  "`time` from one sign of life of a watch to the next, 100ms to 1h; the expiry of its key is looked at as often",
			apply: duration(func(l *limits) *time.Duration { return &l.Heartbeat }, 100*time.Millisecond, time.Hour)},
		{key: "watch.timeout", def: []string{"10s"},
			help:  "`time` that a watcher may take over accepting an event before it is cut off, 100ms to 1h",
			apply: duration(func(l *limits) *time.Duration { return &l.Stall }, 100*time.Millisecond, time.Hour)},
	}
}

func parseNumber(to *int, s string, least, most int) error {
	n, err := strconv.Atoi(s)
	if err != nil || n < least || n > most {
		return fmt.Errorf("%q is not a number from %d to %d", s, least, most)
	}
	*to = n
	return nil
}

func parseDuration(to *time.Duration, s string, least, most time.Duration) error {
	d, err := time.ParseDuration(s)
	if err != nil || d < least || d > most {
		return fmt.Errorf("%q is not a duration from %s to %s, as in 30s", s, least, most)
	}
	*to = d
	return nil
}

func applyHeaderSize(c *settings, v []string) error {
	n, err := parseBytes(v[0])
	if err != nil || n < 4<<10 || n > 1<<20 {
		return fmt.Errorf("%q is not a number of bytes from 4KiB to 1MiB, as in 16KiB", v[0])
	}
	c.Limits.HeaderSize = int(n)
	return nil
}

// check refuses watches that would leave no connection for anything else.
func (l limits) check() error {
	if l.Watchers >= l.Connections {
		return usagef("%s (%d) leaves none of %s (%d) for other requests", watchersKey, l.Watchers, connectionsKey, l.Connections).
			hinted("set %s higher", connectionsKey)
	}
	return nil
}

// fit lowers the number of connections to what the process may have open, and returns
// that number where it had to. Go has raised the soft limit to the hard one.
func (l *limits) fit() (lowered int, err error) {
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
		return 0, fmt.Errorf("read the limit of open files: %w", err)
	}
	if files.Cur >= uint64(l.Connections+ownFiles) {
		return 0, nil
	}
	if files.Cur < 2*ownFiles {
		return 0, failf(exitError, "the process may have %d files open, and needs %d", files.Cur, 2*ownFiles).
			hinted("raise LimitNOFILE or ulimit -n")
	}
	l.Connections = int(files.Cur) - ownFiles
	if l.Watchers >= l.Connections {
		return 0, failf(exitError, "the process may have %d files open, too few for %s (%d)", files.Cur, watchersKey, l.Watchers).
			hinted("raise LimitNOFILE or ulimit -n, or set %s lower", watchersKey)
	}
	return l.Connections, nil
}
