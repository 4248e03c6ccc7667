package feed

import (
	"context"
	"errors"
	"testing"

	"github.com/sidevault/sidevault/backends"
)

func publish(f *Feed, from, to backends.Revision) {
	for rev := from; rev <= to; rev++ {
		f.Publish(backends.Event{Revision: rev, Keys: []string{"k"}})
	}
}

func TestHistoryIsBounded(t *testing.T) {
	f := New(10)
	defer f.Close()
	publish(f, 11, 10+History+5)
	for _, after := range []backends.Revision{0, 9, 10, 14} {
		if _, err := f.Watch(t.Context(), after); !errors.Is(err, backends.ErrCompacted) {
			t.Errorf("Watch(%d): got %v, want %v", after, err, backends.ErrCompacted)
		}
	}
	events, err := f.Watch(t.Context(), 15)
	if err != nil {
		t.Fatal(err)
	}
	for want := backends.Revision(16); want <= 10+History+5; want++ {
		if e := <-events; e.Revision != want {
			t.Fatalf("got revision %d, want %d", e.Revision, want)
		}
	}
}

func TestSlowWatcherIsClosed(t *testing.T) {
	f := New(0)
	defer f.Close()
	events, err := f.Watch(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	publish(f, 1, Buffer+10)
	var last backends.Revision
	for e := range events {
		if e.Revision != last+1 {
			t.Fatalf("revision %d came after %d", e.Revision, last)
		}
		last = e.Revision
	}
	if last != Buffer {
		t.Errorf("got %d events before the channel was closed, want %d", last, Buffer)
	}
	if len(f.watchers) != 0 {
		t.Errorf("%d watchers are left", len(f.watchers))
	}
	if _, err := f.Watch(t.Context(), last); err != nil {
		t.Errorf("resume: %v", err)
	}
}

func TestEndedWatcherIsForgotten(t *testing.T) {
	f := New(0)
	ctx, cancel := context.WithCancel(t.Context())
	events, err := f.Watch(ctx, 0)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, open := <-events; open {
		t.Error("an event came from nowhere")
	}
	publish(f, 1, 3)
	f.Close()
	f.Close()
	if _, err := f.Watch(t.Context(), 3); !errors.Is(err, backends.ErrClosed) {
		t.Errorf("Watch after Close: got %v", err)
	}
}
