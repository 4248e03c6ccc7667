package vault

import (
	"errors"
	"fmt"
)

// Kind classifies an error for the caller. The list is closed; api maps each
// kind to its code and status, and a test demands a row for every one.
type Kind uint8

// The kinds. Internal is the zero value: what nobody classified is our fault,
// and its text stays in the log.
const (
	Internal            Kind = iota
	InvalidRequest           // malformed input, or a name that does not exist
	ValidationFailed         // well-formed input with a field missing, too long or of the wrong type
	InvalidCredentials       // a validator rejected the value
	IntegrationDisabled      // the catalog entry is disabled
	Unauthorized             // no valid key
	ForbiddenAdminScope      // an admin operation with a user-scoped caller
	Forbidden                // the caller's grant does not cover it
	IntegrationNotFound
	CredentialNotFound
	KeyNotFound
	CredentialDeleted // deleted before; a repeated deletion
	CredentialExists
	IntegrationExists
	CredentialInactive
	CredentialExpired
	VersionConflict // If-Match given, and the credential moved
	PayloadTooLarge
	RateLimited
	ToolSetupFailed      // stored, but a syncer in surface mode failed
	Integrity            // a stored record fails its binding or authentication
	EnvironmentLocked    // this host has no key for the environment
	ValidatorUnavailable // a required validator gave no answer
	BackendUnavailable   // storage cannot be reached or refuses writes
	kinds                // the number of kinds
)

// Kinds returns every kind, for tables that must be complete.
func Kinds() []Kind {
	all := make([]Kind, kinds)
	for i := range all {
		all[i] = Kind(i)
	}
	return all
}

// Error is what the vault's methods return. Msg is a sentence for the caller
// and never holds a secret; Details, where there is more to say, is a second
// one. Err is for the log alone and never leaves the process.
type Error struct {
	Kind    Kind
	Msg     string
	Details string
	Fields  []FieldError // with ValidationFailed
	Err     error
}

// FieldError says what is wrong with one field of a request body. Path leads to
// it from the body, as in ["fields", "host"]. Code is a short machine-readable
// name: missing, unknown, too_long, too_short, wrong_type, pattern, forbidden.
type FieldError struct {
	Path []string
	Code string
	Msg  string
}

// Error returns the text for the log: the message and what is behind it.
func (e *Error) Error() string {
	s := e.Msg
	if e.Details != "" {
		s += ": " + e.Details
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// KindOf returns the kind of err; that of a stranger is Internal.
func KindOf(err error) Kind {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	return Internal
}

// MessageOf returns what the caller may be told of err; nothing of a stranger.
func MessageOf(err error) string {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Msg
	}
	return ""
}

func errorf(kind Kind, format string, args ...any) *Error {
	return &Error{Kind: kind, Msg: fmt.Sprintf(format, args...)}
}

// because attaches the cause for the log.
func (e *Error) because(err error) *Error {
	e.Err = err
	return e
}

// detailed attaches the caller's second sentence.
func (e *Error) detailed(format string, args ...any) *Error {
	e.Details = fmt.Sprintf(format, args...)
	return e
}

// String returns the kind's canonical lower_snake name, as MCP and the audit
// log print it.
func (k Kind) String() string {
	if k < kinds {
		return kindNames[k]
	}
	return kindNames[Internal]
}

var kindNames = [kinds]string{
	Internal:             "internal",
	InvalidRequest:       "invalid_request",
	ValidationFailed:     "validation_error",
	InvalidCredentials:   "invalid_credentials",
	IntegrationDisabled:  "integration_disabled",
	Unauthorized:         "unauthorized",
	ForbiddenAdminScope:  "forbidden_admin_scope",
	Forbidden:            "forbidden",
	IntegrationNotFound:  "integration_not_found",
	CredentialNotFound:   "credential_not_found",
	KeyNotFound:          "key_not_found",
	CredentialDeleted:    "credential_already_deleted",
	CredentialExists:     "credential_exists",
	IntegrationExists:    "integration_exists",
	CredentialInactive:   "credential_inactive",
	CredentialExpired:    "credential_expired",
	VersionConflict:      "version_conflict",
	PayloadTooLarge:      "payload_too_large",
	RateLimited:          "rate_limited",
	ToolSetupFailed:      "tool_setup_failed",
	Integrity:            "integrity_error",
	EnvironmentLocked:    "environment_locked",
	ValidatorUnavailable: "validator_unavailable",
	BackendUnavailable:   "backend_unavailable",
}
