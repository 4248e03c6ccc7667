package acceptance

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"
)

// burdens are the kinds of bad clients, as programs/crowd has them.
var burdens = []string{
	"half-open", "idle", "slow headers", "slow bodies", "slow readers", "header flood", "body flood", "watchers", "blocked plugin",
}

// burden is bad clients in a process of their own.
type burden struct {
	t     *testing.T
	kind  string
	cmd   *exec.Cmd
	input io.WriteCloser
	words *bufio.Scanner
	said  strings.Builder
}

// carry starts bad clients of one kind.
func (l *loaded) carry(t *testing.T, kind string) *burden {
	t.Helper()
	c := &burden{t: t, kind: kind, cmd: exec.CommandContext(t.Context(), binary.BuildProgram(t, "./programs/crowd"))}
	c.cmd.Stderr = &c.said
	output, err := c.cmd.StdoutPipe()
	must(t, err)
	c.words = bufio.NewScanner(output)
	c.input, err = c.cmd.StdinPipe()
	must(t, err)
	must(t, c.cmd.Start())
	must(t, json.NewEncoder(c.input).Encode(map[string]any{
		"Kind": kind, "Address": strings.TrimPrefix(l.s.URL, "http://"), "Key": l.s.AdminKey,
		"Connections": l.of.connections, "Senders": l.of.senders, "Watchers": l.of.watchers,
	}))
	return c
}

// await waits for a word of theirs.
func (c *burden) await(word string) {
	c.t.Helper()
	if !c.words.Scan() || c.words.Text() != word {
		c.input.Close()
		_ = c.cmd.Wait() // what it has to say is what counts
		c.t.Fatalf("%s: there is no word %q: %s", c.kind, word, c.said.String())
	}
}

// end ends them. What the sidecar did to them that it should not have is an error.
func (c *burden) end() {
	c.t.Helper()
	c.input.Close()
	if err := c.cmd.Wait(); err != nil {
		c.t.Errorf("%s: %v: %s", c.kind, err, c.said.String())
	}
}

// watched has all watchers told of a change, and goes on to tell them of one a second.
// One more watcher is refused.
func (l *loaded) watched(ctx context.Context, t *testing.T, c *burden) {
	t.Helper()
	c.await("watching")
	admin := l.s.Admin()
	admin.Get("/v1/watch").Fails(http.StatusTooManyRequests, "RATE_LIMITED")
	began := time.Now()
	admin.Put(slot("sftp", "staging"), value("x"))
	c.await("carried")
	t.Logf("%d watchers have seen a change after %v", l.of.watchers, time.Since(began).Round(time.Millisecond))
	l.done.Go(func() {
		again := time.NewTicker(time.Second)
		defer again.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-again.C:
				_, _ = admin.Try(http.MethodPut, slot("sftp", "staging"), value("x"))
			}
		}
	})
}

// latencies are what programs/readers reports.
type latencies struct {
	Reads              int
	Median, P99, Worst time.Duration
}

func (l latencies) String() string {
	return fmt.Sprintf("median %6v, p99 %6v, worst %6v of %d", l.Median.Round(10*time.Microsecond), l.P99.Round(10*time.Microsecond), l.Worst.Round(10*time.Microsecond), l.Reads)
}

// read resolves from new connections, and is never refused.
func (l *loaded) read(t *testing.T, during time.Duration) (took latencies) {
	t.Helper()
	order, err := json.Marshal(map[string]any{
		"URL": l.s.URL + resolve("slack", "staging"), "Key": l.s.AdminKey, "Wants": `"kept"`, "Readers": 4, "For": during,
	})
	must(t, err)
	cmd := exec.CommandContext(t.Context(), binary.BuildProgram(t, "./programs/readers"))
	cmd.Stdin = strings.NewReader(string(order))
	var said strings.Builder
	cmd.Stderr = &said
	output, err := cmd.Output()
	if err != nil {
		t.Fatalf("read: %v: %s", err, said.String())
	}
	must(t, json.Unmarshal(output, &took))
	return took
}

// processor is for how long a process has had a processor (proc_pid_stat(5)).
func processor(t *testing.T, pid int) time.Duration {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	must(t, err)
	// The name in parentheses may have spaces.
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	var ticks int
	for _, f := range fields[11:13] {
		n, err := strconv.Atoi(f)
		must(t, err)
		ticks += n
	}
	const tick = time.Second / 100 // USER_HZ, which is the same everywhere
	return time.Duration(ticks) * tick
}
