package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
)

const (
	defaultListen = "127.0.0.1:8271"
	unixPrefix    = "unix://"
	probeTimeout  = time.Second
)

// address is where a sidecar listens.
type address struct {
	network string // tcp or unix
	at      string // host:port, or the socket's path
}

func (a address) String() string {
	if a.network == "unix" {
		return unixPrefix + a.at
	}
	return a.at
}

func parseAddress(s string) (address, error) {
	if path, ok := strings.CutPrefix(s, unixPrefix); ok {
		if !filepath.IsAbs(path) {
			return address{}, fmt.Errorf("%q: a socket has an absolute path, as in unix:///run/sidevault/sidevault.sock", s)
		}
		return address{network: "unix", at: filepath.Clean(path)}, nil
	}
	_, port, err := net.SplitHostPort(s)
	if err != nil {
		return address{}, fmt.Errorf("%q is neither host:port nor unix:///path.sock", s)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return address{}, fmt.Errorf("%q: the port is a number up to 65535", s)
	}
	return address{network: "tcp", at: s}, nil
}

// checkListen refuses addresses that would send secrets over a network in clear.
func checkListen(cfg settings) error {
	for _, a := range cfg.Listen {
		if a.network != "tcp" || cfg.TLSCert != "" {
			continue
		}
		at, err := net.ResolveTCPAddr("tcp", a.at)
		if err != nil {
			return usagef("listen on %s", a).because(err)
		}
		if !at.IP.IsLoopback() {
			return inClear(a)
		}
	}
	return nil
}

func inClear(a address) error {
	return usagef("%s is not a loopback address, and secrets would cross the network in clear", a).
		hinted("set tls.cert and tls.key, or listen on %s", defaultListen)
}

// listen opens every address, or none. Sockets that the process was started with
// stand in for the default address.
func listen(ctx context.Context, cfg settings) (open []net.Listener, err error) {
	defer func() {
		if err != nil {
			closeAll(open)
		}
	}()
	if open, err = inherited(cfg); err != nil || len(open) > 0 && !cfg.given["listen"] {
		return open, err
	}
	for _, a := range cfg.Listen {
		l, err := a.listen(ctx, cfg.SocketMode)
		if err != nil {
			return open, explainListen(a, err)
		}
		open = append(open, l)
	}
	return open, nil
}

// activated reports whether a service manager says that it has handed over sockets.
func activated(sh *shell) bool { return sh.getenv("LISTEN_FDS") != "" }

// inherited returns the sockets that systemd, or what speaks its protocol
// (sd_listen_fds(3)), has opened for this process.
func inherited(cfg settings) ([]net.Listener, error) {
	all, err := activation.Listeners()
	if err != nil {
		return nil, failf(exitError, "take over the sockets of the service manager").because(err)
	}
	for i, l := range all {
		if l == nil {
			return all, failf(exitError, "socket %d of those that the service manager handed over is none that takes connections", i).
				hinted("use ListenStream= in the socket unit")
		}
		at, tcp := l.Addr().(*net.TCPAddr)
		if tcp && !at.IP.IsLoopback() && cfg.TLSCert == "" {
			return all, inClear(address{network: "tcp", at: at.String()})
		}
	}
	return all, nil
}

// addressOf is where a listener listens, with the port that it got.
func addressOf(l net.Listener) string {
	return address{network: l.Addr().Network(), at: l.Addr().String()}.String()
}

func closeAll(open []net.Listener) {
	for _, l := range open {
		if l != nil {
			l.Close()
		}
	}
}

func (a address) listen(ctx context.Context, mode fs.FileMode) (net.Listener, error) {
	if a.network == "unix" {
		return a.listenUnix(ctx, mode)
	}
	return new(net.ListenConfig).Listen(ctx, a.network, a.at)
}

// listenUnix makes the socket for those whom the mode names. Until it is so, the
// umask keeps others out.
func (a address) listenUnix(ctx context.Context, mode fs.FileMode) (net.Listener, error) {
	if err := a.removeStale(ctx); err != nil {
		return nil, err
	}
	l, err := new(net.ListenConfig).Listen(ctx, a.network, a.at)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(a.at, mode); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// removeStale removes a socket that nobody answers on.
func (a address) removeStale(ctx context.Context) error {
	info, err := os.Lstat(a.at)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode()&fs.ModeSocket == 0 {
		return fmt.Errorf("%s exists and is not a socket: choose another path", a.at)
	}
	conn, err := (&net.Dialer{Timeout: probeTimeout}).DialContext(ctx, a.network, a.at)
	if err == nil {
		conn.Close()
		return syscall.EADDRINUSE
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return err
	}
	return os.Remove(a.at)
}

func explainListen(a address, err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return failf(exitError, "%s is in use by another program", a).
			hinted("stop that one, or choose another address with --listen")
	case errors.Is(err, fs.ErrPermission):
		return failf(exitError, "this user may not listen on %s", a).hinted("choose another address with --listen")
	}
	return failf(exitError, "listen on %s", a).because(err)
}
