package sidecar

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sidevault/sidevault/api/wire"
)

// Client talks to a sidecar in the name of one API key. What goes wrong below
// HTTP fails the test, so that calls chain. It may be used concurrently.
type Client struct {
	t    testing.TB
	base string
	key  string
	http *http.Client
}

// NewClient returns a client of the server at base, without a slash at its end.
func NewClient(t testing.TB, base, key string, transport http.RoundTripper) *Client {
	return &Client{t: t, base: base, key: key, http: &http.Client{Transport: transport, Timeout: time.Minute}}
}

// For returns the client for another test, such as a subtest.
func (c *Client) For(t testing.TB) *Client {
	other := *c
	other.t = t
	return &other
}

// As returns the client with another API key; "" sends none.
func (c *Client) As(key string) *Client {
	other := *c
	other.key = key
	return &other
}

// Get sends a GET. Headers are "Name: value".
func (c *Client) Get(path string, headers ...string) *Answer {
	c.t.Helper()
	return c.Do(http.MethodGet, path, nil, headers...)
}

// Put sends a PUT; see [Client.Do] for the body.
func (c *Client) Put(path string, body any, headers ...string) *Answer {
	c.t.Helper()
	return c.Do(http.MethodPut, path, body, headers...)
}

// Post sends a POST; see [Client.Do] for the body.
func (c *Client) Post(path string, body any, headers ...string) *Answer {
	c.t.Helper()
	return c.Do(http.MethodPost, path, body, headers...)
}

// Patch sends a PATCH; see [Client.Do] for the body.
func (c *Client) Patch(path string, body any, headers ...string) *Answer {
	c.t.Helper()
	return c.Do(http.MethodPatch, path, body, headers...)
}

// Delete sends a DELETE without a body.
func (c *Client) Delete(path string, headers ...string) *Answer {
	c.t.Helper()
	return c.Do(http.MethodDelete, path, nil, headers...)
}

// Do sends a request. A string or []byte is sent as it is, nil not at all, any
// other body as JSON. The path is sent as it is, too, dots and escapes and all.
func (c *Client) Do(method, path string, body any, headers ...string) *Answer {
	c.t.Helper()
	answer, err := c.Try(method, path, body, headers...)
	if err != nil {
		c.t.Fatalf("%s %s: %v", method, path, err)
	}
	return answer
}

// Try is Do for tests that expect the connection to break, and for goroutines,
// which must not end a test.
func (c *Client) Try(method, path string, body any, headers ...string) (*Answer, error) {
	c.t.Helper()
	req, err := c.request(method, path, body, headers)
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	content, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	return &Answer{t: c.t, what: method + " " + path, Status: resp.StatusCode, Header: resp.Header, Body: content}, nil
}

func (c *Client) request(method, path string, body any, headers []string) (*http.Request, error) {
	content, err := encode(body)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(c.t.Context(), method, c.base+path, content)
	if err != nil {
		return nil, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.key != "" {
		req.Header.Set("Authorization", "Bearer "+c.key)
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		if name == "Host" {
			req.Host = value
			continue
		}
		req.Header.Set(name, value)
	}
	return req, nil
}

func encode(body any) (io.Reader, error) {
	switch b := body.(type) {
	case nil:
		return nil, nil
	case string:
		return strings.NewReader(b), nil
	case []byte:
		return bytes.NewReader(b), nil
	}
	content, err := json.Marshal(body)
	return bytes.NewReader(content), err
}

// Answer is a response, read to its end.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte

	t    testing.TB
	what string
}

// Wants fails the test unless the answer has that status.
func (a *Answer) Wants(status int) *Answer {
	a.t.Helper()
	if a.Status != status {
		a.t.Fatalf("%s: status %d, want %d: %s", a.what, a.Status, status, a.explain())
	}
	return a
}

// Fails fails the test unless the answer is a failure with that status and code,
// and returns what it says.
func (a *Answer) Fails(status int, code string) wire.Failure {
	a.t.Helper()
	f := a.Wants(status).failure()
	if f.Success || f.Error.Code != code {
		a.t.Fatalf("%s: code %s, want %s: %s", a.what, f.Error.Code, code, a.explain())
	}
	return f
}

// Into decodes the body.
func (a *Answer) Into(to any) {
	a.t.Helper()
	if err := json.Unmarshal(a.Body, to); err != nil {
		a.t.Fatalf("%s: the body is not the JSON that was expected (%d bytes)", a.what, len(a.Body))
	}
}

// Data decodes the member data of a success.
func Data[T any](a *Answer) T {
	a.t.Helper()
	if a.Status >= http.StatusMultipleChoices {
		a.t.Fatalf("%s: status %d: %s", a.what, a.Status, a.explain())
	}
	var body struct{ Data T }
	a.Into(&body)
	return body.Data
}

func (a *Answer) failure() (f wire.Failure) {
	a.t.Helper()
	a.Into(&f)
	return f
}

// explain says what a failure says. The body of a success may hold a secret and
// is not shown.
func (a *Answer) explain() string {
	var f wire.Failure
	if json.Unmarshal(a.Body, &f) != nil || f.Error.Code == "" {
		return "no failure"
	}
	return f.Error.Code + ": " + f.Error.Message + ": " + f.Error.Details
}
