package wire

import "encoding/json"

// Sync says how far a slot's last change has come with one syncer.
type Sync struct {
	IntegrationID string  `json:"integrationId"`
	Environment   *string `json:"environment"`
	Name          string  `json:"name"`
	Plugin        string  `json:"plugin"`  // name of the binding in the catalog entry
	Program       string  `json:"program"` // the configured plugin
	State         string  `json:"state"`   // pending, failing, synced or never
	Change        string  `json:"change,omitempty"`
	CredentialID  string  `json:"credentialId,omitempty"`
	Version       uint64  `json:"version,omitzero"`
	Attempts      int     `json:"attempts"`
	LastError     string  `json:"lastError"` // "": none
	ChangedAt     *Time   `json:"changedAt,omitempty"`
	SyncedAt      *Time   `json:"syncedAt,omitempty"`
	NextAttempt   *Time   `json:"nextAttempt"` // nil: none is to come
}

// RetryRequest selects syncs to make due at once. What is left out selects all.
type RetryRequest struct {
	IntegrationID *string       `json:"integrationId,omitempty"`
	Environment   OptionalScope `json:"environment,omitzero"`
	Name          *string       `json:"name,omitempty"`
	Plugin        *string       `json:"plugin,omitempty"` // name of a binding
}

// OptionalScope is a scope that may be left out (the zero value): any. A nil
// Environment is the shared scope.
type OptionalScope struct {
	Given       bool
	Environment *string
}

// IsZero reports whether the scope was left out.
func (s OptionalScope) IsZero() bool { return !s.Given }

// MarshalJSON prints the environment or null.
func (s OptionalScope) MarshalJSON() ([]byte, error) { return json.Marshal(s.Environment) }

// UnmarshalJSON reads an environment or null.
func (s *OptionalScope) UnmarshalJSON(b []byte) error {
	s.Given = true
	return json.Unmarshal(b, &s.Environment)
}

// RetryResult says how many syncs are due now.
type RetryResult struct {
	Retried int `json:"retried"`
}

// Plugin is a configured program, as the sidecar sees it.
type Plugin struct {
	Name        string   `json:"name"`
	Path        string   `json:"path"`
	SHA256      string   `json:"sha256,omitempty"`
	Version     string   `json:"version,omitempty"`
	Description string   `json:"description,omitempty"`
	Services    []string `json:"services"`
	Status      string   `json:"status"`
	Reason      string   `json:"reason,omitempty"`
	Processes   int      `json:"processes"`
	Calls       uint64   `json:"calls"`
	Failures    uint64   `json:"failures"` // calls that got no answer
	Restarts    uint64   `json:"restarts"`
	NextStart   *Time    `json:"nextStart,omitempty"`
}
