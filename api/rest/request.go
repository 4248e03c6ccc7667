package rest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/gin-gonic/gin"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/sidevault/sidevault/envs"
	"github.com/sidevault/sidevault/vault"
	"github.com/sidevault/sidevault/vault/suggest"
)

// maxBody is how many bytes of a request's body are read.
const maxBody = 256 << 10

// request is a request on its way through the handlers.
type request struct {
	gin    *gin.Context
	began  time.Time
	caller vault.Caller
	query  []parameter
	waited bool          // the server's deadlines are off
	reads  bool          // it only reads, and what it reads is a caller's
	stale  time.Duration // what the vault's Stale was when the request came

	// Room for what nearly every request has, so that it needs none of its own.
	idHeader, etagHeader [1]string
	fewParameters        [3]parameter
}

// parameter is one of a query's.
type parameter struct{ name, value string }

// noRoute is the pattern of what matched no route.
const noRoute = "none"

func (r *request) ctx() context.Context { return r.gin.Request.Context() }
func (r *request) id() string           { return r.caller.Origin.RequestID }

// route is the pattern that the request matched: unlike the path, a name of ours.
func (r *request) route() string {
	if p := r.gin.FullPath(); p != "" {
		return p
	}
	return noRoute
}

func (r *request) integration() string { return r.gin.Param("integration") }

// parseQuery holds the query to the parameters that the route takes, each at most
// once.
func (r *request) parseQuery(takes []string) error {
	query, err := parseQuery(r.fewParameters[:0], r.gin.Request.URL.RawQuery)
	if err != nil {
		return invalid("The query string is malformed", "percent-encode what is not a letter or a digit")
	}
	for i, p := range query {
		if !slices.Contains(takes, p.name) {
			return invalid(fmt.Sprintf("Unknown query parameter %q%s", clip(p.name), suggest.Hint(p.name, takes)), knownParameters(takes))
		}
		if n := 1 + timesGiven(query[i+1:], p.name); n > 1 {
			return invalid(fmt.Sprintf("The query parameter %s is given %d times", p.name, n), "give it once")
		}
		if !utf8.ValidString(p.value) || strings.ContainsRune(p.value, 0) {
			return invalid(fmt.Sprintf("The query parameter %s holds a NUL or is not UTF-8", p.name), "")
		}
	}
	r.query = query
	return nil
}

func timesGiven(query []parameter, name string) (n int) {
	for _, p := range query {
		if p.name == name {
			n++
		}
	}
	return n
}

// parseQuery appends the parameters of a query string, as url.ParseQuery reads it but
// in their order.
func parseQuery(list []parameter, query string) ([]parameter, error) {
	for query != "" {
		var pair string
		pair, query, _ = strings.Cut(query, "&")
		if pair == "" {
			continue
		}
		if strings.Contains(pair, ";") {
			return nil, errors.New("a semicolon separates nothing")
		}
		name, value, _ := strings.Cut(pair, "=")
		name, err := url.QueryUnescape(name)
		if err != nil {
			return nil, err
		}
		if value, err = url.QueryUnescape(value); err != nil {
			return nil, err
		}
		list = append(list, parameter{name, value})
	}
	return list, nil
}

func knownParameters(takes []string) string {
	if len(takes) == 0 {
		return "this operation takes none"
	}
	return "this operation takes: " + strings.Join(takes, ", ")
}

// clip keeps foreign names short in messages; %q escapes what does not print.
func clip(s string) string {
	if r := []rune(s); len(r) > 64 {
		return string(r[:64]) + "…"
	}
	return s
}

// param returns a query parameter, or nil when it is not given.
func (r *request) param(name string) *string {
	for i := range r.query {
		if r.query[i].name == name {
			return &r.query[i].value
		}
	}
	return nil
}

// boolean reads a query parameter that is true or false; nil when not given.
func (r *request) boolean(name string) (*bool, error) {
	p := r.param(name)
	if p == nil {
		return nil, nil
	}
	if *p != "true" && *p != "false" {
		return nil, invalid("The query parameter "+name+" is not true or false", "give one of the two, or leave it out")
	}
	value := *p == "true"
	return &value, nil
}

// flag is boolean with a default.
func (r *request) flag(name string, otherwise bool) (bool, error) {
	b, err := r.boolean(name)
	if b == nil {
		return otherwise, err
	}
	return *b, err
}

// number reads a query parameter that is a whole number from low to high.
func (r *request) number(name string, otherwise, low, high uint64) (uint64, error) {
	p := r.param(name)
	if p == nil {
		return otherwise, nil
	}
	n, err := strconv.ParseUint(*p, 10, 64)
	if err != nil || n < low || n > high {
		return 0, invalid("The query parameter "+name+" is not valid", fmt.Sprintf("it must be a whole number from %d to %d", low, high))
	}
	return n, nil
}

// time reads a query parameter that is an RFC 3339 time; zero when not given.
func (r *request) time(name string) (time.Time, error) {
	p := r.param(name)
	if p == nil {
		return time.Time{}, nil
	}
	at, err := time.Parse(time.RFC3339Nano, *p)
	if err != nil {
		return time.Time{}, invalid("The query parameter "+name+" is not a time", "it must be an RFC 3339 time, as in 2026-04-29T14:00:00Z")
	}
	return at, nil
}

// name reads a query parameter that must not be empty; "" when not given.
func (r *request) name(name string) (string, error) {
	p := r.param(name)
	if p == nil {
		return "", nil
	}
	if *p == "" {
		return "", invalid(fmt.Sprintf("The query parameter %s is empty", name), "give it a value or leave it out")
	}
	return *p, nil
}

// oneOf reads a query parameter that has one of the known values; "" when not
// given.
func (r *request) oneOf(name string, known []string) (string, error) {
	given, err := r.name(name)
	if err == nil && given != "" && !slices.Contains(known, given) {
		return "", invalid("The query parameter "+name+" is not valid"+suggest.Hint(given, known), "it must be one of: "+strings.Join(known, ", "))
	}
	return given, err
}

// slot returns the slot that the path and the query name.
func (s *server) slot(r *request) (vault.Slot, error) {
	name, err := r.name("name")
	if err != nil {
		return vault.Slot{}, err
	}
	return s.vault.Slot(r.integration(), r.param("environment"), name)
}

// scope returns the scope of the environment that the query names; nil when it
// names none.
func (s *server) scope(r *request) (*envs.Scope, error) {
	environment := r.param("environment")
	if environment == nil {
		return nil, nil
	}
	scope, err := s.vault.Scope(environment)
	return &scope, err
}

// ifMatch reads the If-Match header (RFC 9110, section 13.1.1): one entity tag,
// or an asterisk for any. A tag that is not one of ours matches nothing.
func (r *request) ifMatch() (vault.Revision, error) {
	given := r.gin.Request.Header.Values("If-Match")
	if len(given) == 0 {
		return 0, nil
	}
	tag := strings.TrimSpace(given[0])
	if tag == "*" {
		return vault.AnyRevision, nil
	}
	inner, ok := strings.CutPrefix(tag, `"`)
	inner, closed := strings.CutSuffix(inner, `"`)
	if len(given) > 1 || !ok || !closed || strings.Contains(inner, `"`) {
		return 0, invalid("The If-Match header is malformed", `give one ETag as it was received, quotes and all, as in If-Match: "42"`)
	}
	revision, err := strconv.ParseUint(inner, 10, 63)
	if err != nil || revision == 0 {
		return vault.NoRevision, nil
	}
	return vault.Revision(revision), nil
}

func etag(revision vault.Revision) string {
	var room [24]byte
	return string(append(strconv.AppendUint(append(room[:0], '"'), uint64(revision), 10), '"'))
}

// read decodes the body into to: one JSON object, UTF-8, no member twice, no
// unknown member. The decoder's own errors can quote the body, so their text is
// dropped; what is said names the member.
func (r *request) read(to any) error {
	body, err := r.body()
	if err != nil {
		return err
	}
	if len(body) == 0 {
		return invalid("The request has no body", "send a JSON object")
	}
	defer clear(body)
	return decode(body, to)
}

// readOptional is read for a body that may be absent.
func (r *request) readOptional(to any) error {
	body, err := r.body()
	if err != nil || len(body) == 0 {
		return err
	}
	defer clear(body)
	return decode(body, to)
}

func decode(body []byte, to any) error {
	err := json.Unmarshal(body, to, json.RejectUnknownMembers(true))
	if err == nil {
		return nil
	}
	return decodeError(err, to)
}

// readNothing accepts an absent body and an empty object, which clients send with
// DELETE.
func (r *request) readNothing() error {
	body, err := r.body()
	if err != nil || len(body) == 0 {
		return err
	}
	return r.decodeEmpty(body)
}

func (r *request) decodeEmpty(body []byte) error {
	var nothing struct{}
	if json.Unmarshal(body, &nothing, json.RejectUnknownMembers(true)) != nil {
		return invalid("This operation takes no body", "send none, or {}")
	}
	return nil
}

func (r *request) body() ([]byte, error) {
	if t := r.gin.GetHeader("Content-Type"); t != "" {
		if media, _, err := mime.ParseMediaType(t); err != nil || media != "application/json" {
			return nil, invalid("The Content-Type is not application/json", "send JSON with Content-Type: application/json")
		}
	}
	body, err := readOnce(http.MaxBytesReader(r.gin.Writer, r.gin.Request.Body, maxBody), r.gin.Request.ContentLength)
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return nil, &vault.Error{Kind: vault.PayloadTooLarge, Msg: "The request body is too large", Details: fmt.Sprintf("at most %d bytes are read", maxBody)}
	}
	if err != nil {
		return nil, invalid("The request body could not be read", "it ended early or came too slowly").(*vault.Error)
	}
	r.await()
	return body, nil
}

// readOnce reads a body of that length, or of one that is not known (-1), into a buffer
// that its owner can clear: one that grows leaves copies of the secret behind.
func readOnce(r io.Reader, length int64) ([]byte, error) {
	buf := bytes.NewBuffer(make([]byte, 0, bytes.MinRead+min(max(length, 0), maxBody)))
	_, err := buf.ReadFrom(r)
	return buf.Bytes(), err
}

// await takes the server's deadlines off a request whose body is read. What follows
// may wait for plugins, each of which has a deadline of its own; and a read deadline
// that passes meanwhile would end the request's context.
func (r *request) await() {
	r.waited = true
	control := http.NewResponseController(r.gin.Writer)
	// Not every writer has deadlines (a test's recorder has none).
	_ = control.SetReadDeadline(time.Time{})
	_ = control.SetWriteDeadline(time.Time{})
}

// decodeError says what is wrong with a body without quoting any value of it.
func decodeError(err error, to any) error {
	semantic, ok := errors.AsType[*json.SemanticError](err)
	if !ok {
		return syntaxError(err)
	}
	path := pointerPath(semantic.JSONPointer)
	where := clip(strings.Join(path, "."))
	if errors.Is(err, json.ErrUnknownName) {
		names := memberNames(to)
		return invalid(fmt.Sprintf("Unknown field %q%s", where, suggest.Hint(where, names)), "the fields are: "+strings.Join(names, ", "))
	}
	if where == "" {
		return invalid("The request body is not a JSON object", "")
	}
	msg := where + " has the wrong type"
	if semantic.GoType != nil && strings.HasSuffix(semantic.GoType.String(), "Time") {
		msg = where + " is not an RFC 3339 time, as in 2026-04-29T14:00:00Z"
	} else if semantic.GoType != nil {
		msg += ": it must be " + jsonType(semantic.GoType)
	}
	return &vault.Error{Kind: vault.ValidationFailed, Msg: msg, Fields: []vault.FieldError{{Path: path, Code: "wrong_type", Msg: msg}}}
}

// required returns what is wrong with a body in which a field is not given.
func required(field string, given bool) error {
	if given {
		return nil
	}
	msg := field + " is missing"
	return &vault.Error{Kind: vault.ValidationFailed, Msg: msg, Fields: []vault.FieldError{{Path: []string{field}, Code: "missing", Msg: msg}}}
}

func syntaxError(err error) error {
	switch {
	case errors.Is(err, jsontext.ErrDuplicateName):
		return invalid("The request body has a field twice", "give each field once")
	default:
		if e, ok := errors.AsType[*jsontext.SyntacticError](err); ok {
			return invalid(fmt.Sprintf("The request body is not valid JSON (at byte %d)", e.ByteOffset), "send one JSON object in UTF-8")
		}
		return invalid("The request body is not valid JSON", "send one JSON object in UTF-8")
	}
}

func pointerPath(p jsontext.Pointer) []string {
	return slices.Collect(p.Tokens())
}

// memberNames returns the JSON names of a struct's fields.
func memberNames(to any) []string {
	var names []string
	for _, f := range reflect.VisibleFields(reflect.TypeOf(to).Elem()) {
		if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name != "" {
			names = append(names, name)
		}
	}
	return names
}

func jsonType(t reflect.Type) string {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.Slice:
		return "an array of strings"
	case reflect.Uint64:
		return "a whole number"
	case reflect.Map:
		return "an object of strings"
	default:
		return "a string"
	}
}
