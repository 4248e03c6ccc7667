// Package wire is the JSON of Sidevault's HTTP API, shared by the server and its
// clients. It holds data types and their encoding, and no behaviour; api/openapi.yaml
// is the contract that they follow.
package wire

import (
	"encoding/json"
	"errors"
	"time"

	"github.com/sidevault/sidevault/vault/secret"
)

// Headers of requests and responses.
const (
	HeaderRequestID = "X-Request-Id"
	HeaderTenantID  = "X-Tenantid"
	HeaderRealmName = "Realmname"
	HeaderLastEvent = "Last-Event-Id"
)

// CLIAgent begins the User-Agent of Sidevault's own command line.
const CLIAgent = "sidevault-cli/"

// Time is a time on the wire: RFC 3339, UTC, milliseconds.
type Time time.Time

// TimeFormat is the layout of a Time.
const TimeFormat = "2006-01-02T15:04:05.000Z"

// MarshalText prints the time in TimeFormat.
func (t Time) MarshalText() ([]byte, error) {
	return time.Time(t).UTC().AppendFormat(nil, TimeFormat), nil
}

// UnmarshalText reads any RFC 3339 time.
func (t *Time) UnmarshalText(b []byte) error {
	at, err := time.Parse(time.RFC3339Nano, string(b))
	if err != nil {
		return errors.New("not an RFC 3339 time, as in 2026-04-29T14:00:00Z")
	}
	*t = Time(at)
	return nil
}

// Optional returns nil for the zero time, else a pointer to the time.
func Optional(at time.Time) *Time {
	if at.IsZero() {
		return nil
	}
	t := Time(at)
	return &t
}

// Envelope is the body of every answer that succeeded.
type Envelope[T any] struct {
	Success   bool   `json:"success"`
	Message   string `json:"message,omitempty"`
	Data      T      `json:"data"`
	Timestamp Time   `json:"timestamp"`
}

// SlotEnvelope is the envelope of the routes that change a slot.
type SlotEnvelope[T any] struct {
	Success       bool    `json:"success"`
	Message       string  `json:"message,omitempty"`
	IntegrationID string  `json:"integrationId"`
	Environment   *string `json:"environment"`
	Data          T       `json:"data"`
	Timestamp     Time    `json:"timestamp"`
}

// Page is the envelope of a list. NextCursor is "" on the last page.
type Page[T any] struct {
	Success    bool   `json:"success"`
	Data       []T    `json:"data"`
	NextCursor string `json:"nextCursor,omitempty"`
	Timestamp  Time   `json:"timestamp"`
}

// Failure is the body of every answer that did not succeed. Detail comes with
// status 422, Data where something was stored nevertheless.
type Failure struct {
	Success   bool     `json:"success"`
	Error     Error    `json:"error"`
	Detail    []Detail `json:"detail,omitempty"`
	RequestID string   `json:"request_id"`
	Timestamp Time     `json:"timestamp"`
}

// Error says what went wrong: a code of the API's list, a sentence, and often a
// second one with what to do.
type Error struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	Details string `json:"details,omitempty"`
}

// Detail is what is wrong with one part of a request's body.
type Detail struct {
	Loc  []string `json:"loc"`
	Msg  string   `json:"msg"`
	Type string   `json:"type"`
}

// Actor is who did something.
type Actor struct {
	ID    string `json:"id"`
	Name  string `json:"name"`
	Email string `json:"email"`
}

// Integration is a catalog entry with its status.
type Integration struct {
	ID           string   `json:"id"`
	Name         string   `json:"name"`
	Category     string   `json:"category"`
	Description  string   `json:"description"`
	Docs         string   `json:"docs,omitempty"`
	Rotation     string   `json:"rotation,omitempty"`
	Enabled      bool     `json:"enabled"`
	Registered   bool     `json:"registered"`
	AuthTypes    []string `json:"authTypes"`
	Fields       []Field  `json:"fields"`
	Environments []string `json:"environments,omitempty"`
	CredentialOf string   `json:"credentialOf,omitempty"`
	IsConfigured bool     `json:"isConfigured"`
	// ConfiguredIn lists the scopes that have a credential; null stands for all
	// environments.
	ConfiguredIn []*string `json:"configuredIn"`
	CreatedAt    *Time     `json:"createdAt,omitempty"`
	UpdatedAt    *Time     `json:"updatedAt,omitempty"`
}

// Field describes one field of an integration's credential.
type Field struct {
	Name        string `json:"name"`
	Description string `json:"description,omitempty"`
	Required    bool   `json:"required"`
	Secret      bool   `json:"secret"`
	Pattern     string `json:"pattern,omitempty"`
}

// Category is a category with its integrations.
type Category struct {
	Category     string        `json:"category"`
	Integrations []Integration `json:"integrations"`
}

// RegisterRequest registers a catalog entry.
type RegisterRequest struct {
	ID          string   `json:"id"`
	Name        string   `json:"name,omitempty"`
	Category    string   `json:"category,omitempty"`
	Description string   `json:"description,omitempty"`
	AuthTypes   []string `json:"authTypes,omitempty"`
}

// UpdateIntegrationRequest changes a catalog entry.
type UpdateIntegrationRequest struct {
	Name    *string `json:"name,omitempty"`
	Enabled *bool   `json:"enabled,omitempty"`
}

// SetRequest sets a slot's credential: Value or Fields, not both.
type SetRequest struct {
	Environment *string                 `json:"environment,omitempty"`
	Name        *string                 `json:"name,omitempty"`
	Value       *secret.Value           `json:"value,omitempty"`
	Fields      map[string]secret.Value `json:"fields,omitempty"`
	AuthType    string                  `json:"authType,omitempty"`
	ExpiresAt   *Time                   `json:"expiresAt,omitempty"`
	Labels      map[string]string       `json:"labels,omitempty"`
}

// CreateRequest creates a credential in a slot that must be free. CredentialName is
// another name of Name.
type CreateRequest struct {
	IntegrationID  string  `json:"integrationId"`
	CredentialName *string `json:"credentialName,omitempty"`
	SetRequest
}

// UpdateRequest changes a credential's metadata; what is left out stays.
type UpdateRequest struct {
	Name      *string           `json:"name,omitempty"`
	Status    *string           `json:"status,omitempty"` // active or inactive
	ExpiresAt OptionalTime      `json:"expiresAt,omitzero"`
	Labels    map[string]string `json:"labels,omitzero"` // replaces all
}

// OptionalTime is a time that may be left out (the zero value) or be null.
type OptionalTime struct {
	Given bool
	At    *Time // nil: null
}

// IsZero reports whether the time was left out.
func (t OptionalTime) IsZero() bool { return !t.Given }

// MarshalJSON prints the time or null.
func (t OptionalTime) MarshalJSON() ([]byte, error) { return json.Marshal(t.At) }

// UnmarshalJSON reads a time or null.
func (t *OptionalTime) UnmarshalJSON(b []byte) error {
	t.Given = true
	return json.Unmarshal(b, &t.At)
}

// RollbackRequest names the version whose value becomes the next one.
type RollbackRequest struct {
	Version uint64 `json:"version"`
}

// TestRequest is a credential to check without storing it: Value or Fields, or
// neither for the stored one.
type TestRequest struct {
	Value  *secret.Value           `json:"value,omitempty"`
	Fields map[string]secret.Value `json:"fields,omitempty"`
}

// TestResult says that a credential passed its checks.
type TestResult struct {
	Valid bool `json:"valid"`
}

// Version is one value that a credential had and that is still kept.
type Version struct {
	Version   uint64 `json:"version"`
	Current   bool   `json:"current"`
	CreatedAt Time   `json:"createdAt"`
	CreatedBy Actor  `json:"createdBy"`
}

// Usage says who reads a credential.
type Usage struct {
	CredentialID  string     `json:"credentialId"`
	IntegrationID string     `json:"integrationId"`
	Since         Time       `json:"since"`
	Reads         int        `json:"reads"`
	Consumers     []Consumer `json:"consumers"` // last reader first
}

// Consumer is a caller that read a credential.
type Consumer struct {
	ID          string `json:"id"`
	Name        string `json:"name"`
	Email       string `json:"email"`
	Kind        string `json:"kind"`
	Reads       int    `json:"reads"`
	FirstReadAt Time   `json:"firstReadAt"`
	LastReadAt  Time   `json:"lastReadAt"`
}

// Types of watch events.
const (
	WatchSet     = "set"     // the slot holds this credential, new, rotated or changed
	WatchRemoved = "removed" // the slot holds none any more
	WatchReset   = "reset"   // changes were missed: read afresh
)

// WatchEvent is the data of one server-sent event.
type WatchEvent struct {
	Type          string      `json:"type"`
	IntegrationID string      `json:"integrationId,omitempty"`
	Environment   *string     `json:"environment"`
	Name          string      `json:"name,omitempty"`
	Credential    *Credential `json:"credential,omitempty"`
}

// Credential is what is known of a credential besides its secret fields.
// CredentialName is another name of Name.
type Credential struct {
	ID             string            `json:"id"`
	IntegrationID  string            `json:"integrationId"`
	Environment    *string           `json:"environment"`
	Name           string            `json:"name"`
	CredentialName string            `json:"credentialName"`
	AuthType       string            `json:"authType,omitempty"`
	Status         string            `json:"status"`
	Version        uint64            `json:"version"`
	Labels         map[string]string `json:"labels,omitempty"`
	CreatedAt      Time              `json:"createdAt"`
	CreatedBy      Actor             `json:"createdBy"`
	UpdatedAt      Time              `json:"updatedAt"`
	UpdatedBy      Actor             `json:"updatedBy"`
	ExpiresAt      *Time             `json:"expiresAt,omitempty"`
	DeletedAt      *Time             `json:"deletedAt,omitempty"`
	DeletedBy      *Actor            `json:"deletedBy,omitempty"`
}

// SlotStatus says what a slot holds.
type SlotStatus struct {
	IntegrationID  string      `json:"integrationId"`
	Environment    *string     `json:"environment"`
	Name           string      `json:"name"`
	IsConfigured   bool        `json:"isConfigured"`
	HasCredentials bool        `json:"hasCredentials"`
	UpdatedAt      *Time       `json:"updatedAt"`
	Credential     *Credential `json:"credential"`
}

// SetResult says what a set did.
type SetResult struct {
	Credential
	IsConfigured   bool `json:"isConfigured"`
	HasCredentials bool `json:"hasCredentials"`
}

// Removal says what a delete did. Without a credential there (WasNoop) the
// members from id on are missing.
type Removal struct {
	WasNoop        bool    `json:"wasNoop"`
	IntegrationID  string  `json:"integrationId"`
	Environment    *string `json:"environment"`
	Name           string  `json:"name"`
	ID             string  `json:"id,omitempty"`
	CredentialName string  `json:"credentialName,omitempty"`
	AuthType       string  `json:"authType,omitempty"`
	Status         string  `json:"status,omitempty"`
	Version        uint64  `json:"version,omitzero"`
	DeletedAt      *Time   `json:"deletedAt,omitempty"`
	DeletedBy      *Actor  `json:"deletedBy,omitempty"`
	// IntegrationsAffected counts the catalog entries that use the credential,
	// ConsumersAffected the callers that read it in the last 30 days.
	IntegrationsAffected *int `json:"integrationsAffected,omitempty"`
	ConsumersAffected    *int `json:"consumersAffected,omitempty"`
}

// Resolved is a credential with its secret: Value when it was set as one string,
// else Fields. Its MarshalJSON is the server's: a secret does not encode itself.
type Resolved struct {
	ID            string                  `json:"id"`
	IntegrationID string                  `json:"integrationId"`
	Environment   *string                 `json:"environment"` // asked for
	ResolvedFrom  *string                 `json:"resolvedFrom"`
	Name          string                  `json:"name"`
	AuthType      string                  `json:"authType,omitempty"`
	Version       uint64                  `json:"version"`
	UpdatedAt     Time                    `json:"updatedAt"`
	ExpiresAt     *Time                   `json:"expiresAt,omitempty"`
	Value         *secret.Value           `json:"value,omitempty"`
	Fields        map[string]secret.Value `json:"fields,omitempty"`
}

// Environment is a configured environment.
type Environment struct {
	Name      string  `json:"name"`
	Parent    *string `json:"parent"`
	Protected bool    `json:"protected"`
	KeyHeld   bool    `json:"keyHeld"` // this host can read and set credentials there
}

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
	Status string  `json:"status"` // ok or unavailable
	Checks []Check `json:"checks,omitempty"`
}

// Check is one part of /readyz.
type Check struct {
	Name   string `json:"name"`
	Status string `json:"status"`
	Reason string `json:"reason,omitempty"`
}
