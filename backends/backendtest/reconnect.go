package backendtest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/sidevault/sidevault/backends"
)

// testReconnect breaks the connections again and again under commits and a watch. An
// error may say that nothing was applied, or that it is unknown; the watch must show
// what was applied and nothing else, once and in order; and commits and reads must
// work again by themselves.
func testReconnect(u *subject) {
	const breaks = 8
	var writers sync.WaitGroup
	stop := make(chan struct{})
	outcomes := make([][]error, 4)
	after := u.head().Revision
	ctx, cancel := context.WithCancel(u.Context())
	defer cancel()
	events := u.watch(ctx, after)
	for i := range outcomes {
		writers.Go(func() { outcomes[i] = u.writeThrough(i, stop) })
	}
	for range breaks {
		time.Sleep(100 * time.Millisecond)
		u.suite.Disconnect()
	}
	time.Sleep(100 * time.Millisecond)
	close(stop)
	writers.Wait()
	u.eventually("a commit", func() error {
		_, err := u.Commit(u.Context(), batch(backends.Put("last", 0, nil)))
		if errors.Is(err, backends.ErrConflict) {
			return nil // an earlier attempt of unknown outcome
		}
		return err
	})
	seen := map[string]int{}
	for last := false; !last; {
		e, ok := u.next(events)
		if !ok {
			events = u.watch(ctx, after)
			continue
		}
		if e.Revision <= after {
			u.Fatalf("revision %d came after %d", e.Revision, after)
		}
		after = e.Revision
		for _, key := range e.Keys {
			seen[key]++
			last = last || key == "last"
		}
	}
	u.checkSeen(outcomes, seen)
}

// writeThrough commits one key after the other until stop, whatever comes of it.
func (u *subject) writeThrough(i int, stop <-chan struct{}) []error {
	var outcomes []error
	for {
		select {
		case <-stop:
			return outcomes
		default:
		}
		key := reconnectKey(i, len(outcomes))
		_, err := u.Commit(u.Context(), backends.Batch{Changes: []backends.Change{backends.Put(key, 0, nil)}, Entries: [][]byte{[]byte(key)}})
		outcomes = append(outcomes, err)
		if err != nil {
			time.Sleep(5 * time.Millisecond)
		}
	}
}

func reconnectKey(i, n int) string { return fmt.Sprint(keyOf(i), "/", n) }

func (u *subject) checkSeen(outcomes [][]error, seen map[string]int) {
	u.Helper()
	logged := map[string]int{}
	for _, e := range u.chain(100) {
		logged[string(e.Body)]++
	}
	acknowledged := 0
	for i := range outcomes {
		for n, err := range outcomes[i] {
			key := reconnectKey(i, n)
			_, missing := u.Get(u.Context(), key)
			there := 0
			if missing == nil {
				there = 1
			}
			if seen[key] != there || logged[key] != there {
				u.Errorf("%q: %d records, %d events, %d log entries; Commit: %v", key, there, seen[key], logged[key], err)
			}
			switch {
			case err == nil && there == 0:
				u.Errorf("%q was acknowledged and is not there", key)
			case err == nil:
				acknowledged++
			case errors.Is(err, backends.ErrUnknownOutcome):
			case !errors.Is(err, backends.ErrUnavailable):
				u.Errorf("Commit(%q) over a broken connection: got %v", key, err)
			case there == 1:
				u.Errorf("%q was refused (%v) and is there", key, err)
			}
		}
	}
	if acknowledged == 0 {
		u.Error("no commit came through")
	}
}

// eventually calls what until it succeeds.
func (u *subject) eventually(name string, what func() error) {
	u.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := what()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			u.Fatalf("%s does not succeed within %v: %v", name, patience, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
