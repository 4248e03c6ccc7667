package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"strconv"
	"syscall"
	"time"

	"github.com/sidevault/sidevault/api/wire"
)

const (
	maxBody      = 8 << 20 // bytes of an answer
	maxHeader    = 64 << 10
	firstBackoff = 50 * time.Millisecond
	maxWait      = 5 * time.Second // longest Retry-After that is waited for
)

// call is one request of the API.
type call struct {
	method  string
	path    []string // segments, unescaped
	query   url.Values
	ifMatch string // an ETag, or ""
	body    []byte // JSON
}

// reply is the answer to a call.
type reply struct {
	status int
	tags
	body []byte
}

// tags are what an answer's headers say of its body.
type tags struct {
	etag  string
	stale time.Duration
}

// fetch calls the API and decodes the body of an answer that succeeded.
func fetch[T any](ctx context.Context, c *Client, r call) (answer T, err error) {
	answer, _, err = fetchTagged[T](ctx, c, r)
	return answer, err
}

// fetchTagged is fetch with what the answer's headers say of it.
func fetchTagged[T any](ctx context.Context, c *Client, r call) (answer T, t tags, err error) {
	got, err := c.do(ctx, r)
	if err != nil {
		return answer, tags{}, err
	}
	defer clear(got.body)
	if got.status < 200 || got.status > 299 {
		return answer, tags{}, refusal(got.status, got.body)
	}
	if got.status == http.StatusNoContent {
		return answer, tags{}, nil
	}
	if err := json.Unmarshal(got.body, &answer); err != nil {
		// The decoder quotes what it could not read, which may be a secret.
		return answer, tags{}, notSidecar(got.status)
	}
	return answer, got.tags, nil
}

func refusal(status int, body []byte) error {
	var f struct {
		wire.Failure
		Data json.RawMessage `json:"data"`
	}
	if err := json.Unmarshal(body, &f); err != nil || f.Error.Code == "" {
		return notSidecar(status)
	}
	return &Error{
		Code: f.Error.Code, Message: f.Error.Message, Details: f.Error.Details, Fields: f.Detail,
		Status: status, RequestID: f.RequestID, data: f.Data,
	}
}

func notSidecar(status int) error {
	return &Error{
		Message: fmt.Sprintf("the answer is not a sidecar's (status %d)", status),
		Details: "check that the address is a sidecar's, of this version or newer", Status: status,
	}
}

// do sends a request, again where that is safe.
func (c *Client) do(ctx context.Context, r call) (got reply, err error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	for attempt := 0; ; attempt++ {
		var wait time.Duration
		got, wait, err = c.once(ctx, r)
		if err != nil && notConnected(err) {
			wait = firstBackoff << attempt
		}
		if attempt >= c.retries || wait == 0 || !sleep(ctx, wait) {
			break
		}
	}
	if err != nil {
		return reply{}, c.unreachable(err)
	}
	return got, nil
}

// once sends a request once. A wait above zero says that it is safe, and wanted,
// to repeat it after that time.
func (c *Client) once(ctx context.Context, r call) (got reply, wait time.Duration, err error) {
	req, err := c.request(ctx, r)
	if err != nil {
		return reply{}, 0, err
	}
	res, err := c.http.Do(req)
	if err != nil {
		return reply{}, 0, err
	}
	defer res.Body.Close()
	body, err := readAll(res.Body)
	if res.StatusCode == http.StatusServiceUnavailable && r.method == http.MethodGet {
		wait = retryAfter(res.Header.Get("Retry-After"))
	}
	said := tags{etag: res.Header.Get("ETag"), stale: staleness(res.Header.Get(wire.HeaderStale))}
	return reply{status: res.StatusCode, tags: said, body: body}, wait, err
}

func readAll(body io.Reader) ([]byte, error) {
	content, err := io.ReadAll(io.LimitReader(body, maxBody+1))
	if err == nil && len(content) > maxBody {
		err = fmt.Errorf("the answer is larger than %d bytes", maxBody)
	}
	return content, err
}

func (c *Client) request(ctx context.Context, r call) (*http.Request, error) {
	at := c.base
	for _, segment := range r.path {
		at += "/" + url.PathEscape(segment)
	}
	if len(r.query) > 0 {
		at += "?" + r.query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, r.method, at, bytes.NewReader(r.body))
	if err != nil {
		return nil, err
	}
	if r.body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if r.ifMatch != "" {
		req.Header.Set("If-Match", r.ifMatch)
	}
	if c.agent != "" {
		req.Header.Set("User-Agent", c.agent)
	}
	if c.token.Len() > 0 {
		req.Header.Set("Authorization", "Bearer "+c.token.Reveal())
	}
	return req, nil
}

// staleness reads the header's seconds; what is no number is no claim.
func staleness(header string) time.Duration {
	n, err := strconv.ParseUint(header, 10, 31)
	if err != nil {
		return 0
	}
	return time.Duration(n) * time.Second
}

// retryAfter reads the header's seconds; 0 stands for no retry.
func retryAfter(header string) time.Duration {
	n, err := strconv.Atoi(header)
	if err != nil || n < 0 || n > int(maxWait/time.Second) {
		return 0
	}
	return max(time.Duration(n)*time.Second, firstBackoff)
}

func notConnected(err error) bool {
	return errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, fs.ErrNotExist)
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// unreachable drops the URL from the error, which names the address already.
func (c *Client) unreachable(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		err = e.Err
	}
	if errors.Is(err, context.DeadlineExceeded) {
		err = errors.New("no answer in time")
	}
	return &UnreachableError{Address: c.address, Err: err}
}
