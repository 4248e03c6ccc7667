package mcp

// setResult is what admin_set_integration_credentials answers.
type setResult struct {
	Key            string  `json:"key" jsonschema:"the integration's catalog key"`
	IsConfigured   bool    `json:"isConfigured" jsonschema:"true: the integration has a credential there"`
	HasCredentials bool    `json:"hasCredentials" jsonschema:"true: the credential is stored"`
	UpdatedAt      string  `json:"updatedAt" jsonschema:"when it was stored, RFC 3339"`
	Environment    *string `json:"environment,omitempty" jsonschema:"the environment, when one was given"`
}

// removeResult is what admin_remove_integration_credentials answers.
type removeResult struct {
	Key          string  `json:"key" jsonschema:"the integration's catalog key"`
	IsConfigured bool    `json:"isConfigured" jsonschema:"false: the integration has no credential there"`
	Environment  *string `json:"environment,omitempty" jsonschema:"the environment, when one was given"`
}

// Status says what a slot holds.
type Status struct {
	Key            string  `json:"key" jsonschema:"the integration's catalog key"`
	Environment    *string `json:"environment,omitempty" jsonschema:"the environment; missing for the credential of all environments"`
	Name           string  `json:"name" jsonschema:"the credential's name"`
	IsConfigured   bool    `json:"isConfigured" jsonschema:"whether a credential is set for exactly this environment and name"`
	HasCredentials bool    `json:"hasCredentials" jsonschema:"the same as isConfigured"`
	CredentialID   string  `json:"credentialId,omitempty" jsonschema:"the credential's ID"`
	Status         string  `json:"status,omitempty" jsonschema:"active, inactive or expired; only an active credential is served"`
	AuthType       string  `json:"authType,omitempty" jsonschema:"the type of the credential"`
	Version        uint64  `json:"version,omitempty" jsonschema:"how often it was set"`
	UpdatedAt      string  `json:"updatedAt,omitempty" jsonschema:"when it was last changed, RFC 3339"`
	ExpiresAt      string  `json:"expiresAt,omitempty" jsonschema:"when it expires, RFC 3339; missing: never"`
}

// Integration is a catalog entry.
type Integration struct {
	Key          string    `json:"key" jsonschema:"the catalog key, for integration_key of the other tools"`
	Name         string    `json:"name" jsonschema:"as people call it"`
	Category     string    `json:"category" jsonschema:"what it is about, such as crm"`
	Description  string    `json:"description,omitempty" jsonschema:"what it is"`
	Enabled      bool      `json:"enabled" jsonschema:"false: no credential can be set or read"`
	IsConfigured bool      `json:"isConfigured" jsonschema:"whether a credential is set anywhere that was looked"`
	ConfiguredIn []*string `json:"configuredIn" jsonschema:"the environments with a credential; null stands for all environments"`
	AuthTypes    []string  `json:"authTypes,omitempty" jsonschema:"the types of credential that it takes"`
	Fields       []Field   `json:"fields,omitempty" jsonschema:"the fields of its credential, for fields of admin_set_integration_credentials; missing: any"`
	Environments []string  `json:"environments,omitempty" jsonschema:"the only environments that it can be set for; missing: every one"`
}

// Field describes one field of an integration's credential.
type Field struct {
	Name        string `json:"name" jsonschema:"the field's name"`
	Description string `json:"description,omitempty" jsonschema:"what goes into it"`
	Required    bool   `json:"required" jsonschema:"whether it must be given"`
	Secret      bool   `json:"secret" jsonschema:"false: it may be shown, as a host name"`
}

type integrationList struct {
	Integrations []Integration `json:"integrations" jsonschema:"the catalog entries, in the order of their keys"`
}

// Environment is a configured environment.
type Environment struct {
	Name      string `json:"name" jsonschema:"the name, for environment of the other tools"`
	Parent    string `json:"parent,omitempty" jsonschema:"the environment whose credentials are used where this one has none"`
	Protected bool   `json:"protected" jsonschema:"whether an API key must name it to use it"`
	KeyHeld   bool   `json:"keyHeld" jsonschema:"false: this sidecar cannot decrypt its credentials"`
}

type environmentList struct {
	Environments []Environment `json:"environments" jsonschema:"the environments that the caller may use"`
}

// AuditPage is a page of the audit log, newest entry first.
type AuditPage struct {
	Entries    []AuditEntry `json:"entries" jsonschema:"newest first"`
	NextCursor string       `json:"nextCursor,omitempty" jsonschema:"give it as cursor for the next page; missing on the last one"`
}

// AuditEntry is one entry of the audit log.
type AuditEntry struct {
	Seq          uint64         `json:"seq" jsonschema:"its number in the log"`
	Time         string         `json:"time" jsonschema:"RFC 3339"`
	Org          string         `json:"org" jsonschema:"the tenant"`
	Actor        AuditActor     `json:"actor" jsonschema:"who did it"`
	Action       string         `json:"action" jsonschema:"what was done, such as set_integration_credentials"`
	TargetType   string         `json:"target_type" jsonschema:"what kind of thing it was done to, such as integration"`
	TargetID     string         `json:"target_id" jsonschema:"which one: an integration's key, for example"`
	Environment  *string        `json:"environment" jsonschema:"the environment; null stands for all environments"`
	Name         string         `json:"name,omitempty" jsonschema:"the credential's name"`
	CredentialID string         `json:"credential_id,omitempty" jsonschema:"the credential's ID"`
	Version      uint64         `json:"version,omitempty" jsonschema:"the credential's version"`
	Outcome      string         `json:"outcome" jsonschema:"success, or the code of the error"`
	Metadata     map[string]any `json:"metadata,omitempty" jsonschema:"more about it: wasUpdate of a set (false: it was the first), wasNoop of a removal (true: there was nothing)"`
	RequestID    string         `json:"request_id,omitempty" jsonschema:"the ID of the request"`
	Source       string         `json:"source" jsonschema:"rest, mcp or cli"`
	Peer         string         `json:"peer,omitempty" jsonschema:"the network address that it came from"`
	Realm        string         `json:"realm,omitempty" jsonschema:"what the client called its realm"`
	Prev         string         `json:"prev" jsonschema:"the hash of the entry before it"`
	Hash         string         `json:"hash" jsonschema:"the hash of the entry"`
}

// AuditActor is who did something.
type AuditActor struct {
	ID    string `json:"id" jsonschema:"the caller's ID"`
	Name  string `json:"name" jsonschema:"the caller's name"`
	Email string `json:"email" jsonschema:"empty when it is not known"`
	Kind  string `json:"kind" jsonschema:"api_key, jwt, unix or system"`
}
