package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sidevault/sidevault/vault"
)

// backupPlan is what the settings say of scheduled backups.
type backupPlan struct {
	Dir      string // "": there are none
	Interval time.Duration
	Keep     int
}

const (
	leastInterval = time.Minute
	mostInterval  = 366 * 24 * time.Hour
	mostBackups   = 10_000
)

func backupTable() []setting {
	return []setting{
		{key: "memory-lock", def: []string{"auto"},
			help:  "`whether` to keep the process's memory out of swap: auto (where the system sets no limit) or off",
			apply: applyMemoryLock},
		{key: "backup.dir", path: true,
			help:  "`directory` that the sidecar writes backups of the vault to; default none",
			apply: text(func(c *settings) *string { return &c.Backups.Dir })},
		{key: "backup.interval", def: []string{"24h"},
			help:  "`time` from one backup to the next, 1m to 8784h",
			apply: applyBackupInterval},
		{key: "backup.keep", def: []string{"7"},
			help:  fmt.Sprintf("`number` of backups that are kept, the newest, 1 to %d", mostBackups),
			apply: applyBackupKeep},
	}
}

func applyMemoryLock(c *settings, v []string) error {
	var s string
	err := oneOf(func(*settings) *string { return &s }, "auto", "off")(c, v)
	c.LockMemory = s == "auto"
	return err
}

func applyBackupInterval(c *settings, v []string) error {
	d, err := time.ParseDuration(v[0])
	if err != nil || d < leastInterval || d > mostInterval {
		return fmt.Errorf("%q is not a duration from 1m to 8784h", v[0])
	}
	c.Backups.Interval = d
	return nil
}

func applyBackupKeep(c *settings, v []string) error {
	n, err := strconv.Atoi(v[0])
	if err != nil || n < 1 || n > mostBackups {
		return fmt.Errorf("%q is not a number from 1 to %d", v[0], mostBackups)
	}
	c.Backups.Keep = n
	return nil
}

// backups writes a backup now and then.
type backups struct {
	plan    backupPlan
	vault   *vault.Vault
	log     *slog.Logger
	last    prometheus.Gauge
	total   *prometheus.CounterVec
	fault   atomic.Pointer[string] // why the last one failed, for /readyz; nil: it did not
	stop    context.CancelFunc
	stopped chan struct{}
}

const (
	// jitterPart is which part of the interval backups are put off by at most, so that
	// many sidecars do not write at the same moment.
	jitterPart = 10
	// hurry is how long after a failure, at most, the next try comes.
	hurry = 5 * time.Minute
	// abandoned is when what a killed process had begun to write is removed.
	abandoned = 24 * time.Hour

	backupTime = "20060102T150405Z"
)

// startBackups returns nil when the settings want none.
func startBackups(plan backupPlan, v *vault.Vault, log *slog.Logger, registry prometheus.Registerer) (*backups, error) {
	if plan.Dir == "" {
		return nil, nil
	}
	if err := os.Mkdir(plan.Dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, failf(exitError, "backup.dir").because(err)
	}
	b := &backups{
		plan: plan, vault: v, log: log, stopped: make(chan struct{}),
		last: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "sidevault_backup_last_success_timestamp_seconds", Help: "When the last scheduled backup was begun that succeeded; 0 when none has.",
		}),
		total: counter("sidevault_backups_total", "Scheduled backups, by outcome: ok or failed.", "outcome"),
	}
	b.total.WithLabelValues("ok")
	b.total.WithLabelValues("failed")
	files, err := b.files()
	if err != nil {
		return nil, failf(exitError, "backup.dir").because(err).hinted("name a directory that the sidecar can write to")
	}
	registry.MustRegister(b.last, b.total)
	ctx, cancel := context.WithCancel(context.Background())
	b.stop = cancel
	go b.run(ctx, newest(files))
	return b, nil
}

// check returns what /readyz asks, nil where no backups are wanted. It is shown to
// everyone, so it says no more than that there is a fault: the log says which.
func (b *backups) check() func() string {
	if b == nil {
		return nil
	}
	return func() string {
		if reason := b.fault.Load(); reason != nil {
			return *reason
		}
		return ""
	}
}

// failed tells of a backup that was not written.
func (b *backups) failed(path string, err error) {
	b.total.WithLabelValues("failed").Inc()
	b.log.Error("the scheduled backup failed", "file", path, "err", err)
	reason := "the last one failed, and there is none"
	if files, err := b.files(); err != nil {
		reason = "the last one failed, and the directory cannot be read"
	} else if at := newest(files); !at.IsZero() {
		reason = "the last one failed; the newest is of " + at.Format(vault.TimeFormat)
	}
	b.fault.Store(&reason)
}

// close ends a backup under way and waits for that.
func (b *backups) close() {
	if b != nil {
		b.stop()
		<-b.stopped
	}
}

func (b *backups) run(ctx context.Context, last time.Time) {
	defer close(b.stopped)
	next := last.Add(b.plan.Interval) // the first of all, and one that is overdue, at once
	if !last.IsZero() {
		b.last.Set(float64(last.Unix()))
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Until(next)):
		}
		at := time.Now()
		if b.once(ctx, at) {
			next = at.Add(b.plan.Interval - rand.N(b.plan.Interval/jitterPart))
		} else {
			next = at.Add(min(b.plan.Interval, hurry))
		}
	}
}

// once writes one backup and removes those that are too many. It reports whether there
// is a new one.
func (b *backups) once(ctx context.Context, at time.Time) bool {
	path := filepath.Join(b.plan.Dir, b.prefix()+at.UTC().Format(backupTime)+backupSuffix)
	done, err := b.write(ctx, path)
	if ctx.Err() != nil && err != nil {
		return false
	}
	if err != nil {
		b.failed(path, err)
		return false
	}
	b.fault.Store(nil)
	b.total.WithLabelValues("ok").Inc()
	b.last.Set(float64(at.Unix()))
	b.log.Info("a scheduled backup was written", "file", path, "records", done.Records, "audit_entries", done.Head.Seq, "took", time.Since(at))
	if err := b.prune(); err != nil {
		b.log.Warn("old backups could not be removed", "dir", b.plan.Dir, "err", err)
	}
	return true
}

func (b *backups) write(ctx context.Context, path string) (vault.BackedUp, error) {
	file, err := createPending(path)
	if err != nil {
		return vault.BackedUp{}, err
	}
	done, err := b.vault.BackupStorage(ctx, "schedule", file, vault.BackupOptions{})
	if err != nil {
		return done, errors.Join(err, file.drop())
	}
	return done, file.keep()
}

const backupSuffix = ".age"

// prefix begins the names of this vault's backups: others in the directory are let
// alone.
func (b *backups) prefix() string { return "sidevault-" + b.vault.ID()[:8] + "-" }

// files returns the names of the backups that there are, oldest first.
func (b *backups) files() ([]string, error) {
	entries, err := os.ReadDir(b.plan.Dir)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if _, ok := b.made(e.Name()); ok && e.Type().IsRegular() {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	return names, nil
}

// made reads from a name when that backup was begun. One of the future, from when a clock
// was wrong, is let alone, too: it must neither keep others off nor have them removed.
func (b *backups) made(name string) (time.Time, bool) {
	text, ok := strings.CutPrefix(name, b.prefix())
	text, age := strings.CutSuffix(text, backupSuffix)
	at, err := time.Parse(backupTime, text)
	return at, ok && age && err == nil && time.Until(at) < leastInterval
}

func newest(names []string) time.Time {
	if len(names) == 0 {
		return time.Time{}
	}
	name := strings.TrimSuffix(names[len(names)-1], backupSuffix)
	at, _ := time.Parse(backupTime, name[strings.LastIndexByte(name, '-')+1:])
	return at
}

// prune removes all but the newest, and what killed processes have left.
func (b *backups) prune() error {
	names, err := b.files()
	if err != nil {
		return err
	}
	for _, name := range names[:max(0, len(names)-b.plan.Keep)] {
		err = errors.Join(err, os.Remove(filepath.Join(b.plan.Dir, name)))
	}
	left, globErr := filepath.Glob(filepath.Join(escapeGlob(b.plan.Dir), "."+b.prefix()+"*"))
	for _, path := range left {
		if info, statErr := os.Lstat(path); statErr == nil && time.Since(info.ModTime()) > abandoned {
			err = errors.Join(err, os.Remove(path))
		}
	}
	return errors.Join(err, globErr)
}
