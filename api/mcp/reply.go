package mcp

import (
	"bytes"
	"encoding/json"
	"mime"
	"net/http"
	"sync"
	"time"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
)

// slowest is how long a reader of a stream may take to accept an event before it is
// cut off.
const slowest = 10 * time.Second

// reply stands between the SDK and the client. Of an answer with an end it sees all
// before it is sent; the events of a stream it passes on.
type reply struct {
	http.ResponseWriter
	control *http.ResponseController

	mu        sync.Mutex
	status    int // 0: nothing was written
	streaming bool
	own       bool   // it is not the SDK's
	broken    func() // ends a stream that cannot be written to; nil without one
	body      bytes.Buffer
}

func newReply(w http.ResponseWriter) *reply {
	return &reply{ResponseWriter: w, control: http.NewResponseController(w)}
}

// WriteHeader notes the status, or begins a stream.
func (r *reply) WriteHeader(status int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.begin(status)
}

func (r *reply) begin(status int) {
	if r.status != 0 {
		return
	}
	r.status = status
	media, _, _ := mime.ParseMediaType(r.Header().Get("Content-Type"))
	if r.streaming = status == http.StatusOK && media == "text/event-stream"; r.streaming {
		r.Header().Set("Cache-Control", "no-store")
		r.ResponseWriter.WriteHeader(status)
	}
}

// Write keeps what is written, or passes on an event.
func (r *reply) Write(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.begin(http.StatusOK)
	if !r.streaming {
		return r.body.Write(b)
	}
	// A deadline of its own for each event: that of ordinary requests has passed. Not every
	// writer has deadlines (a test's recorder has none).
	_ = r.control.SetWriteDeadline(time.Now().Add(slowest))
	n, err := r.ResponseWriter.Write(b)
	if err != nil && r.broken != nil {
		r.broken()
	}
	return n, err
}

// Flush sends what a stream has.
func (r *reply) Flush() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.streaming {
		if r.control.Flush() != nil && r.broken != nil {
			r.broken()
		}
		_ = r.control.SetWriteDeadline(time.Time{})
	}
}

// refuse answers without the SDK.
func (r *reply) refuse(status int, bad *refused) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.status, r.own = status, true
	r.body.Reset()
	r.body.Write(bad.encode())
}

// mismatch is the SDK's answer to who uses the session of another.
const mismatch = "session user mismatch"

// finish sends an answer that is no stream.
func (r *reply) finish() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.streaming || r.status == 0 {
		return
	}
	if r.status == http.StatusForbidden && bytes.HasPrefix(r.body.Bytes(), []byte(mismatch)) {
		r.status = http.StatusNotFound
	}
	text := r.presentable()
	h := r.Header()
	h.Set("Cache-Control", "no-store")
	h.Del("Connection")
	h.Del("Content-Length")
	if len(text) > 0 {
		h.Set("Content-Type", "application/json")
	} else {
		h.Del("Content-Type")
	}
	r.ResponseWriter.WriteHeader(r.status)
	// That nobody waits for the answer is no fault of ours.
	_, _ = r.ResponseWriter.Write(text)
}

// presentable returns the body as it may be sent. The SDK's errors quote what it was
// sent, in plain text or as a response.
func (r *reply) presentable() []byte {
	text := r.body.Bytes()
	if r.own || len(text) == 0 {
		return text
	}
	var response struct {
		ID    json.RawMessage `json:"id"`
		Error *jsonrpc.Error  `json:"error"`
	}
	if err := json.Unmarshal(text, &response); err != nil {
		bad := &refused{code: jsonrpc.CodeInvalidRequest, msg: "refused: " + http.StatusText(r.status)}
		if r.status == http.StatusNotFound {
			bad = noSession()
		}
		return bad.encode()
	}
	if response.Error == nil {
		return text
	}
	out, err := json.Marshal(struct {
		Version string          `json:"jsonrpc"`
		ID      json.RawMessage `json:"id,omitempty"`
		Error   *jsonrpc.Error  `json:"error"`
	}{"2.0", response.ID, bland(response.Error)})
	if err != nil {
		return nil
	}
	return out
}
