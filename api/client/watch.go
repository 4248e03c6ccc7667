package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"mime"
	"net/http"
	"time"

	"github.com/sidevault/sidevault/api/wire"
)

const (
	lastBackoff = 10 * time.Second
	// silence is how long a stream may be still; a sidecar sends something every 15
	// seconds.
	silence = 45 * time.Second
)

// Event is a change of a slot, never a value.
type Event struct {
	wire.WatchEvent
	// ID is what a later Watch goes on from after this event. Of several events of
	// one change all but the last repeat the ID of the change before.
	ID string
}

// Watch returns the changes of the slots that the token's grant covers, after the
// event with that ID; "" stands for now. An event with the type wire.WatchReset
// says that changes were missed.
//
// The connection is made like that of any call. When it breaks later it is made
// again, with pauses of up to ten seconds and as often as it takes, from the last
// event on, so that none is missed. The sequence ends with an error: an [*Error]
// when the sidecar refuses, as it does once the token is revoked; the context's
// when that ends.
func (c *Client) Watch(ctx context.Context, lastEventID string) iter.Seq2[Event, error] {
	return c.WatchConnected(ctx, lastEventID, func() {})
}

// WatchConnected is Watch that calls connected whenever a connection has been made,
// from the goroutine that reads the sequence. What changes after the first such call is
// in the sequence; with "" for the event, what changed before is not.
func (c *Client) WatchConnected(ctx context.Context, lastEventID string, connected func()) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		w := &watch{client: c, id: lastEventID, yield: yield, connected: connected}
		if err := w.run(ctx); err != nil && !errors.Is(err, errStopped) {
			yield(Event{}, err)
		}
	}
}

// errStopped says that the one who reads wants no more.
var errStopped = errors.New("stopped")

type watch struct {
	client *Client
	id     string // of the last event
	began  bool   // there was a connection
	yield  func(Event, error) bool

	connected func()
}

func (w *watch) run(ctx context.Context) error {
	for attempt := 0; ; attempt++ {
		start := time.Now()
		err := w.connect(ctx)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, errStopped) || final(err):
			return err
		case !w.began && attempt >= w.client.retries:
			return err
		}
		if time.Since(start) > lastBackoff {
			attempt = 0
		}
		if !sleep(ctx, jitter(attempt)) {
			return ctx.Err()
		}
	}
}

// jitter returns a pause that doubles with every attempt and differs from that of
// other clients.
func jitter(attempt int) time.Duration {
	d := min(firstBackoff<<min(attempt, 10), lastBackoff)
	return d/2 + rand.N(d/2)
}

// final reports whether trying again would not help.
func final(err error) bool {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Status < http.StatusInternalServerError && e.Status != http.StatusTooManyRequests
	}
	return errors.Is(err, errTooLarge)
}

// connect reads one stream to its end.
func (w *watch) connect(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	still := time.AfterFunc(silence, cancel)
	defer still.Stop()
	req, err := w.client.request(ctx, call{method: http.MethodGet, path: []string{"v1", "watch"}})
	if err != nil {
		return err
	}
	if w.id != "" {
		req.Header.Set(wire.HeaderLastEvent, w.id)
	}
	res, err := w.client.http.Do(req)
	if err != nil {
		return w.client.unreachable(err)
	}
	defer res.Body.Close()
	if media, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type")); res.StatusCode != http.StatusOK || media != "text/event-stream" {
		body, err := readAll(res.Body)
		if err != nil {
			return w.client.unreachable(err)
		}
		return refusal(res.StatusCode, body)
	}
	w.began = true
	w.connected()
	return w.read(newEventReader(res.Body), func() { still.Reset(silence) })
}

// read passes events on until the stream ends.
func (w *watch) read(r *eventReader, alive func()) error {
	for {
		e, err := r.next()
		if err != nil {
			return err
		}
		alive()
		if e.id != "" {
			w.id = e.id
		}
		if len(e.data) == 0 {
			continue
		}
		out := Event{ID: w.id}
		if err := json.Unmarshal(e.data, &out.WatchEvent); err != nil {
			return &Error{Message: "an event is not a sidecar's", Details: fmt.Sprintf("%d bytes of another form", len(e.data)), Status: http.StatusOK}
		}
		if !w.yield(out, nil) {
			return errStopped
		}
	}
}
