package acceptance

import (
	"bytes"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sidevault/sidevault/tools/acceptance/sidecar"
)

// TestSocketActivation starts a sidecar as systemd does: with a socket that takes
// connections already, to be told when it is ready, that it lives, and that it stops.
func TestSocketActivation(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "systemd-") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer manager.Close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	url := "http://" + l.Addr().String()
	// Sent before there is anybody to answer.
	early := make(chan error, 1)
	go func() {
		resp, err := http.Get(url + "/healthz")
		if err == nil {
			resp.Body.Close()
		}
		early <- err
	}()
	v := binary.Init(t)
	cmd, log := activated(t, v, l, manager.LocalAddr().String())
	wantsState(t, manager, "READY=1")
	if err := <-early; err != nil {
		t.Errorf("a request from before the start: %v", err)
	}
	sidecar.NewClient(t, url, v.AdminKey, recorder).Put(slot("slack", "staging"), value("x")).Wants(http.StatusCreated)
	for range 3 {
		wantsState(t, manager, "WATCHDOG=1")
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	wantsState(t, manager, "STOPPING=1")
	if err := cmd.Wait(); err != nil {
		t.Errorf("serve ended with %v\n%s", err, log)
	}
	if strings.Contains(log.String(), "8271") {
		t.Error("the sidecar has listened on the default address, too")
	}
}

// activated starts serve with a socket handed over, which the caller then has no part in.
func activated(t *testing.T, v *sidecar.Vault, l net.Listener, notify string) (*exec.Cmd, *bytes.Buffer) {
	t.Helper()
	socket, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	line := append([]string{"-c", `LISTEN_PID=$$ exec "$@"`, "sh", binary.Path(), "serve", "--environments", sidecar.Environments}, v.Args()...)
	cmd := exec.Command("sh", line...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "GORACE=atexit_sleep_ms=0",
		"LISTEN_FDS=1", "NOTIFY_SOCKET=" + notify, "WATCHDOG_USEC=200000"}
	cmd.ExtraFiles = []*os.File{socket}
	log := new(bytes.Buffer)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill() })
	l.Close()
	return cmd, log
}

// wantsState waits until the manager is told.
func wantsState(t *testing.T, manager *net.UnixConn, state string) {
	t.Helper()
	if err := manager.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	for told := make([]byte, 512); ; {
		n, err := manager.Read(told)
		if err != nil {
			t.Fatalf("the service manager is not told %s: %v", state, err)
		}
		if string(told[:n]) == state {
			return
		}
	}
}
