package main

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/pprof"

	"github.com/sidevault/sidevault/api/peercred"
	"github.com/sidevault/sidevault/api/rest"
)

const (
	debugListenKey = "debug-listen"
	profilesPath   = "/debug/pprof/"
)

func applyDebugListen(c *settings, v []string) error {
	c.DebugListen = nil
	if v[0] == "" {
		return nil
	}
	a, err := parseAddress(v[0])
	c.DebugListen = &a
	return err
}

// checkDebugListen refuses an address that others than this host's programs reach: with
// TLS, too, since profiles are for whoever operates the host.
func checkDebugListen(cfg settings) error {
	if cfg.DebugListen == nil || cfg.DebugListen.network != "tcp" {
		return nil
	}
	at, err := net.ResolveTCPAddr("tcp", cfg.DebugListen.at)
	if err != nil {
		return usagef("%s: listen on %s", debugListenKey, cfg.DebugListen).because(err)
	}
	if !at.IP.IsLoopback() {
		return usagef("%s: %s is not a loopback address", debugListenKey, cfg.DebugListen).
			hinted("listen on 127.0.0.1 or on a socket, as in unix:///run/sidevault/debug.sock")
	}
	return nil
}

// debugger answers profiles of the process; nil: it is off, as by default.
type debugger struct {
	listener net.Listener
	http     *http.Server
}

// openDebugger opens the listener for profiles, if the settings want one.
func openDebugger(ctx context.Context, cfg settings) (*debugger, error) {
	if cfg.DebugListen == nil {
		return nil, nil
	}
	l, err := cfg.DebugListen.listen(ctx, cfg.SocketMode)
	if err != nil {
		return nil, explainListen(*cfg.DebugListen, err)
	}
	return &debugger{listener: l}, nil
}

// answer sets what the debugger serves. The limits of a connection are those of main.
func (d *debugger) answer(api *rest.API, main *http.Server) {
	if d == nil {
		return
	}
	d.http = &http.Server{
		Handler:           api.Profiles(profilesPath, profiles()),
		ConnContext:       peercred.Attach,
		ReadHeaderTimeout: main.ReadHeaderTimeout,
		ReadTimeout:       main.ReadTimeout,
		WriteTimeout:      main.WriteTimeout,
		IdleTimeout:       main.IdleTimeout,
		MaxHeaderBytes:    main.MaxHeaderBytes,
		ErrorLog:          main.ErrorLog,
	}
}

// profiles answers with the profiles of the Go runtime, which hold no memory's content.
func profiles() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc(profilesPath, pprof.Index) // and the profiles by name
	mux.HandleFunc(profilesPath+"profile", pprof.Profile)
	mux.HandleFunc(profilesPath+"trace", pprof.Trace)
	return mux
}

func (d *debugger) address() string { return addressOf(d.listener) }

func (d *debugger) serve() error {
	if err := d.http.Serve(d.listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// close ends what is under way: nobody waits for a profile of a process that ends.
func (d *debugger) close() {
	switch {
	case d == nil:
	case d.http == nil:
		d.listener.Close()
	default:
		d.http.Close()
	}
}
