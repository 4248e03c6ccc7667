package mcp

import (
	"context"
	"errors"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/sidevault/sidevault/api/codes"
	"github.com/sidevault/sidevault/vault"
	"github.com/sidevault/sidevault/vault/secret"
)

// Failure is what a tool call that did not succeed answers with.
type Failure struct {
	Code    string `json:"code" jsonschema:"the name of what went wrong, such as invalid_request or integration_not_found"`
	Status  int    `json:"status" jsonschema:"the HTTP status of the same error"`
	Message string `json:"message" jsonschema:"what went wrong, in a sentence"`
	Details string `json:"details,omitempty" jsonschema:"more about it, often what to do"`
}

// Error returns the message.
func (f *Failure) Error() string { return f.Message }

func failure(k vault.Kind, msg, details string) *Failure {
	return &Failure{Code: k.String(), Status: codes.Status(k), Message: msg, Details: details}
}

func invalid(msg string) *Failure { return failure(vault.InvalidRequest, msg, "") }

// explain says what an error is. What nobody classified stays in the log, under the
// request's ID.
func (s *Server) explain(ctx context.Context, requestID string, err error) *Failure {
	if f, ok := errors.AsType[*Failure](err); ok {
		return f.canonical()
	}
	e, ok := errors.AsType[*vault.Error](err)
	if !ok || e.Kind == vault.Internal {
		if !errors.Is(err, context.Canceled) {
			s.log.ErrorContext(ctx, "internal error", "request_id", requestID, "err", err)
		}
		return failure(vault.Internal, "Internal error", "the sidecar's log has more, under the ID of this request")
	}
	if e.Err != nil {
		s.log.WarnContext(ctx, "tool call refused", "request_id", requestID, "code", e.Kind.String(), "err", e.Err)
	}
	f := failure(e.Kind, e.Msg, e.Details)
	for _, fault := range e.Fields {
		f.add(fault.Msg)
	}
	return f.canonical()
}

// add appends what is wrong with one part of the input, unless it is said already.
func (f *Failure) add(fault string) {
	switch {
	case strings.Contains(f.Message, fault) || strings.Contains(f.Details, fault):
	case f.Details == "":
		f.Details = fault
	default:
		f.Details += "; " + fault
	}
}

// canonical gives a failure the code that the tools document: they do not tell
// input that is malformed from input that is not valid.
func (f *Failure) canonical() *Failure {
	out := *f
	if out.Code == vault.ValidationFailed.String() {
		out.Code, out.Status = vault.InvalidRequest.String(), codes.Status(vault.InvalidRequest)
	}
	if out.Code == vault.ToolSetupFailed.String() && out.Details == "" {
		out.Details = "the credential is stored; it is safe to call again"
	}
	return &out
}

// forbidden is the answer to a call of an admin tool without admin scope.
func forbidden() *Failure {
	return failure(vault.ForbiddenAdminScope, "This operation requires an admin-scoped API key", "ask an administrator to create a key with scope admin")
}

// nameLikeRE is what a mistyped name looks like, and a token of a provider hardly.
var nameLikeRE = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,23}$`)

// strike takes out of a failure's text whatever of the arguments may be a secret:
// the sidecar's messages quote names that it does not know.
func (f *Failure) strike(arguments []byte) {
	for _, s := range suspects(arguments) {
		for _, form := range quotations(s) {
			f.Message = strings.ReplaceAll(f.Message, form, secret.Redacted)
			f.Details = strings.ReplaceAll(f.Details, form, secret.Redacted)
		}
	}
}

// shortest is the length from which on a text is struck out: a shorter one is part of
// words.
const shortest = 4

// quotations are the forms in which messages quote a text: as it is, what prints of it,
// cut where it is long, and with escapes.
func quotations(s string) (forms []string) {
	prints := strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return -1
	}, s)
	for _, form := range []string{s, prints, clipped(s), clipped(prints)} {
		escaped := strconv.Quote(form)
		forms = append(forms, form, escaped[1:len(escaped)-1])
	}
	return slices.DeleteFunc(forms, func(form string) bool { return len(form) < shortest })
}

// clipped is how messages cut what is long.
func clipped(s string) string {
	if r := []rune(s); len(r) > 64 {
		return string(r[:64])
	}
	return s
}

// suspects returns the strings in a call's arguments, names of members included, that
// may be secrets. The longest come first, so that none leaves a part of another.
func suspects(arguments []byte) (list []string) {
	add := func(s string) {
		if len(s) >= shortest {
			list = append(list, s)
		}
	}
	var walk func(raw jsontext.Value, sensitive bool)
	walk = func(raw jsontext.Value, sensitive bool) {
		var object map[string]jsontext.Value
		var array []jsontext.Value
		var s string
		switch {
		case json.Unmarshal(raw, &object) == nil:
			for name, value := range object {
				if !plainRE.MatchString(name) && !nameLikeRE.MatchString(name) {
					add(name)
				}
				walk(value, sensitive || name == "value" || name == "fields")
			}
		case json.Unmarshal(raw, &array) == nil:
			for _, value := range array {
				walk(value, sensitive)
			}
		case json.Unmarshal(raw, &s) == nil:
			if sensitive || !nameLikeRE.MatchString(s) {
				add(s)
			}
		}
	}
	walk(arguments, false)
	slices.SortFunc(list, func(a, b string) int { return len(b) - len(a) })
	return list
}
