package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/sidevault/sidevault/plugins/internal/egress"
	"github.com/sidevault/sidevault/plugins/sdk"
	"github.com/sidevault/sidevault/vault/secret"
)

const (
	maxTries   = 3
	firstPause = 200 * time.Millisecond
	// maxPause is how long a call waits by itself. What takes longer is the sidecar's
	// to wait for, which holds no caller up meanwhile.
	maxPause = 5 * time.Second
	// margin is what must be left of the deadline for another try to make sense.
	margin   = 500 * time.Millisecond
	maxShown = 200 // characters of what the aggregator says
)

type syncer struct {
	env      func(string) string
	resolver *net.Resolver // nil: the system's
}

// attempt is what came of one request.
type attempt struct {
	result sdk.SyncResult
	again  bool          // another one is safe, and may have better luck
	after  time.Duration // what the aggregator asks to wait; 0: nothing
}

// Sync makes the request, at most maxTries times.
//
// Every try has the same URL, body and idempotency key. That makes these safe to
// repeat: a connection that was not made, since nothing was sent; 429 and 503, since the
// aggregator says that it did nothing; and another 5xx or a connection lost half-way, of
// which nobody knows whether the change was made, since making it again changes nothing
// (PUT and DELETE are idempotent: RFC 9110, section 9.2.2). A late request cannot undo a
// newer change: the sidecar sends those of a slot one after another, and the headers with
// the credential and version tell the aggregator which of two is older. Any other 4xx
// says that the request itself is wrong, so it is not repeated here.
func (s syncer) Sync(ctx context.Context, r sdk.SyncRequest) (sdk.SyncResult, error) {
	to, err := s.target(r.Config)
	if err != nil {
		return sdk.SyncResult{}, err
	}
	content, err := body(r)
	if err != nil {
		return sdk.SyncResult{}, errors.New("the credential cannot be written as JSON")
	}
	client, err := to.rules.Client()
	if err != nil {
		return sdk.SyncResult{}, err
	}
	for try := 1; ; try++ {
		request, err := to.request(ctx, r, content)
		if err != nil {
			return sdk.SyncResult{}, errors.New("no request can be made from TR_URL and path")
		}
		made := to.send(client, request, r)
		if !made.again || try == maxTries || !pause(ctx, try, made.after) {
			return made.result, nil
		}
	}
}

func (t target) request(ctx context.Context, r sdk.SyncRequest, content []byte) (*http.Request, error) {
	method, reader := http.MethodDelete, io.Reader(nil)
	if r.Change == sdk.Set {
		method, reader = http.MethodPut, bytes.NewReader(content)
	}
	request, err := http.NewRequestWithContext(ctx, method, t.url(r.Place), reader)
	if err != nil {
		return nil, err
	}
	h := request.Header
	h.Set("Authorization", "Bearer "+t.token.Reveal())
	h.Set("User-Agent", "sidevault-syncer-trustradius")
	h.Set("Accept", "application/json")
	h.Set("Idempotency-Key", r.IdempotencyKey)
	h.Set("Sidevault-Credential", r.CredentialID)
	h.Set("Sidevault-Version", strconv.FormatUint(r.Version, 10))
	if content != nil {
		h.Set("Content-Type", "application/json")
	}
	return request, nil
}

func (t target) send(client *http.Client, request *http.Request, r sdk.SyncRequest) attempt {
	response, err := client.Do(request)
	if err != nil {
		return attempt{result: sdk.Fail("TrustRadius %s", egress.Explain(err)), again: !egress.Misconfigured(err)}
	}
	// Reading on is for the message only: the status has been given.
	text, whole, err := egress.Body(response)
	said := ""
	if whole && err == nil {
		said = t.said(text, r)
	}
	return judge(response, r.Change, said)
}

func judge(r *http.Response, change sdk.Change, said string) attempt {
	code, after := r.StatusCode, egress.RetryAfter(r, time.Now())
	gone := change == sdk.Remove && (code == http.StatusNotFound || code == http.StatusGone)
	if code >= 200 && code <= 299 || gone {
		return attempt{result: sdk.Done()}
	}
	made := attempt{result: sdk.Fail("TrustRadius answered %d%s", code, said).RetryAfter(after), after: after}
	switch code {
	case http.StatusTooManyRequests, http.StatusServiceUnavailable,
		http.StatusInternalServerError, http.StatusBadGateway, http.StatusGatewayTimeout:
		made.again = true
	}
	if code >= 300 && code <= 399 {
		made.result = sdk.Fail("TrustRadius answered %d, a redirect, which is not followed: give the final address in TR_URL", code)
	}
	return made
}

// said returns the message of an answer, without what it may quote: it is struck before
// it is cut, since half a secret would not be recognized.
func (t target) said(text []byte, r sdk.SyncRequest) string {
	var answer struct {
		Message string `json:"message"`
	}
	if json.Unmarshal(text, &answer) != nil {
		return ""
	}
	secrets := []secret.Value{t.token}
	for _, v := range r.Fields {
		secrets = append(secrets, v)
	}
	message := strings.Join(strings.Fields(secret.NewStriker(secrets...).Strike(answer.Message)), " ")
	if message == "" {
		return ""
	}
	if runes := []rune(message); len(runes) > maxShown {
		message = string(runes[:maxShown]) + "..."
	}
	return ": " + message
}

// pause waits before another try: as long as the aggregator asks, else twice as long as
// before, each a little differently so that many callers do not return at once. It
// reports false when that would take too long.
func pause(ctx context.Context, try int, asked time.Duration) bool {
	wait := firstPause << (try - 1)
	wait = wait/2 + rand.N(wait)
	if asked > 0 {
		wait = asked + rand.N(firstPause)
	}
	if deadline, ok := ctx.Deadline(); wait > maxPause || ok && time.Until(deadline) < wait+margin {
		return false
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
