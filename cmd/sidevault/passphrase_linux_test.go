package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// openTerminal returns both ends of a pseudo terminal.
func openTerminal(t *testing.T) (master, terminal *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { master.Close() })
	fd := int(master.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	terminal, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { terminal.Close() })
	return master, terminal
}

// atTerminal runs a command whose standard input and error are a terminal, types a
// line when it is asked for one, and returns its exit code, what it printed, and what
// the terminal showed.
func atTerminal(t *testing.T, line string, args ...string) (code int, printed, shown string) {
	t.Helper()
	master, terminal := openTerminal(t)
	cmd := invocation{args: args}.command(t.Context(), t)
	var out bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = terminal, &out, terminal
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	terminal.Close()
	var screen lockedBuffer
	read := make(chan struct{})
	go func() {
		io.Copy(&screen, master) // until the other end is closed
		close(read)
	}()
	eventually(t, "it asks for a passphrase", func() bool { return strings.Contains(screen.String(), "(not shown): ") })
	fmt.Fprintln(master, line)
	err := cmd.Wait()
	select {
	case <-read:
	case <-time.After(deadline):
		t.Fatalf("the terminal stays open after %v", err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), screen.String()
}

func TestPassphrasePrompt(t *testing.T) {
	t.Parallel()
	dir, _ := makeVault(t)
	identity := filepath.Join(dir, identityFile)
	protect(t, identity, "open sesame")
	for passphrase, want := range map[string]struct {
		code exitCode
		says string
	}{
		"open sesame": {exitOK, "production"},
		"open barley": {exitDenied, "the passphrase is wrong"},
		"":            {exitError, "the passphrase is empty"},
	} {
		code, printed, shown := atTerminal(t, passphrase, "env", "keys", "--data-dir", dir)
		if code != int(want.code) || !strings.Contains(printed+shown, want.says) {
			t.Errorf("%q: exit code %d, want %d and %q: %s%s", passphrase, code, want.code, want.says, printed, shown)
		}
		if !strings.Contains(shown, "passphrase of "+identity) {
			t.Errorf("it does not say which passphrase it wants: %s", shown)
		}
		if passphrase != "" && strings.Contains(printed+shown, passphrase) {
			t.Error("the terminal shows the passphrase")
		}
	}
}
