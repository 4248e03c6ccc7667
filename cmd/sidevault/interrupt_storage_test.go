package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// interruptedOnce runs a command line, made anew for each try, until a signal has come in
// the midst of it: after the file was there, and before the end.
func interruptedOnce(t *testing.T, line func() (args []string, file string)) (args []string, file string, got outcome) {
	t.Helper()
	for range 20 {
		args, file = line()
		cmd := invocation{args: args}.command(context.Background(), t)
		var out, errs bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &errs
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan struct{})
		go func() {
			_ = cmd.Wait() // the code says how it ended
			close(ended)
		}()
		for at := time.Tick(time.Millisecond); !exists(file); {
			select {
			case <-at:
				continue
			case <-ended:
				t.Fatalf("it ended before it began: %s", errs.String())
			}
		}
		cmd.Process.Signal(syscall.SIGINT)
		<-ended
		if got = (outcome{cmd.ProcessState.ExitCode(), out.String(), errs.String()}); got.code != int(exitOK) {
			return args, file, got
		}
	}
	t.Fatal("it always came to its end")
	return nil, "", outcome{}
}

// A migration and a restore that are interrupted say so, leave what the next run goes on
// with and nothing besides, and the source as it was.
func TestStorageInterrupted(t *testing.T) {
	t.Parallel()
	dir, _ := makeVault(t)
	fill(t, dir)
	backup, identity := filepath.Join(t.TempDir(), "b.age"), filepath.Join(dir, identityFile)
	sidevault(t, "backup", backup, "--data-dir", dir).wants(t, exitOK)
	before := headOf(t, dir)
	for name, c := range map[string]struct {
		line  func(to string) []string
		again []string
		left  []string
	}{
		"migrate": {func(to string) []string { return []string{"migrate", "--from", fileURL(dir), "--to", fileURL(to)} }, []string{"--resume"}, []string{vaultFile}},
		"restore": {func(to string) []string {
			return []string{"restore", backup, "--data-dir", to, "--identity", identity, "--keep-damaged"}
		}, nil, []string{vaultFile, trustFile}},
	} {
		t.Run(name, func(t *testing.T) {
			args, file, got := interruptedOnce(t, func() ([]string, string) {
				to := filepath.Join(t.TempDir(), "to")
				if err := os.Mkdir(to, 0o700); err != nil {
					t.Fatal(err)
				}
				return c.line(to), filepath.Join(to, vaultFile)
			})
			got.wants(t, exitError, "interrupted", "hint:")
			var names []string
			for _, entry := range left(t, filepath.Dir(file)) {
				names = append(names, entry.Name())
			}
			if slices.Sort(names); !slices.Equal(names, c.left) {
				t.Errorf("left: %s", strings.Join(names, ", "))
			}
			sidevault(t, append(args, c.again...)...).wants(t, exitOK)
		})
	}
	if after := headOf(t, dir); after != before {
		t.Errorf("the source was at %+v, and is at %+v", before, after)
	}
}
