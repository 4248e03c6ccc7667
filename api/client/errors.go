package client

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/sidevault/sidevault/api/wire"
)

// CodeToolSetupFailed is the code of an error that came after the change was
// stored: a syncer failed.
const CodeToolSetupFailed = "TOOL_SETUP_FAILED"

// Error is a sidecar's refusal.
type Error struct {
	Code      string        // of the API's list, as in CREDENTIAL_NOT_FOUND; "" when the answer is not a sidecar's
	Message   string        // a sentence
	Details   string        // a second one, often with what to do; may be ""
	Fields    []wire.Detail // what is wrong with parts of the request's body
	Status    int           // of HTTP
	RequestID string        // to look for in the sidecar's log

	data json.RawMessage // what was changed nevertheless
}

// changed decodes what was changed although err says that something failed after
// it, and returns err.
func changed(err error, to any) error {
	e, ok := errors.AsType[*Error](err)
	if ok && e.Code == CodeToolSetupFailed && len(e.data) > 0 && json.Unmarshal(e.data, to) != nil {
		return notSidecar(e.Status)
	}
	return err
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
