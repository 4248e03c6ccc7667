package contract

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"

	"github.com/getkin/kin-openapi/openapi3filter"

	"github.com/sidevault/sidevault/api/wire"
)

// Recorder is a transport that holds every exchange to a document: an answer must
// be one that the operation documents, and a request that the document does not
// allow must not succeed. A breach comes back as the request's error.
type Recorder struct {
	doc  *Document
	next http.RoundTripper

	mu   sync.Mutex
	seen map[string]bool
}

// NewRecorder returns a recorder that sends requests on with next.
func NewRecorder(doc *Document, next http.RoundTripper) *Recorder {
	return &Recorder{doc: doc, next: next, seen: map[string]bool{}}
}

// Unseen returns the documented answers that no exchange had, sorted.
func (r *Recorder) Unseen() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.DeleteFunc(r.doc.Answers(), func(name string) bool { return r.seen[name] })
}

// Seen reports whether an exchange had that documented answer.
func (r *Recorder) Seen(name string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.seen[name]
}

// RoundTrip sends the request and checks the exchange.
func (r *Recorder) RoundTrip(req *http.Request) (*http.Response, error) {
	sent, err := drain(&req.Body)
	if err != nil {
		return nil, err
	}
	check := copyOf(req, sent)
	resp, err := r.next.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	var got []byte
	if !endless(resp) {
		if got, err = drain(&resp.Body); err != nil {
			return nil, err
		}
	}
	if err := r.check(check, resp, got); err != nil {
		return nil, fmt.Errorf("contract: %s %s answered %d: %w", req.Method, req.URL.Path, resp.StatusCode, err)
	}
	return resp, nil
}

// endless reports whether the body is a stream of events, which is not read here:
// see [Document.CheckValue] for the events.
func endless(resp *http.Response) bool {
	media, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	return resp.StatusCode == http.StatusOK && media == "text/event-stream"
}

// drain reads a body and leaves a copy in its place.
func drain(body *io.ReadCloser) ([]byte, error) {
	if *body == nil {
		return nil, nil
	}
	defer (*body).Close()
	content, err := io.ReadAll(*body)
	*body = io.NopCloser(bytes.NewReader(content))
	return content, err
}

func copyOf(req *http.Request, body []byte) *http.Request {
	c := req.Clone(req.Context())
	c.Body = http.NoBody
	if body != nil {
		c.Body = io.NopCloser(bytes.NewReader(body))
	}
	// Servers in the document are relative, as requests are to a server.
	c.URL = &url.URL{Path: req.URL.Path, RawPath: req.URL.RawPath, RawQuery: req.URL.RawQuery}
	return c
}

func (r *Recorder) check(req *http.Request, resp *http.Response, body []byte) error {
	route, params := r.doc.find(req)
	if route == nil {
		return checkOutside(resp, body)
	}
	in := &openapi3filter.RequestValidationInput{
		Request: req, PathParams: params, Route: route,
		Options: &openapi3filter.Options{
			IncludeResponseStatus: true,
			SkipSettingDefaults:   true,
			AuthenticationFunc:    openapi3filter.NoopAuthenticationFunc,
			ExcludeResponseBody:   endless(resp),
		},
	}
	requestErr := openapi3filter.ValidateRequest(req.Context(), in)
	if requestErr == nil {
		requestErr = unknownParameter(in)
	}
	if resp.StatusCode < http.StatusBadRequest && requestErr != nil {
		return fmt.Errorf("but the document does not allow the request: %s", blind(requestErr))
	}
	out := &openapi3filter.ResponseValidationInput{
		RequestValidationInput: in, Status: resp.StatusCode, Header: resp.Header,
		Body: io.NopCloser(bytes.NewReader(body)), Options: in.Options,
	}
	if err := openapi3filter.ValidateResponse(req.Context(), out); err != nil {
		return fmt.Errorf("not as documented: %s", blind(err))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen[answerName(route.Operation, resp.StatusCode)] = true
	return nil
}

// unknownParameter finds what a document leaves open: a query parameter that the
// operation does not have.
func unknownParameter(in *openapi3filter.RequestValidationInput) error {
	for name := range in.GetQueryParams() {
		known := in.Route.Operation.Parameters.GetByInAndName("query", name) != nil ||
			in.Route.PathItem.Parameters.GetByInAndName("query", name) != nil
		if !known {
			return &openapi3filter.RequestError{Input: in, Reason: "there is no query parameter " + name}
		}
	}
	return nil
}

// checkOutside holds an answer to a path or method that the document does not
// have to the shape of failures.
func checkOutside(resp *http.Response, body []byte) error {
	allowed := []int{http.StatusBadRequest, http.StatusForbidden, http.StatusNotFound, http.StatusMethodNotAllowed}
	if !slices.Contains(allowed, resp.StatusCode) {
		return fmt.Errorf("the document has no such operation")
	}
	var f wire.Failure
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.DisallowUnknownFields()
	if decoder.Decode(&f) != nil || f.Error.Code == "" || f.Error.Code != strings.ToUpper(f.Error.Code) || f.RequestID == "" {
		return fmt.Errorf("the body is not a failure of the document's shape")
	}
	if resp.Header.Get(wire.HeaderRequestID) != f.RequestID {
		return fmt.Errorf("the header X-Request-Id is not the body's request_id")
	}
	return nil
}
