package mcp

import (
	"context"
	"time"

	"github.com/sidevault/sidevault/vault/secret"
)

// Port is what the tools ask of a sidecar, in the name of one caller. What the
// sidecar refuses comes back as a [*Failure] or a [*vault.Error]; any other error
// stays in the log. The sidecar checks scope, grant and input itself: what reaches a
// port has its JSON types right, and nothing else.
type Port interface {
	// Admin reports whether the caller has admin scope.
	Admin(ctx context.Context) (bool, error)
	// Words returns what descriptions of tools tell the caller. It is asked for each
	// tools/list.
	Words(ctx context.Context) (Words, error)

	// Set sets the slot's credential and returns when. A failure of code
	// tool_setup_failed says that it is set nevertheless.
	Set(ctx context.Context, s Slot, c Credential) (time.Time, error)
	// Remove removes the slot's credential, if there is one.
	Remove(ctx context.Context, s Slot) error
	Status(ctx context.Context, s Slot) (Status, error)
	Integrations(ctx context.Context, q IntegrationQuery) ([]Integration, error)
	Environments(ctx context.Context) ([]Environment, error)
	Audit(ctx context.Context, q AuditQuery) (AuditPage, error)
}

// Words are the names that a caller may use.
type Words struct {
	Integrations []string // keys of the catalog
	Environments []string
}

// Slot names where a credential is. A nil Environment stands for all environments,
// an empty Name for the default one.
type Slot struct {
	Integration string
	Environment *string
	Name        string
}

// Credential is a secret: Value or Fields.
type Credential struct {
	Value  *secret.Value
	Fields map[string]secret.Value
}

// IntegrationQuery selects catalog entries. Zero fields select all.
type IntegrationQuery struct {
	Category    string
	Environment *string
	Configured  *bool
}

// AuditQuery selects audit entries. Zero fields select all.
type AuditQuery struct {
	Limit       int // 0: the sidecar's default
	Cursor      string
	Action      string
	Integration string
	Environment *string
	Actor       string // ID
	Outcome     string
	Since       time.Time
	Until       time.Time
}

// Moment prints a time as the tools' results have it.
func Moment(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02T15:04:05.000Z")
}
