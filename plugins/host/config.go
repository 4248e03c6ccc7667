package host

import (
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Config says which programs there are, and how they are run.
type Config struct {
	Programs []Program
	// Supervisor is the command line that makes this program call [Supervise] with
	// what follows it, such as /proc/self/exe plugin-supervisor.
	Supervisor []string
	Options
}

// Options may all be left out.
type Options struct {
	Sandbox Sandbox
	RunDir  string       // parent of the processes' working directories; default os.TempDir()
	Logger  *slog.Logger // default: discard
	Metrics Metrics      // default: count nothing
}

// Sandbox says whether programs are confined.
type Sandbox string

// The modes. Supervision is the same in all.
const (
	Auto     Sandbox = ""         // confined where the kernel can do it
	Required Sandbox = "required" // not run where it cannot
	Off      Sandbox = "off"
)

// Program is a configured plugin.
type Program struct {
	Name, Path    string // Path is absolute
	Args          []string
	SHA256        string            // in hexadecimal; "" only with AllowUnpinned
	AllowUnpinned bool              // for development
	Files         map[string]string // further files and their SHA-256: the scripts and modules of an interpreter
	// Env is the whole environment, but for what the handshake needs and for PATH,
	// LANG, HOME and TMPDIR, which have defaults.
	Env       map[string]string
	Read      []string // further paths that it may read and run
	User      string   // runs it, when the sidecar is root; "": the sidecar's own
	Instances int      // processes at most; default 1
	Calls     int      // calls at once, to all instances; default 16
	Eager     bool     // started before it is called
}

// Metrics counts. Its methods are called concurrently and must not block.
type Metrics interface {
	// Call counts a call. Outcome is ok, rejected, failed, unavailable, timeout or
	// busy.
	Call(plugin, service, outcome string, took time.Duration)
	Restart(plugin string)
	Processes(plugin string, n int)
	Quarantined(plugin string, yes bool)
}

type noMetrics struct{}

func (noMetrics) Call(string, string, string, time.Duration) {}
func (noMetrics) Restart(string)                             {}
func (noMetrics) Processes(string, int)                      {}
func (noMetrics) Quarantined(string, bool)                   {}

// tuning are the host's times. Tests have shorter ones.
type tuning struct {
	start      time.Duration // for the handshake
	recheck    time.Duration // between two looks at a file that is not as it should be
	firstPause time.Duration // before the second restart; doubles
	maxPause   time.Duration
	crashes    int           // in a row, before the quarantine
	quarantine time.Duration // the first; doubles
	maxQuar    time.Duration
	grace      time.Duration // for calls on a process that missed a deadline
	shutdown   time.Duration // for a process to end by itself when asked to
	landlock   func() bool   // whether the kernel can confine
}

func defaultTuning() tuning {
	return tuning{
		start: 10 * time.Second, recheck: time.Second,
		firstPause: 500 * time.Millisecond, maxPause: 30 * time.Second,
		crashes: 5, quarantine: time.Minute, maxQuar: 10 * time.Minute,
		grace: 2 * time.Second, shutdown: time.Second, landlock: canConfine,
	}
}

func (c *Config) setDefaults() {
	if c.RunDir == "" {
		c.RunDir = os.TempDir()
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Metrics == nil {
		c.Metrics = noMetrics{}
	}
	c.Programs = withDefaults(c.Programs)
}

func withDefaults(programs []Program) []Program {
	programs = slices.Clone(programs)
	for i := range programs {
		p := &programs[i]
		p.Instances, p.Calls = max(1, p.Instances), cmpOr(p.Calls, 16)
		p.SHA256 = strings.ToLower(p.SHA256)
	}
	return programs
}

func cmpOr(n, otherwise int) int {
	if n <= 0 {
		return otherwise
	}
	return n
}

func (c *Config) check() error {
	switch c.Sandbox {
	case Auto, Required, Off:
	default:
		return fmt.Errorf("the sandbox mode %q is not known: use %q or %q, or leave it out", c.Sandbox, Required, Off)
	}
	if len(c.Supervisor) == 0 {
		return errors.New("no command line for supervisors")
	}
	if c.RunDir != "" && !filepath.IsAbs(c.RunDir) {
		return fmt.Errorf("the directory %s for plugins is not an absolute path", c.RunDir)
	}
	seen := map[string]bool{}
	for _, p := range c.Programs {
		if err := p.check(); err != nil {
			return fmt.Errorf("plugin %s: %w", p.Name, err)
		}
		if seen[p.Name] {
			return fmt.Errorf("plugin %s is configured twice", p.Name)
		}
		seen[p.Name] = true
	}
	return nil
}

var nameRE = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$`)

func (p *Program) check() error {
	switch {
	case !nameRE.MatchString(p.Name):
		return fmt.Errorf("%q is not a name: use 1 to 100 of A-Z a-z 0-9 . _ - with a letter or digit first", p.Name)
	case !filepath.IsAbs(p.Path):
		return fmt.Errorf("the path %q is not absolute", p.Path)
	case p.SHA256 == "" && !p.AllowUnpinned:
		return fmt.Errorf("sha256 is missing: set it to what `sha256sum %s` prints", p.Path)
	case p.SHA256 != "" && !isSum(p.SHA256):
		return errors.New("sha256 is not 64 hexadecimal digits")
	}
	for _, path := range slices.Sorted(maps.Keys(p.Files)) {
		if !filepath.IsAbs(path) || !isSum(p.Files[path]) {
			return fmt.Errorf("the file %q needs an absolute path and a sha256 of 64 hexadecimal digits", path)
		}
	}
	for _, path := range p.Read {
		if !filepath.IsAbs(path) {
			return fmt.Errorf("the path %q to read is not absolute", path)
		}
	}
	for name, value := range p.Env {
		// The value may be a secret, so it is not in the text.
		if name == "" || strings.ContainsAny(name, "=\x00") || strings.Contains(value, "\x00") || strings.HasPrefix(name, "PLUGIN_") {
			return fmt.Errorf("the environment variable %q cannot be set", name)
		}
	}
	return nil
}

func isSum(s string) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(b) == 32
}
