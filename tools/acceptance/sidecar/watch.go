package sidecar

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/sidevault/sidevault/api/wire"
)

// WatchEvent is an event of a stream, with its data as it came.
type WatchEvent struct {
	wire.WatchEvent
	ID   string // "" when it has none
	Kind string // the field event
	Data []byte
}

// Watcher reads a stream of events.
type Watcher struct {
	// Answer is the response, without a body.
	Answer *Answer
	// Start is the ID that the stream began with.
	Start string
	// Events are the events that have data. It is closed at the stream's end.
	Events <-chan WatchEvent

	client *Client
	cancel context.CancelFunc
	ids    chan string
}

// Watch opens a stream that goes on after the event with that ID; "" stands for
// now. It is closed when the test ends, unless it was before.
func (c *Client) Watch(lastEventID string) *Watcher {
	c.t.Helper()
	ctx, cancel := context.WithCancel(c.t.Context())
	c.t.Cleanup(cancel)
	var headers []string
	if lastEventID != "" {
		headers = []string{"Last-Event-ID: " + lastEventID}
	}
	req, err := c.request(http.MethodGet, "/v1/watch", nil, headers)
	if err != nil {
		c.t.Fatal(err)
	}
	resp, err := (&http.Client{Transport: c.http.Transport}).Do(req.WithContext(ctx))
	if err != nil {
		c.t.Fatal(err)
	}
	events := make(chan WatchEvent)
	w := &Watcher{
		Answer: &Answer{t: c.t, what: "GET /v1/watch", Status: resp.StatusCode, Header: resp.Header},
		Events: events, client: c, cancel: cancel, ids: make(chan string, 1),
	}
	if media := resp.Header.Get("Content-Type"); resp.StatusCode != http.StatusOK || media != "text/event-stream" {
		c.t.Fatalf("GET /v1/watch: status %d with %s", resp.StatusCode, media)
	}
	go w.read(ctx, resp.Body, events)
	// The first thing that comes is where the stream begins.
	select {
	case w.Start = <-w.ids:
	case <-time.After(startTimeout):
		c.t.Fatal("the stream does not begin")
	}
	return w
}

// Close ends the stream.
func (w *Watcher) Close() { w.cancel() }

// Next returns the next event, and fails the test when none comes.
func (w *Watcher) Next() WatchEvent {
	w.client.t.Helper()
	select {
	case e, open := <-w.Events:
		if !open {
			w.client.t.Fatal("the stream has ended")
		}
		return e
	case <-time.After(startTimeout):
		w.client.t.Fatal("no event comes")
	}
	return WatchEvent{}
}

func (w *Watcher) read(ctx context.Context, body io.ReadCloser, events chan<- WatchEvent) {
	defer close(events)
	defer body.Close()
	lines := bufio.NewScanner(body)
	lines.Buffer(nil, 1<<20)
	var e WatchEvent
	for lines.Scan() {
		if line := lines.Text(); line != "" {
			e.add(line)
			continue
		}
		if e.Data == nil {
			select {
			case w.ids <- e.ID:
			default:
			}
		} else {
			select {
			case events <- e:
			case <-ctx.Done():
				return
			}
		}
		e = WatchEvent{}
	}
}

func (e *WatchEvent) add(line string) {
	field, text, _ := strings.Cut(line, ": ")
	switch field {
	case "id":
		e.ID = text
	case "event":
		e.Kind = text
	case "data":
		e.Data = []byte(text)
		if err := json.Unmarshal(e.Data, &e.WatchEvent); err != nil {
			e.Kind = fmt.Sprint(err)
		}
	}
}
