package guide

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sidevault/sidevault/tools/acceptance/sidecar"
)

// How long a block may take, and how long what it leaves running may take to be there
// and to end.
const (
	patience = 5 * time.Minute
	ending   = 20 * time.Second
)

// Reader is somebody with a terminal. What a block assigns, exports and defines is there
// in the next one.
type Reader struct {
	Dir string   // where they stand
	Env []string // all of it

	// Stays are the commands that do not end, by their first words: such a line, the last
	// of its block, goes to a terminal of its own, and the reader goes on when the
	// function says so. It is given what was printed there so far.
	Stays map[string]func(r *Reader, said string) bool

	replace []string
	exports []string // since the last block
	state   string
	running []*terminal
}

// Put has another text typed in place of one that documents have, as an address. The last
// one for a text counts.
func (r *Reader) Put(printed, typed string) {
	r.replace = append([]string{printed, typed}, r.replace...)
}

// Typed returns what is typed in place of a text.
func (r *Reader) Typed(text string) string { return strings.NewReplacer(r.replace...).Replace(text) }

// Export sets a variable for what is typed from then on.
func (r *Reader) Export(name, value string) { r.exports = append(r.exports, name+"="+value) }

// Follow types blocks, one after the other, and fails the test at the first that fails
// or prints something else than it says. What was left running is ended after the test.
func (r *Reader) Follow(t testing.TB, blocks []Block) {
	t.Helper()
	if len(blocks) == 0 {
		t.Fatal("there is nothing to type")
	}
	if r.state == "" {
		r.sit(t)
	}
	for _, b := range blocks {
		commands, stays, ready := r.split(b)
		if strings.TrimSpace(commands) != "" {
			printed, err := r.typed(t.Context(), commands)
			if err == nil {
				err = b.compare(printed)
			}
			if err != nil {
				t.Fatalf("%s:%d: %v\n%s", b.Document, b.Line, err, b.Text)
			}
		}
		if ready != nil {
			if err := r.stay(stays, ready); err != nil {
				t.Fatalf("%s:%d: %v\n%s", b.Document, b.Line, err, b.Text)
			}
		}
	}
}

// sit begins to type.
func (r *Reader) sit(t testing.TB) {
	t.Helper()
	r.state = filepath.Join(t.TempDir(), "state")
	if err := os.WriteFile(r.state, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Leave(t) })
}

// split parts a block from its last line when that does not end.
func (r *Reader) split(b Block) (commands, stays string, ready func(*Reader, string) bool) {
	lines := strings.Split(strings.TrimRight(b.Text, "\n"), "\n")
	last := lines[len(lines)-1]
	for words, ready := range r.Stays {
		if strings.HasPrefix(last, words) {
			return strings.Join(lines[:len(lines)-1], "\n"), last, ready
		}
	}
	return b.Text, "", nil
}

// keep writes down what the next block is to find. The state holds what a block has read
// into a variable: it is in a directory of the test's own.
const keep = "set -aEeuo pipefail\n" + take + `trap 'code=$?; { export -p; declare -f; printf "cd %q\n" "$PWD"; } > "$1"; exit $code' EXIT
`

// take gives a block what there is.
const take = `. "$1"
for variable in "${@:2}"; do export "$variable"; done
`

// typed returns what a block prints to standard output. The error of one that fails has
// what it printed to standard error.
func (r *Reader) typed(ctx context.Context, commands string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	cmd := r.shell(ctx, keep+r.Typed(commands))
	r.exports = nil
	var stdout, stderr sidecar.Log
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if strings.Contains(stderr.String(), "WARNING: DATA RACE") {
		return "", fmt.Errorf("a data race: %s", stderr.String())
	}
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, stderr.String())
	}
	return stdout.String(), nil
}

func (r *Reader) shell(ctx context.Context, script string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "bash", append([]string{"-c", script, "bash", r.state}, r.exports...)...)
	cmd.Dir, cmd.Env = r.Dir, r.Env
	return cmd
}

// terminal is where something was left running.
type terminal struct {
	cmd  *exec.Cmd
	said sidecar.Log
	done chan error
}

// stay leaves a command running, and returns when it is ready.
func (r *Reader) stay(line string, ready func(*Reader, string) bool) error {
	at := &terminal{cmd: r.shell(context.Background(), take+r.Typed(line)), done: make(chan error, 1)}
	at.cmd.Stdout, at.cmd.Stderr = &at.said, &at.said
	// make and a shell do not hand signals on.
	at.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	r.exports = nil
	if err := at.cmd.Start(); err != nil {
		return err
	}
	go func() { at.done <- at.cmd.Wait() }()
	r.running = append(r.running, at)
	for end := time.Now().Add(patience); time.Now().Before(end); {
		if ready(r, at.said.String()) {
			return nil
		}
		select {
		case err := <-at.done:
			at.done <- err
			return fmt.Errorf("it ended: %w: %s", err, at.said.String())
		case <-time.After(10 * time.Millisecond):
		}
	}
	return fmt.Errorf("nothing comes of it: %s", at.said.String())
}

// Leave ends what was left running, the last first, as the end of the test does.
func (r *Reader) Leave(t testing.TB) {
	t.Helper()
	for i := len(r.running) - 1; i >= 0; i-- {
		at := r.running[i]
		syscall.Kill(-at.cmd.Process.Pid, syscall.SIGTERM)
		select {
		case <-at.done:
		case <-time.After(ending):
			syscall.Kill(-at.cmd.Process.Pid, syscall.SIGKILL)
			t.Errorf("%q does not end", at.cmd.Args)
		}
		if strings.Contains(at.said.String(), "WARNING: DATA RACE") {
			t.Errorf("a data race: %s", at.said.String())
		}
	}
	r.running = nil
}
