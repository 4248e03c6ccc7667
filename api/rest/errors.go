package rest

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/sidevault/sidevault/api/codes"
	"github.com/sidevault/sidevault/api/wire"
	"github.com/sidevault/sidevault/vault"
)

// retryAfter is the Retry-After of the kinds that pass by themselves, in seconds.
var retryAfter = map[vault.Kind]string{
	vault.RateLimited:          "1",
	vault.BackendUnavailable:   "1",
	vault.ValidatorUnavailable: "1",
}

// statusClientClosed is what the count and the log of requests say of a client that
// did not wait; it is never sent.
const statusClientClosed = 499

func code(k vault.Kind) string { return strings.ToUpper(k.String()) }

// afterChange is an error that came after the change was stored.
type afterChange struct {
	error
	data any // what was stored or deleted
}

// Unwrap returns the error itself.
func (a *afterChange) Unwrap() error { return a.error }

// after returns err with what was changed, where the kind says that it was.
func after(err error, data any) error {
	if vault.KindOf(err) != vault.ToolSetupFailed {
		return err
	}
	return &afterChange{error: err, data: data}
}

// fail answers with err. The text of what is not the vault's own error stays in
// the log.
func (s *server) fail(r *request, err error) {
	if errors.Is(err, context.Canceled) && r.ctx().Err() != nil {
		// Nobody is there to be told, and nothing of ours failed.
		r.gin.AbortWithStatus(statusClientClosed)
		return
	}
	e, ok := errors.AsType[*vault.Error](err)
	if !ok || e.Kind == vault.Internal {
		s.log.ErrorContext(r.ctx(), "internal error", "request_id", r.id(), "route", r.route(), "err", err)
		e = &vault.Error{Msg: "Internal error", Details: "the log has more, under this request's ID"}
	} else if e.Err != nil {
		s.log.WarnContext(r.ctx(), "request refused", "request_id", r.id(), "route", r.route(), "code", e.Kind.String(), "err", e.Err)
	}
	if seconds, ok := retryAfter[e.Kind]; ok {
		r.gin.Header("Retry-After", seconds)
	}
	if e.Kind == vault.Unauthorized {
		r.gin.Header("WWW-Authenticate", "Bearer")
	}
	var data any
	if a, ok := errors.AsType[*afterChange](err); ok {
		data = a.data
	}
	s.failWith(r, codes.Status(e.Kind), e, data)
}

// failWith answers with e, and with what was changed nevertheless; nil: nothing.
func (s *server) failWith(r *request, status int, e *vault.Error, data any) {
	body := wire.Failure{
		Error:     wire.Error{Code: code(e.Kind), Message: e.Msg, Details: e.Details},
		Data:      data,
		RequestID: r.id(),
		Timestamp: wire.Time(time.Now()),
	}
	for _, f := range e.Fields {
		body.Detail = append(body.Detail, wire.Detail{Loc: append([]string{"body"}, f.Path...), Msg: f.Msg, Type: f.Code})
	}
	s.write(r, answer{status: status, body: body})
	r.gin.Abort()
}

// noRoute and noMethod answer for what is not in the table of routes.
func (s *server) noRoute(r *request) {
	s.failWith(r, http.StatusNotFound, &vault.Error{
		Kind: vault.InvalidRequest, Msg: "There is no such path", Details: "GET /openapi.yaml describes every path",
	}, nil)
}

func (s *server) noMethod(r *request) {
	s.failWith(r, http.StatusMethodNotAllowed, &vault.Error{
		Kind: vault.InvalidRequest, Msg: "This path does not take this method", Details: "it takes: " + r.gin.Writer.Header().Get("Allow"),
	}, nil)
}

func invalid(msg, details string) error {
	return &vault.Error{Kind: vault.InvalidRequest, Msg: msg, Details: details}
}
