package rest

import (
	"net/http"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/sidevault/sidevault/api/wire"
	"github.com/sidevault/sidevault/vault"
	"github.com/sidevault/sidevault/vault/secret"
)

// answer is what a handler gives back when it succeeds.
type answer struct {
	status  int
	body    any
	etag    vault.Revision // 0: none
	reveals bool           // the body holds a secret that the caller may have
}

// revealing encodes secrets as they are. Only the answers that are for the one
// who may have the secret use it; for every other encoder a secret is an error.
var revealing = json.WithMarshalers(json.MarshalToFunc(func(enc *jsontext.Encoder, v secret.Value) error {
	return enc.WriteToken(jsontext.String(v.Reveal()))
}))

func ok[T any](data T, message string) answer {
	return answer{status: http.StatusOK, body: envelope(data, message)}
}

func created[T any](data T, message string) answer {
	return answer{status: http.StatusCreated, body: envelope(data, message)}
}

func envelope[T any](data T, message string) wire.Envelope[T] {
	return wire.Envelope[T]{Success: true, Message: message, Data: data, Timestamp: wire.Time(time.Now())}
}

func page[T any](data []T, next string) answer {
	return answer{status: http.StatusOK, body: wire.Page[T]{Success: true, Data: data, NextCursor: next, Timestamp: wire.Time(time.Now())}}
}

func slotEnvelope[T any](status int, integration string, environment *string, data T, message string) answer {
	return answer{status: status, body: wire.SlotEnvelope[T]{
		Success: true, Message: message, IntegrationID: integration, Environment: environment, Data: data, Timestamp: wire.Time(time.Now()),
	}}
}

// write sends the answer.
func (s *server) write(r *request, a answer) {
	if a.etag != 0 {
		r.gin.Header("ETag", etag(a.etag))
	}
	s.markStale(r, a.status)
	options := []json.Options{json.Deterministic(true)}
	if a.reveals {
		options = append(options, revealing)
	}
	body, err := json.Marshal(a.body, options...)
	if err != nil {
		s.log.ErrorContext(r.ctx(), "an answer could not be encoded", "request_id", r.id(), "route", r.route(), "err", err)
		r.gin.Status(http.StatusInternalServerError)
		return
	}
	if r.waited {
		_ = http.NewResponseController(r.gin.Writer).SetWriteDeadline(time.Now().Add(slowest))
	}
	r.gin.Data(a.status, "application/json; charset=utf-8", append(body, '\n'))
}

// markStale says of the answer to a read, also of a refusal, for how many seconds what
// it is from may have been out of date. Storage can go away, or come back, while the
// read is under way.
func (s *server) markStale(r *request, status int) {
	if !r.reads || status >= http.StatusInternalServerError {
		return
	}
	stale := max(r.stale, s.vault.Stale())
	if stale <= 0 {
		return
	}
	r.gin.Header(wire.HeaderStale, strconv.FormatInt(int64((stale+time.Second-1)/time.Second), 10))
}
