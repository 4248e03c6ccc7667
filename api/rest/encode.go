package rest

import (
	"bytes"
	"net/http"
	"strconv"
	"sync"
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
	written *bytes.Buffer  // the body, when it is encoded already, in one of buffers
	etag    vault.Revision // 0: none
	reveals bool           // the body holds a secret that the caller may have
}

// revealing encodes secrets as they are. Only the answer with a new key uses it; for
// every other encoder a secret is an error. A resolve has an encoder of its own.
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

// slowest is how long a client may take to accept an answer that had no deadline while
// it was waited for.
const slowest = 10 * time.Second

// write sends the answer.
func (s *server) write(r *request, a answer) {
	if a.etag != 0 {
		r.etagHeader[0] = etag(a.etag)
		r.gin.Writer.Header()["Etag"] = r.etagHeader[:]
	}
	s.markStale(r, a.status)
	body, err := a.encode()
	defer release(body)
	if err != nil {
		s.log.ErrorContext(r.ctx(), "an answer could not be encoded", "request_id", r.id(), "route", r.route(), "err", err)
		r.gin.Status(http.StatusInternalServerError)
		return
	}
	if r.waited {
		_ = http.NewResponseController(r.gin.Writer).SetWriteDeadline(time.Now().Add(slowest))
	}
	body.WriteByte('\n')
	r.gin.Writer.Header()["Content-Type"] = jsonBody
	r.gin.Writer.WriteHeader(a.status)
	// A client that is gone is noticed by the server.
	_, _ = r.gin.Writer.Write(body.Bytes())
}

// encode returns the body, for the caller to release.
func (a answer) encode() (*bytes.Buffer, error) {
	if a.written != nil {
		return a.written, nil
	}
	body, options := buffers.Get().(*bytes.Buffer), encoding
	if a.reveals {
		options = encodingSecrets
	}
	return body, json.MarshalWrite(body, a.body, options)
}

var jsonBody = []string{"application/json; charset=utf-8"}

// The encodings of answers; see revealing.
var (
	encoding        = json.JoinOptions(json.Deterministic(true))
	encodingSecrets = json.JoinOptions(json.Deterministic(true), revealing)
)

// buffers are used again by later answers.
var buffers = sync.Pool{New: func() any { return bytes.NewBuffer(make([]byte, 0, usualBody)) }}

// usualBody is more than most answers have, so that no buffer grows and leaves a copy
// behind; maxBuffer is the largest that is kept.
const (
	usualBody = 4 << 10
	maxBuffer = 128 << 10
)

// release gives a buffer back, without what was in it: that may have been a secret.
func release(b *bytes.Buffer) {
	clear(b.Bytes())
	b.Reset()
	if b.Cap() <= maxBuffer {
		buffers.Put(b)
	}
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
