package main

import (
	"context"
	"fmt"
	"time"

	"github.com/sidevault/sidevault/api/client"
	"github.com/sidevault/sidevault/api/wire"
)

const (
	// quiet is how long nothing must change before what changed is read: changes of
	// several credentials are often made together.
	quiet      = 500 * time.Millisecond
	mostQuiet  = 5 * time.Second
	firstRetry = time.Second
	lastRetry  = time.Minute
)

// follower reads credentials again when they may have changed. What it has stays as it
// is for as long as they cannot be read.
type follower struct {
	remote   *remote
	concerns func(wire.WatchEvent) bool
	// again reads, and acts on what is not as it was.
	again func(context.Context, *client.Client) error

	said string // the last warning
}

// run follows until ctx ends.
func (f *follower) run(ctx context.Context) {
	touched := make(chan struct{}, 1)
	warnings := make(chan string)
	done := make(chan struct{})
	go func() {
		defer close(done)
		f.listen(ctx, touched, warnings)
	}()
	defer func() { <-done }()
	var retry <-chan time.Time
	pause := firstRetry
	for {
		select {
		case <-ctx.Done():
			return
		case w := <-warnings:
			f.warn(w)
			continue
		case <-touched:
			settled(ctx, touched)
		case <-retry:
		}
		retry = nil
		err := f.read(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			f.said, pause = "", firstRetry
			continue
		case explain(err).code == exitUnavailable:
			retry, pause = time.After(pause), min(2*pause, lastRetry)
		}
		f.warn("what was read before stays in use: " + explain(err).msg)
	}
}

func (f *follower) read(ctx context.Context) error {
	// The file with the key may have another one by this time.
	c, err := f.remote.client()
	if err != nil {
		return err
	}
	defer c.Close()
	return f.again(ctx, c)
}

// settled waits until nothing has changed for a moment.
func settled(ctx context.Context, touched <-chan struct{}) {
	end := time.After(mostQuiet)
	for {
		select {
		case <-touched:
		case <-time.After(quiet):
			return
		case <-end:
			return
		case <-ctx.Done():
			return
		}
	}
}

// listen says when something that concerns the follower may have changed. It is also
// said when a connection is made: changes before it were not seen.
func (f *follower) listen(ctx context.Context, touched chan<- struct{}, warnings chan<- string) {
	touch := func() {
		select {
		case touched <- struct{}{}:
		default:
		}
	}
	pause := firstRetry
	for ctx.Err() == nil {
		err := f.watch(ctx, touch, func() { pause = firstRetry })
		if ctx.Err() != nil {
			return
		}
		select {
		case warnings <- "changes are not noticed at present: " + explain(err).msg:
		case <-ctx.Done():
		}
		select {
		case <-time.After(pause):
			pause = min(2*pause, lastRetry)
		case <-ctx.Done():
		}
	}
}

func (f *follower) watch(ctx context.Context, touch, connected func()) error {
	c, err := f.remote.client()
	if err != nil {
		return err
	}
	defer c.Close()
	for e, err := range c.WatchConnected(ctx, "", func() { connected(); touch() }) {
		if err != nil {
			return err
		}
		if e.Type == wire.WatchReset || f.concerns(e.WatchEvent) {
			touch()
		}
	}
	return nil
}

// warn says something once.
func (f *follower) warn(text string) {
	if text != f.said {
		fmt.Fprintf(f.remote.sh.err, "sidevault: warning: %s\n", text)
	}
	f.said = text
}
