package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/sidevault/sidevault/tools/bench/load"
)

// profileVariable names the socket that a profiled sidevault answers pprof on.
const profileVariable = "BENCH_PPROF"

// profileSource is laid into cmd/sidevault by the build of a profiled sidevault.
//
//go:embed testdata/profiled.go.txt
var profileSource []byte

// buildProfiled builds the program as it is released, but for a socket that answers pprof.
func buildProfiled(ctx context.Context, dir string) (string, error) {
	source := filepath.Join(dir, "profiled.go")
	if err := os.WriteFile(source, profileSource, 0o600); err != nil {
		return "", err
	}
	root, err := moduleRoot(ctx)
	if err != nil {
		return "", err
	}
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{filepath.Join(root, "cmd", "sidevault", "profiled.go"): source}})
	if err != nil {
		return "", err
	}
	file := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(file, overlay, 0o600); err != nil {
		return "", err
	}
	return build(ctx, dir, file)
}

// profile loads the usual sidecar and writes where its time and its memory go into
// dir, and the first lines of both to out.
func (b *bench) profile(ctx context.Context, dir string, out io.Writer) error {
	s, v, err := b.usual(ctx)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if _, err := record(ctx, s, v); err != nil { // so that every credential has been read
		return err
	}
	loaded := make(chan error, 1)
	seconds := max(1, int((4 * b.size.round).Seconds()))
	go func() {
		_, err := load.Run(ctx, s.target("tcp", resolves(v)).Target, 64, time.Duration(seconds)*time.Second+b.size.round)
		loaded <- err
	}()
	cpu, allocs := filepath.Join(dir, "cpu.pprof"), filepath.Join(dir, "allocs.pprof")
	err = errors.Join(v.fetch(ctx, fmt.Sprintf("profile?seconds=%d", seconds), cpu), <-loaded, v.fetch(ctx, "allocs", allocs))
	if err != nil {
		return err
	}
	return errors.Join(top(ctx, out, "-cum", cpu), top(ctx, out, "-flat", cpu), top(ctx, out, "-sample_index=alloc_objects", allocs))
}

// fetch writes a profile of the vault's sidecar to a file.
func (v *store) fetch(ctx context.Context, name, path string) error {
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", v.profileSocket())
	}}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://localhost/debug/pprof/"+name, nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, resp.Body)
	return errors.Join(err, f.Close())
}

func top(ctx context.Context, out io.Writer, how, profile string) error {
	fmt.Fprintf(out, "\n%s, %s:\n", filepath.Base(profile), how)
	cmd := exec.CommandContext(ctx, "go", "tool", "pprof", "-top", "-nodecount=60", how, profile)
	cmd.Stdout = out
	return cmd.Run()
}
