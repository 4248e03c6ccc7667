package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"time"

	"github.com/sidevault/sidevault/tools/bench/load"
)

// profiled are the kinds of work that profiles are taken of.
func profiled() map[string]func(*store) [][]byte {
	return map[string]func(*store) [][]byte{"resolve": resolves, "set": sets}
}

// profile loads the usual sidecar with the selected work over 64 connections, writes
// where its time and its memory go into dir, and the first lines of both to out.
func (b *bench) profile(ctx context.Context, selected *regexp.Regexp, dir string, out io.Writer) error {
	v, err := b.stock(ctx, b.size.stored, b.size.stored)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	socket := filepath.Join(v.dir, "debug.sock")
	return b.with(ctx, v, []string{"--debug-listen", "unix://" + socket}, func(s *sidecar) error {
		if _, err := record(ctx, s, v); err != nil { // so that every credential has been read
			return err
		}
		for work, requests := range profiled() {
			if !selected.MatchString(work) {
				continue
			}
			if err := b.profileOf(ctx, s.target("tcp", requests(v)), v.fetcher(socket, filepath.Join(dir, work+"-")), out); err != nil {
				return fmt.Errorf("profile of %s: %w", work, err)
			}
		}
		return nil
	})
}

// profileOf takes profiles while one side is loaded.
func (b *bench) profileOf(ctx context.Context, s side, fetch fetcher, out io.Writer) error {
	loaded := make(chan error, 1)
	seconds := max(1, int((4 * b.size.round).Seconds()))
	go func() {
		_, err := load.Run(ctx, s.Target, 64, time.Duration(seconds)*time.Second+b.size.round)
		loaded <- err
	}()
	cpu, err := fetch(ctx, "profile", fmt.Sprintf("?seconds=%d", seconds))
	if err = errors.Join(err, <-loaded); err != nil {
		return err
	}
	allocs, err := fetch(ctx, "allocs", "")
	if err != nil {
		return err
	}
	return errors.Join(top(ctx, out, "-cum", cpu), top(ctx, out, "-flat", cpu), top(ctx, out, "-sample_index=alloc_objects", allocs))
}

// fetcher writes a profile to a file, and returns its path.
type fetcher func(ctx context.Context, name, query string) (path string, err error)

// fetcher takes profiles of the vault's sidecar, which answers them on the socket.
func (v *store) fetcher(socket, prefix string) fetcher {
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}}
	return func(ctx context.Context, name, query string) (path string, err error) {
		path = prefix + name + ".pprof"
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://localhost/debug/pprof/"+name+query, nil)
		if err != nil {
			return path, err
		}
		req.Header.Set("Authorization", "Bearer "+v.admin)
		resp, err := client.Do(req)
		if err != nil {
			return path, err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return path, fmt.Errorf("the sidecar answered with status %d to %s", resp.StatusCode, name)
		}
		f, err := os.Create(path)
		if err != nil {
			return path, err
		}
		_, err = io.Copy(f, resp.Body)
		return path, errors.Join(err, f.Close())
	}
}

func top(ctx context.Context, out io.Writer, how, profile string) error {
	fmt.Fprintf(out, "\n%s, %s:\n", filepath.Base(profile), how)
	cmd := exec.CommandContext(ctx, "go", "tool", "pprof", "-top", "-nodecount=60", how, profile)
	cmd.Stdout = out
	return cmd.Run()
}
