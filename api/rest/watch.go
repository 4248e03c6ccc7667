package rest

import (
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/sidevault/sidevault/api/wire"
	"github.com/sidevault/sidevault/vault"
)

// watch streams changes as server-sent events (HTML standard, section 9.2). An
// event's ID is the revision to go on from.
func (s *server) watch(r *request) (answer, error) {
	after, err := lastEvent(r)
	if err != nil {
		return answer{}, err
	}
	select {
	case s.watches <- struct{}{}:
		defer func() { <-s.watches }()
	default:
		return answer{}, &vault.Error{Kind: vault.RateLimited, Msg: "Too many watches", Details: fmt.Sprintf(
			"%d are served at a time (watch.limit): end those that nobody needs, or try again shortly", cap(s.watches))}
	}
	stream := &stream{stall: s.stall, writer: r.gin.Writer, control: http.NewResponseController(r.gin.Writer)}
	ctx, cancel := s.untilClosing(r.ctx())
	defer cancel()
	header := r.gin.Writer.Header()
	header.Set("Content-Type", "text/event-stream")
	r.gin.Status(http.StatusOK)
	err = s.vault.Watch(ctx, r.caller, after, func(e vault.Event) error {
		text, err := e.Memo.Text(func() ([]byte, error) { return eventText(e) })
		if err != nil {
			return err
		}
		return stream.send(eventID(e), text)
	}, s.heartbeat, func(at vault.Revision) error {
		if err := s.authenticate(r); err != nil {
			return err
		}
		// An ID without data moves the reader on and is no event to it.
		return stream.send(fmt.Appendf(nil, ": alive\nid: %d\n\n", at))
	})
	if !r.gin.Writer.Written() {
		header.Del("Content-Type")
		return answer{}, err
	}
	// The answer has begun: its end is all that can be said.
	s.log.DebugContext(ctx, "watch ended", "request_id", r.id(), "reason", err)
	return answer{}, nil
}

func lastEvent(r *request) (vault.Revision, error) {
	given := first(r.gin.Request, wire.HeaderLastEvent)
	if given == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(given, 10, 63)
	if err != nil || n == 0 {
		return 0, invalid("The Last-Event-ID header is not one of ours", "send the id of the last event, as it was")
	}
	return vault.Revision(n), nil
}

// eventText is the same for all who get the event.
func eventText(e vault.Event) ([]byte, error) {
	out := wire.WatchEvent{Type: wire.WatchSet, IntegrationID: e.Slot.Integration, Environment: e.Slot.Scope.Ptr(), Name: e.Slot.Name}
	switch {
	case e.Reset:
		out.Type = wire.WatchReset
	case e.Credential == nil:
		out.Type = wire.WatchRemoved
	default:
		c := credential(*e.Credential)
		out.Credential = &c
	}
	data, err := json.Marshal(out, json.Deterministic(true))
	if err != nil {
		return nil, err
	}
	return fmt.Appendf(nil, "event: %s\ndata: %s\n\n", out.Type, data), nil
}

// eventID begins an event that has an ID.
func eventID(e vault.Event) []byte {
	if e.Revision == 0 {
		return nil
	}
	return fmt.Appendf(nil, "id: %d\n", e.Revision)
}

// stream writes to a reader that may be slow.
type stream struct {
	stall   time.Duration
	writer  http.ResponseWriter
	control *http.ResponseController
}

func (s *stream) send(parts ...[]byte) error {
	// Not every writer has deadlines (a test's recorder has none).
	_ = s.control.SetWriteDeadline(time.Now().Add(s.stall))
	for _, part := range parts {
		if _, err := s.writer.Write(part); err != nil {
			return err
		}
	}
	return s.control.Flush()
}
