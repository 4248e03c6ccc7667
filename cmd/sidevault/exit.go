package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/sidevault/sidevault/api/client"
	"github.com/sidevault/sidevault/vault"
)

// exitCode is what the program tells the shell that started it.
type exitCode int

const (
	exitOK exitCode = iota
	exitError
	exitUsage
	exitNotFound
	exitDenied
	exitConflict
	exitUnavailable
	exitWarnings
)

// exits is the documentation of the exit codes, and which answers of a sidecar
// end in each.
func exits() []exit {
	return []exit{
		{exitOK, "it is done", nil},
		{exitError, "any other error", nil},
		{exitUsage, "the command line, a setting or the request is not valid, or a validator rejected the credential", []int{
			http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity}},
		{exitNotFound, "no such integration, credential or key", []int{http.StatusNotFound}},
		{exitDenied, "the token is not valid, or may not do this", []int{http.StatusUnauthorized, http.StatusForbidden}},
		{exitConflict, "deleted before, exists already, expired, or changed meanwhile", []int{
			http.StatusConflict, http.StatusPreconditionFailed}},
		{exitUnavailable, "the sidecar, its storage or a validator cannot be reached; try again later", []int{
			http.StatusTooManyRequests, http.StatusServiceUnavailable}},
		{exitWarnings, "doctor found warnings, and no errors", nil},
	}
}

type exit struct {
	code     exitCode
	meaning  string
	statuses []int
}

// failure is an error for the person at the terminal: a sentence, and what to
// type next.
type failure struct {
	code exitCode
	msg  string
	hint string
	err  error
}

func (f *failure) Error() string { return f.msg }
func (f *failure) Unwrap() error { return f.err }

func failf(code exitCode, format string, args ...any) *failure {
	return &failure{code: code, msg: fmt.Sprintf(format, args...)}
}

func usagef(format string, args ...any) *failure { return failf(exitUsage, format, args...) }

func (f *failure) hinted(format string, args ...any) *failure {
	f.hint = fmt.Sprintf(format, args...)
	return f
}

// because attaches the cause, whose text is the sentence's last part.
func (f *failure) because(err error) *failure {
	f.msg, f.err = f.msg+": "+err.Error(), err
	return f
}

// ended is the exit code of another program that was run, which has said itself what
// there is to say.
type ended int

func (e ended) Error() string { return fmt.Sprintf("the program ended with the code %d", int(e)) }

// report prints an error and returns the exit code that stands for it.
func report(w io.Writer, err error) exitCode {
	if err == nil {
		return exitOK
	}
	if e, ok := errors.AsType[ended](err); ok {
		return exitCode(e)
	}
	f := explain(err)
	fmt.Fprintf(w, "sidevault: %s\n", strings.TrimSpace(f.msg))
	if f.hint != "" {
		fmt.Fprintf(w, "hint: %s\n", f.hint)
	}
	return f.code
}

func explain(err error) *failure {
	if f, ok := errors.AsType[*failure](err); ok {
		return f
	}
	if e, ok := errors.AsType[*client.Error](err); ok {
		return refused(e)
	}
	if e, ok := errors.AsType[*client.InputError](err); ok {
		return usagef("%s", e.Msg)
	}
	if e, ok := errors.AsType[*vault.Error](err); ok {
		return refusedOffline(e)
	}
	if e, ok := errors.AsType[*client.UnreachableError](err); ok {
		f := failf(exitUnavailable, "%s", e.Error())
		return f.hinted(`start a sidecar with "sidevault serve", to try it out with "sidevault serve --dev", or name the address of one with --addr or SIDEVAULT_ADDR`)
	}
	return failf(exitError, "%s", err.Error())
}

// refused explains a sidecar's answer.
func refused(e *client.Error) *failure {
	f := failf(exitError, "%s", e.Message)
	for _, x := range exits() {
		for _, status := range x.statuses {
			if status == e.Status {
				f.code = x.code
			}
		}
	}
	for _, d := range e.Fields {
		f.msg += fmt.Sprintf("; %s: %s", strings.Join(d.Loc, "."), d.Msg)
	}
	f.hint = e.Details
	if next := nextStep(e.Code); next != "" {
		f.hint = strings.TrimPrefix(f.hint+"; "+next, "; ")
	}
	if f.code == exitError && e.RequestID != "" {
		f.msg += fmt.Sprintf(" (request %s)", e.RequestID)
	}
	return f
}

// refusedOffline explains what the vault says to a command that opened it itself.
func refusedOffline(e *vault.Error) *failure {
	f := failf(exitError, "%s", e.Msg)
	f.hint = e.Details
	switch e.Kind {
	case vault.InvalidRequest, vault.ValidationFailed:
		f.code = exitUsage
	case vault.IntegrationNotFound, vault.CredentialNotFound:
		f.code = exitNotFound
	case vault.CredentialExists:
		f.code = exitConflict
	case vault.BackendUnavailable, vault.EnvironmentLocked:
		f.code = exitUnavailable
	}
	if e.Err != nil {
		f.because(e.Err)
	}
	return f
}

// nextStep returns the command that helps with a code.
func nextStep(code string) string {
	switch code {
	case "UNAUTHORIZED":
		return "put a valid API key into SIDEVAULT_TOKEN, or the path of a file with it into SIDEVAULT_TOKEN_FILE"
	case "FORBIDDEN":
		return `"sidevault key create --name NAME -e ENVIRONMENT --integration INTEGRATION" with an admin key makes one that may`
	case "FORBIDDEN_ADMIN_SCOPE":
		return `"sidevault key create --name NAME --scope admin -e ENVIRONMENT" makes one`
	case "ENVIRONMENT_LOCKED":
		return `"sidevault env list" shows whose keys this host holds, "sidevault env share" on one that holds it gives it`
	case "INTEGRATION_NOT_FOUND":
		return `"sidevault catalog list" shows the integrations`
	case "CREDENTIAL_NOT_FOUND":
		return `"sidevault list --configured" shows what is set`
	case "KEY_NOT_FOUND":
		return `"sidevault key list" shows the keys`
	case "CREDENTIAL_ALREADY_DELETED":
		return `"sidevault delete --if-exists" takes that for done`
	case "CREDENTIAL_EXPIRED":
		return `"sidevault set" replaces it`
	case "CREDENTIAL_INACTIVE":
		return `"sidevault set" replaces it, "sidevault credential update --status active" serves it again`
	case "VALIDATOR_UNAVAILABLE":
		return `"sidevault plugin list" shows what is wrong with it`
	case client.CodeToolSetupFailed:
		return `"sidevault sync list" shows what is pending, "sidevault sync retry" hurries it`
	case "VERSION_CONFLICT":
		return "run the command again if the change still applies"
	}
	return ""
}
