// Package contract holds a plugin to the contract that docs/plugins.md describes. It
// starts the program as a sidecar does, asks it what a sidecar would ask and what a
// broken or hostile one might, and says of every demand whether it is met.
//
// It sees a program from the outside, so it cannot tell what one does at a provider,
// and knows of right and wrong credentials only what it is told ([Program.Good],
// [Program.Bad]). A syncer under test really syncs: give it a system to test with.
package contract

import (
	"context"
	"maps"
	"time"

	"github.com/sidevault/sidevault/plugins/pluginpb"
	"github.com/sidevault/sidevault/vault/secret"
)

// Kind is what a plugin is.
type Kind string

// The kinds.
const (
	Validator Kind = pluginpb.ServiceValidator
	Syncer    Kind = pluginpb.ServiceSyncer
)

// Program is a plugin under test, and what is known of it.
type Program struct {
	Path string // of the executable
	Args []string
	// Env are variables, as in NAME=value. Of others, the program gets those that a
	// sidecar sets. It runs in an empty folder of its own.
	Env  []string
	Kind Kind // "": what the program says itself

	// Config is the configuration of a binding, a JSON object; "" is none. With one
	// given, an unknown key in it must be refused.
	Config string

	// Good are credentials that a validator accepts, or that a syncer delivers and
	// removes; Bad are those that it does not.
	Good, Bad []Credential

	// Timeout is how long one call may take; 0: DefaultTimeout.
	Timeout time.Duration
}

// DefaultTimeout is what a sidecar waits for an answer unless it is told otherwise.
const DefaultTimeout = 10 * time.Second

// Credential is one to ask about.
type Credential struct {
	Name     string // for the report
	Fields   map[string]secret.Value
	AuthType string
	Config   string // instead of that of the program
}

// Opaque returns a credential that is one opaque string.
func Opaque(value string) Credential { return WithFields(map[string]string{"value": value}) }

// WithFields returns a credential of several fields.
func WithFields(fields map[string]string) Credential {
	c := Credential{Fields: make(map[string]secret.Value, len(fields))}
	for name, text := range fields {
		c.Fields[name] = secret.New(text)
	}
	return c
}

// Named returns the credential with a name for the report.
func (c Credential) Named(name string) Credential {
	c.Name = name
	return c
}

// WithConfig returns the credential with a configuration of its own.
func (c Credential) WithConfig(config string) Credential {
	c.Config = config
	return c
}

// with returns a copy that has another text in one field.
func (c Credential) with(field string, text secret.Value) Credential {
	c.Fields = maps.Clone(c.Fields)
	c.Fields[field] = text
	return c
}

// Check holds a program to the contract. It leaves no process behind.
func Check(ctx context.Context, p Program) Report {
	b := newBench(p)
	defer b.close()
	for _, d := range demands() {
		if d.only == "" || b.report.Kind == "" || d.only == b.report.Kind {
			b.report.Results = append(b.report.Results, b.hold(ctx, d))
		}
	}
	return b.report
}
