// Package sdk is what an author of a Sidevault plugin imports. A plugin is a program
// of its own that the sidecar starts and calls: a [Validator] says whether a
// credential is good before it is stored, a [Syncer] carries stored changes to
// another system. Each is one method; [ServeValidator] and [ServeSyncer] do the rest.
//
//	type acme struct{}
//
//	func (acme) Validate(_ context.Context, r sdk.ValidateRequest) (sdk.ValidateResult, error) {
//		if !strings.HasPrefix(r.Value().Reveal(), "acme_") {
//			return sdk.Reject("an Acme key begins with acme_"), nil
//		}
//		return sdk.Accept(), nil
//	}
//
//	func main() {
//		sdk.ServeValidator(acme{}, sdk.Info{Name: "acme", Version: "1.0.0"})
//	}
//
// # What a plugin gets
//
// The request has everything: the sidecar's environment, files and sockets are out
// of reach. Secrets are [secret.Value]: they print as a placeholder, and Reveal gives
// the text. Do not log what Reveal returns, and do not put it into a message; what
// slips through, the package strikes out of messages and errors, and the sidecar out
// of the log.
//
// # Rules
//
// Methods are called concurrently. A call must end when its context does: one that
// outlives its deadline costs the process its life. A method that panics gives no
// answer; the process goes on. Log with [log/slog], which the package sends to the
// sidecar's log; standard output belongs to the protocol.
//
// Test a plugin with plugins/plugintest, or with "sidevault plugin check".
package sdk

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/sidevault/sidevault/vault/secret"
)

// Validator says whether a credential is good.
type Validator interface {
	// Validate returns [Accept] or [Reject]. An error means that it cannot tell, as
	// when the provider does not answer: the credential is then refused too, but the
	// caller is told to try again. Validate must change nothing at the provider.
	Validate(ctx context.Context, r ValidateRequest) (ValidateResult, error)
}

// Syncer carries changes to another system.
type Syncer interface {
	// Sync returns [Done] or [Fail]. An error is a failure too. After a failure the
	// sidecar calls again, with the same IdempotencyKey, until the change succeeds or
	// a newer one of the same slot replaces it: Sync must be idempotent.
	Sync(ctx context.Context, r SyncRequest) (SyncResult, error)
}

// ValueField is the name of the field that holds a credential given as one opaque
// string.
const ValueField = "value"

// Place is where a credential belongs.
type Place struct {
	Org         string // slug of the tenant
	Integration string // key of the catalog entry
	Environment string // "": the shared scope, all environments
	Name        string // default, unless the caller gave one
}

// Credential is a credential as far as the plugin is given it.
type Credential struct {
	Place    Place
	Fields   map[string]secret.Value
	AuthType string // one of the catalog entry's, or ""
}

// Value returns the field named value: the credential that is one opaque string.
func (c Credential) Value() secret.Value { return c.Fields[ValueField] }

// Config is the configuration of a binding: a JSON object from the catalog.
type Config []byte

// Decode reads the configuration into a struct, strictly: an unknown key is an
// error. An absent configuration is the empty object. One that is not an object
// never reaches a plugin: the package answers with an error for it.
func (c Config) Decode(into any) error {
	if len(bytes.TrimSpace(c)) == 0 {
		c = Config("{}")
	}
	if err := c.check(); err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(c))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return fmt.Errorf("the config of the catalog: %w", err)
	}
	return nil
}

// check refuses what is not one JSON object. The decoder alone would take null, and
// whatever follows the object.
func (c Config) check() error {
	if text := bytes.TrimSpace(c); len(text) > 0 && (text[0] != '{' || !json.Valid(text)) {
		return errors.New("the config of the catalog is not a JSON object")
	}
	return nil
}

// ValidateRequest asks about one credential.
type ValidateRequest struct {
	Credential
	Config Config
}

// ValidateResult is a validator's answer. The zero value is none; make it with
// [Accept] or [Reject].
type ValidateResult struct {
	verdict verdict
	message string
	fields  map[string]string
}

type verdict uint8

const (
	noVerdict verdict = iota
	accepted
	rejected
)

// Accept says that the credential is good.
func Accept() ValidateResult { return ValidateResult{verdict: accepted} }

// Reject says that the credential is not good, and to a person why and what to do.
// At most 500 characters are shown.
func Reject(format string, args ...any) ValidateResult {
	return ValidateResult{verdict: rejected, message: fmt.Sprintf(format, args...)}
}

// Field adds what is wrong with one field, and makes the result a rejection.
func (r ValidateResult) Field(name, format string, args ...any) ValidateResult {
	fields := map[string]string{name: fmt.Sprintf(format, args...)}
	for n, m := range r.fields {
		if n != name {
			fields[n] = m
		}
	}
	r.verdict, r.fields = rejected, fields
	return r
}

// Change is what happened to a slot.
type Change string

// The changes.
const (
	Set    Change = "set"    // the slot has a new value
	Remove Change = "remove" // the slot has no credential that may be used any longer
)

// SyncRequest is one change. Fields is empty with Remove.
type SyncRequest struct {
	Credential
	Change       Change
	CredentialID string // cred- and a UUID
	Version      uint64 // counts the values of one credential, from 1
	// IdempotencyKey is the same whenever this change is tried again, and another
	// one for every other change.
	IdempotencyKey string
	Attempt        int // from 1
	Config         Config
}

// SyncResult is a syncer's answer. The zero value is a failure; make it with [Done]
// or [Fail].
type SyncResult struct {
	done       bool
	message    string
	retryAfter time.Duration
}

// Done says that the other system has the change.
func Done() SyncResult { return SyncResult{done: true} }

// Fail says, to a person, why the other system has not. At most 500 characters are
// shown.
func Fail(format string, args ...any) SyncResult {
	return SyncResult{message: fmt.Sprintf(format, args...)}
}

// RetryAfter asks for no new attempt before d has passed, in whole seconds and at
// most a day.
func (r SyncResult) RetryAfter(d time.Duration) SyncResult {
	r.retryAfter = d
	return r
}

// Info is what a plugin tells of itself.
type Info struct {
	Name        string
	Version     string // such as 1.4.0
	Description string // one sentence, for people
}
