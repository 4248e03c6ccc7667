package client

import (
	"fmt"

	"github.com/sidevault/sidevault/api/wire"
)

// Error is a sidecar's refusal.
type Error struct {
	Code      string        // of the API's list, as in CREDENTIAL_NOT_FOUND; "" when the answer is not a sidecar's
	Message   string        // a sentence
	Details   string        // a second one, often with what to do; may be ""
	Fields    []wire.Detail // what is wrong with parts of the request's body, with status 422
	Status    int           // of HTTP
	RequestID string        // to look for in the sidecar's log
}

// Error returns the message with its details.
func (e *Error) Error() string {
	s := e.Message
	if e.Details != "" {
		s += ": " + e.Details
	}
	return s
}

// UnreachableError says that no answer came from the address.
type UnreachableError struct {
	Address string
	Err     error
}

// Error names the address and the cause.
func (e *UnreachableError) Error() string {
	return fmt.Sprintf("no sidecar answers at %s: %s", e.Address, e.Err)
}

// Unwrap returns the cause.
func (e *UnreachableError) Unwrap() error { return e.Err }

// InputError says what is wrong with an argument. Nothing was sent.
type InputError struct{ Msg string }

// Error returns the message, which holds no secret.
func (e *InputError) Error() string { return e.Msg }
