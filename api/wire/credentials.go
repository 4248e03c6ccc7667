package wire

import (
	"encoding/json"

	"github.com/sidevault/sidevault/vault/secret"
)

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
	Value    *secret.Value           `json:"value,omitempty"`
	Fields   map[string]secret.Value `json:"fields,omitempty"`
	AuthType string                  `json:"authType,omitempty"`
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
	LastReadAt     *Time             `json:"lastReadAt,omitempty"` // in lists that were asked for usage
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
	Sync           []Sync      `json:"sync"` // one for each syncer of the entry
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
