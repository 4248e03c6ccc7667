package rest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

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
	named  vault.RequestContext // the context of all that is done for it
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

// noRoute is the pattern of what matched no route.
const noRoute = "none"

func (r *request) ctx() context.Context { return &r.named }
func (r *request) id() string           { return r.caller.Origin.RequestID }

// route is the pattern that the request matched: unlike the path, a name of ours.
func (r *request) route() string {
	if p := r.gin.FullPath(); p != "" {
		return p
	}
	return noRoute
}

func (r *request) integration() string { return r.gin.Param("integration") }

// clip keeps foreign names short in messages; %q escapes what does not print.
func clip(s string) string {
	if r := []rune(s); len(r) > 64 {
		return string(r[:64]) + "…"
	}
	return s
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
	given := r.gin.Request.Header["If-Match"]
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
	if t := first(r.gin.Request, "Content-Type"); t != "" {
		if media, _, err := mime.ParseMediaType(t); err != nil || media != "application/json" {
			return nil, invalid("The Content-Type is not application/json", "send JSON with Content-Type: application/json")
		}
	}
	tooLarge := &vault.Error{Kind: vault.PayloadTooLarge, Msg: "The request body is too large", Details: fmt.Sprintf("at most %d bytes are read", maxBody)}
	if r.gin.Request.ContentLength > maxBody {
		return nil, tooLarge // by its own account: none of it is read
	}
	body, err := readOnce(http.MaxBytesReader(r.gin.Writer, r.gin.Request.Body, maxBody), r.gin.Request.ContentLength)
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return nil, tooLarge
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
