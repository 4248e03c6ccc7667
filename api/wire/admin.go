package wire

import (
	"github.com/sidevault/sidevault/vault/secret"
)

// Scopes of an API key.
const (
	ScopeUser  = "user"
	ScopeAdmin = "admin"
)

// CreateKeyRequest creates an API key.
type CreateKeyRequest struct {
	Name         string   `json:"name"`
	Email        string   `json:"email,omitempty"`
	Scope        string   `json:"scope"`
	Environments []string `json:"environments"`
	Integrations []string `json:"integrations"`
	ExpiresAt    *Time    `json:"expiresAt,omitempty"`
}

// Key is what is known of an API key besides its secret.
type Key struct {
	ID           string   `json:"id"`
	Name         string   `json:"name"`
	Email        string   `json:"email,omitempty"`
	Scope        string   `json:"scope"`
	Environments []string `json:"environments"`
	Integrations []string `json:"integrations"`
	CreatedAt    Time     `json:"createdAt"`
	CreatedBy    Actor    `json:"createdBy"`
	ExpiresAt    *Time    `json:"expiresAt,omitempty"`
	RevokedAt    *Time    `json:"revokedAt,omitempty"`
}

// NewKey is an API key at its creation, the only time its secret is shown. The
// secret is in the member key; like a resolved credential's, the server encodes
// it.
type NewKey struct {
	Key
	Secret secret.Value `json:"key"`
}

// AuditEntry is one entry of the audit log.
type AuditEntry struct {
	Seq          uint64         `json:"seq"`
	Time         Time           `json:"time"`
	Org          string         `json:"org"`
	Actor        AuditActor     `json:"actor"`
	Action       string         `json:"action"`
	TargetType   string         `json:"target_type"`
	TargetID     string         `json:"target_id"`
	Environment  *string        `json:"environment"`
	Name         string         `json:"name,omitempty"`
	CredentialID string         `json:"credential_id,omitempty"`
	Version      uint64         `json:"version,omitzero"`
	Outcome      string         `json:"outcome"`
	Metadata     map[string]any `json:"metadata,omitempty"`
	RequestID    string         `json:"request_id,omitempty"`
	Source       string         `json:"source"`
	Peer         string         `json:"peer,omitempty"`
	Realm        string         `json:"realm,omitempty"`
	Prev         string         `json:"prev"`
	Hash         string         `json:"hash"`
}

// AuditActor is an Actor with its kind: api_key, jwt, unix or system.
type AuditActor struct {
	ID    string `json:"id"`
	Name  string `json:"name"`
	Email string `json:"email"`
	Kind  string `json:"kind"`
}

// AuditHead is where the audit log's chain ends. The members from Intact on come
// with ?verify=true.
type AuditHead struct {
	Seq      uint64 `json:"seq"`
	Hash     string `json:"hash"`
	Intact   *bool  `json:"intact,omitempty"`
	BrokenAt uint64 `json:"brokenAt,omitzero"` // the first broken entry
	Reason   string `json:"reason,omitempty"`
}

// Whoami is the caller as the server sees it.
type Whoami struct {
	ID           string   `json:"id"`
	Name         string   `json:"name"`
	Email        string   `json:"email"`
	Kind         string   `json:"kind"`
	Org          Org      `json:"org"`
	Scope        string   `json:"scope"`
	Environments []string `json:"environments"`
	Integrations []string `json:"integrations"`
}

// Org is a tenant.
type Org struct {
	ID   string `json:"id"`
	Slug string `json:"slug"`
}

// Health is the body of /healthz and /readyz.
type Health struct {
	Status string  `json:"status"` // ok, degraded or unavailable
	Checks []Check `json:"checks,omitempty"`
}

// Check is one part of /readyz. Since is when its status was first seen to be this one.
type Check struct {
	Name   string `json:"name"`
	Status string `json:"status"`
	Reason string `json:"reason,omitempty"`
	Since  Time   `json:"since"`
}
