package wire

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

// Environment is a configured environment.
type Environment struct {
	Name      string  `json:"name"`
	Parent    *string `json:"parent"`
	Protected bool    `json:"protected"`
	KeyHeld   bool    `json:"keyHeld"` // this host can read and set credentials there
	// Recipients can open the environment's key; admins see them.
	Recipients []string `json:"recipients,omitempty"`
}

// Rotation is how far the rotation of an environment's key is. The members from
// StartedAt on are of one that is running.
type Rotation struct {
	Environment *string  `json:"environment"`
	Running     bool     `json:"running"`
	Key         int      `json:"key"`       // number of the newest key
	Recipient   string   `json:"recipient"` // its public half
	StartedAt   *Time    `json:"startedAt,omitempty"`
	StartedBy   *Actor   `json:"startedBy,omitempty"`
	Done        int      `json:"done,omitzero"`     // credentials that are sealed anew
	Total       int      `json:"total,omitzero"`    // of so many
	Damaged     []string `json:"damaged,omitempty"` // records that no key opens, with which it cannot end
}
