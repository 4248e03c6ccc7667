// Package host runs plugins: programs that nobody needs to trust. It implements the
// port vault.Plugins over the subprocesses of github.com/hashicorp/go-plugin.
//
// Every program is checked before each start (its owner, its mode, its SHA-256),
// started when it is first called, called with a deadline, started again with
// growing pauses when it crashes, and killed when it hangs. What it answers and logs
// is taken for hostile: bounded in size and rate, and struck out with the secrets
// that it has been given.
//
//	sidecar --- supervisor --- plugin --- whatever it starts
//
// Between the sidecar and each plugin stands a supervisor: this program again, in
// the mode of [Supervise]. It kills the plugin and all that the plugin has started
// when the sidecar asks or is gone, however it went. On Linux the plugin is confined
// with Landlock before it begins: it can read the system's programs and libraries,
// and write to its working directory alone.
//
// The package does not decide what an answer means, what is retried, or what a
// caller may see; the vault does.
package host

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/sidevault/sidevault/vault"
)

// Host starts, calls and stops plugins. It is safe for concurrent use.
type Host struct {
	cfg Config
	tun tuning
	dir string // parent of the working directories

	ctx    context.Context // done when the host kills what it has started
	cancel context.CancelFunc
	work   sync.WaitGroup // everything that runs on the host's behalf

	serial  atomic.Uint64 // names working directories
	unboxed sync.Once     // warns that there is no sandbox

	mu       sync.RWMutex
	programs map[string]*program
	closed   bool

	pidsMu sync.Mutex
	pids   map[int]bool   // the supervisors that run
	counts map[string]int // processes by program, those that drain included
}

var _ vault.Plugins = (*Host)(nil)

// New checks the configuration, and starts the eager programs in the background. A
// program that cannot be run is no error: States says what is wrong with it.
func New(cfg Config) (*Host, error) { return newHost(cfg, defaultTuning()) }

func newHost(cfg Config, tun tuning) (*Host, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	cfg.setDefaults()
	dir, err := os.MkdirTemp(cfg.RunDir, "sidevault-")
	if err != nil {
		return nil, fmt.Errorf("make a directory for plugins: %w", err)
	}
	if err := checkSocketPath(dir); err != nil {
		return nil, errors.Join(err, os.Remove(dir))
	}
	// A plugin that runs as another user must be able to reach its own directory.
	if err := os.Chmod(dir, 0o711); err != nil {
		return nil, errors.Join(err, os.Remove(dir))
	}
	h := &Host{cfg: cfg, tun: tun, dir: dir, programs: map[string]*program{}, pids: map[int]bool{}, counts: map[string]int{}}
	h.ctx, h.cancel = context.WithCancel(context.Background())
	for _, p := range cfg.Programs {
		h.programs[p.Name] = newProgram(h, p)
	}
	for _, p := range h.programs {
		p.wake()
	}
	return h, nil
}

// checkSocketPath refuses a directory whose sockets would have too long a name.
func checkSocketPath(dir string) error {
	const longest = 107 // struct sockaddr_un, less the final zero
	if name := filepath.Join(dir, "12345678", "plugin1234567890"); len(name) > longest {
		return fmt.Errorf("the directory %s for plugins has too long a name for the sockets in it: choose one that is %d bytes shorter", dir, len(name)-longest)
	}
	return nil
}

// Validate implements vault.Plugins.
func (h *Host) Validate(ctx context.Context, call vault.PluginCall) (vault.Validation, error) {
	c := &validateCall{call: call}
	err := h.call(ctx, call, c)
	return c.result, err
}

// Sync implements vault.Plugins.
func (h *Host) Sync(ctx context.Context, call vault.SyncCall) (vault.SyncResult, error) {
	c := &syncCall{call: call}
	err := h.call(ctx, call.PluginCall, c)
	return c.result, err
}

// States implements vault.Plugins.
func (h *Host) States() []vault.PluginState {
	h.mu.RLock()
	programs := make([]*program, 0, len(h.programs))
	for _, p := range h.programs {
		programs = append(programs, p)
	}
	h.mu.RUnlock()
	list := make([]vault.PluginState, 0, len(programs))
	for _, p := range programs {
		list = append(list, p.state())
	}
	slices.SortFunc(list, func(a, b vault.PluginState) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// program returns the configured program of that name.
func (h *Host) program(name string) (*program, error) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	if h.closed {
		return nil, &vault.PluginError{Plugin: name, Reason: "is stopped: the sidecar is shutting down"}
	}
	p := h.programs[name]
	if p == nil {
		return nil, &vault.PluginError{Plugin: name, Reason: "is not configured"}
	}
	return p, nil
}

// Reload puts another list of programs in force. Programs that have not changed, and
// whose files have not either, keep their processes and get a new chance if they are
// held back. Calls under way end where they began. A list that is not valid changes
// nothing.
func (h *Host) Reload(programs []Program) error {
	cfg := h.cfg
	cfg.Programs = programs
	if err := cfg.check(); err != nil {
		return err
	}
	programs = withDefaults(programs)
	kept := h.unchanged(programs)
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		return errors.New("the plugins are stopped")
	}
	old := h.programs
	h.programs = map[string]*program{}
	for _, p := range programs {
		if now := old[p.Name]; now != nil && kept[now] {
			h.programs[p.Name] = now
		} else {
			h.programs[p.Name] = newProgram(h, p)
		}
	}
	current := h.programs
	h.mu.Unlock()
	for name, p := range old {
		if current[name] != p {
			p.drain()
			h.cfg.Metrics.Quarantined(name, false)
		}
	}
	for _, p := range current {
		p.forgive()
		p.wake()
	}
	return nil
}

// unchanged returns the programs that stay as they are. It reads files, so it is not
// called with a lock held.
func (h *Host) unchanged(programs []Program) map[*program]bool {
	kept := map[*program]bool{}
	for _, p := range programs {
		h.mu.RLock()
		now := h.programs[p.Name]
		h.mu.RUnlock()
		if now != nil && now.same(p) {
			kept[now] = true
		}
	}
	return kept
}

// Close refuses further calls, waits for those under way until ctx ends, and kills
// what still runs. When it returns, no process, directory or goroutine is left.
func (h *Host) Close(ctx context.Context) error {
	h.mu.Lock()
	h.closed = true
	programs := h.programs
	h.programs = map[string]*program{}
	h.mu.Unlock()
	for _, p := range programs {
		p.drain()
	}
	done := make(chan struct{})
	go func() {
		h.work.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
	}
	h.cancel()
	<-done
	if err := os.RemoveAll(h.dir); err != nil {
		return fmt.Errorf("remove the directory of the plugins: %w", err)
	}
	return nil
}

// workDir makes the working directory of one process, which is its user's alone.
func (h *Host) workDir(id identity) (string, error) {
	dir := filepath.Join(h.dir, strconv.FormatUint(h.serial.Add(1), 10))
	if err := os.Mkdir(dir, 0o700); err != nil {
		return "", err
	}
	if !id.Set {
		return dir, nil
	}
	return dir, os.Lchown(dir, id.UID, id.GID)
}

func (h *Host) log(p string) *slog.Logger { return h.cfg.Logger.With("plugin", p) }

func (h *Host) born(pid int) {
	h.pidsMu.Lock()
	defer h.pidsMu.Unlock()
	h.pids[pid] = true
}

func (h *Host) died(pid int) {
	h.pidsMu.Lock()
	defer h.pidsMu.Unlock()
	delete(h.pids, pid)
}

// count adds to the number of a program's processes.
func (h *Host) count(name string, n int) {
	h.pidsMu.Lock()
	defer h.pidsMu.Unlock()
	h.counts[name] += n
	h.cfg.Metrics.Processes(name, h.counts[name])
}

// Owns reports whether a process is one of the host's or descends from one. A
// process that has ended is taken for one: a plugin's child may have handed on its
// connection and gone.
func (h *Host) Owns(pid int) bool {
	h.pidsMu.Lock()
	defer h.pidsMu.Unlock()
	return descends(pid, h.pids)
}
