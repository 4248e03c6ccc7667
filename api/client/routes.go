package client

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/sidevault/sidevault/api/wire"
	"github.com/sidevault/sidevault/vault/secret"
)

// Slot names where a credential is. A nil Environment is the scope that all
// environments share, an empty Name the default one.
type Slot struct {
	Integration string
	Environment *string
	Name        string
}

func (s Slot) query() url.Values {
	q := url.Values{}
	if s.Environment != nil {
		q.Set("environment", *s.Environment)
	}
	add(q, "name", s.Name)
	return q
}

func add(q url.Values, name, value string) {
	if value != "" {
		q.Set(name, value)
	}
}

func (s Slot) credentials() []string {
	return []string{"v1", "integrations", s.Integration, "credentials"}
}

// SetInput is a credential to set: Value or Fields, not both.
type SetInput struct {
	Value     *secret.Value
	Fields    map[string]secret.Value
	AuthType  string
	ExpiresAt time.Time // zero: never
	Labels    map[string]string
	IfMatch   string // the ETag that the credential must still have; "": any
}

// Set sets the slot's credential: it creates one, or adds a version. It takes as
// long as the validators and syncers of the integration do, each of which may take
// a minute. An error with CodeToolSetupFailed comes with the answer's Data: the
// credential is stored, and a syncer failed, which is tried again by itself.
func (c *Client) Set(ctx context.Context, s Slot, in SetInput) (wire.SlotEnvelope[wire.SetResult], error) {
	body, err := in.encode(s, false)
	if err != nil {
		return wire.SlotEnvelope[wire.SetResult]{}, err
	}
	defer clear(body)
	set, err := fetch[wire.SlotEnvelope[wire.SetResult]](ctx, c, call{method: http.MethodPut, path: s.credentials(), ifMatch: in.IfMatch, body: body})
	err = changed(err, &set.Data)
	return set, err
}

// plainRequest is the body of a set, a creation or a test, as it goes out.
type plainRequest struct {
	IntegrationID string `json:"integrationId,omitempty"`
	wire.SetRequest
	Value  *string           `json:"value,omitempty"`
	Fields map[string]string `json:"fields,omitempty"`
}

// encode prints the body of a set or, with creates, of a creation. It is where secrets leave, and the only place. JSON
// would quietly replace what is not UTF-8.
func (in SetInput) encode(s Slot, creates bool) ([]byte, error) {
	for name, v := range in.all() {
		if !utf8.ValidString(v.Reveal()) {
			return nil, &InputError{fmt.Sprintf("the %s is not UTF-8 text: encode it, as base64 for example", name)}
		}
	}
	body := plainRequest{SetRequest: wire.SetRequest{
		Environment: s.Environment, AuthType: in.AuthType, ExpiresAt: wire.Optional(in.ExpiresAt), Labels: in.Labels,
	}}
	if s.Name != "" {
		body.Name = &s.Name
	}
	if creates {
		body.IntegrationID = s.Integration
	}
	if in.Value != nil {
		plain := in.Value.Reveal()
		body.Value = &plain
	}
	if len(in.Fields) > 0 {
		body.Fields = make(map[string]string, len(in.Fields))
	}
	for name, v := range in.Fields {
		body.Fields[name] = v.Reveal()
	}
	return json.Marshal(body)
}

// all returns the secrets by name.
func (in SetInput) all() map[string]secret.Value {
	all := map[string]secret.Value{}
	maps.Copy(all, in.Fields)
	if in.Value != nil {
		all["value"] = *in.Value
	}
	return all
}

// Status says what the slot holds, without its secret.
func (c *Client) Status(ctx context.Context, s Slot) (wire.Envelope[wire.SlotStatus], error) {
	return fetch[wire.Envelope[wire.SlotStatus]](ctx, c, call{method: http.MethodGet, path: s.credentials(), query: s.query()})
}

// RemoveOptions are the optional parts of a removal.
type RemoveOptions struct {
	IfExists bool   // that nothing is there is not an error
	IfMatch  string // the ETag that the credential must still have; "": any
}

func (o RemoveOptions) call(q url.Values, path ...string) call {
	if o.IfExists {
		q.Set("ifExists", "true")
	}
	return call{method: http.MethodDelete, path: path, query: q, ifMatch: o.IfMatch}
}

// Remove deletes the slot's credential, and never that of another slot. An error
// with CodeToolSetupFailed comes with the answer's Data: the credential is deleted,
// and a syncer failed, which is tried again by itself.
func (c *Client) Remove(ctx context.Context, s Slot, o RemoveOptions) (wire.SlotEnvelope[wire.Removal], error) {
	removed, err := fetch[wire.SlotEnvelope[wire.Removal]](ctx, c, o.call(s.query(), s.credentials()...))
	err = changed(err, &removed.Data)
	return removed, err
}

// ResolveOptions are the optional parts of Resolve.
type ResolveOptions struct {
	NoFallback bool   // look in the slot's own scope alone
	Version    uint64 // an older version that is still kept; 0: the current one
}

// Found is a credential with its secret.
type Found struct {
	wire.Envelope[wire.Resolved]
	// Stale is for how long the answer may have been out of date, because the
	// sidecar's storage was away; 0: it was not. Whole seconds, rounded up.
	Stale time.Duration `json:"-"`
}

// Resolve returns the credential for the slot with its secret: the slot's own,
// else its environment's parents', else the shared one. While the sidecar's storage
// is away it can be one that was rotated or deleted since: Stale says so.
func (c *Client) Resolve(ctx context.Context, s Slot, o ResolveOptions) (Found, error) {
	got, said, err := fetchTagged[wire.Envelope[wire.Resolved]](ctx, c, call{
		method: http.MethodGet, path: []string{"v1", "credentials", s.Integration}, query: o.query(s),
	})
	return Found{Envelope: got, Stale: said.stale}, err
}

func (o ResolveOptions) query(s Slot) url.Values {
	q := s.query()
	if o.NoFallback {
		q.Set("fallback", "false")
	}
	if o.Version != 0 {
		q.Set("version", strconv.FormatUint(o.Version, 10))
	}
	return q
}

// IntegrationFilter selects catalog entries. Zero fields select all.
type IntegrationFilter struct {
	Category    string
	Environment *string // configured in this one
	Configured  *bool
}

// Integrations returns the catalog with each entry's status.
func (c *Client) Integrations(ctx context.Context, f IntegrationFilter) (wire.Page[wire.Integration], error) {
	return fetch[wire.Page[wire.Integration]](ctx, c, call{method: http.MethodGet, path: []string{"v1", "integrations"}, query: f.query()})
}

func (f IntegrationFilter) query() url.Values {
	q := url.Values{}
	add(q, "category", f.Category)
	if f.Environment != nil {
		q.Set("environment", *f.Environment)
	}
	if f.Configured != nil {
		q.Set("configured", strconv.FormatBool(*f.Configured))
	}
	return q
}

// Integration returns one catalog entry with its status.
func (c *Client) Integration(ctx context.Context, key string) (wire.Envelope[wire.Integration], error) {
	return fetch[wire.Envelope[wire.Integration]](ctx, c, call{method: http.MethodGet, path: []string{"v1", "integrations", key}})
}

// Register adds a catalog entry.
func (c *Client) Register(ctx context.Context, r wire.RegisterRequest) (wire.Envelope[wire.Integration], error) {
	return send[wire.Envelope[wire.Integration]](ctx, c, http.MethodPost, r, "v1", "integrations")
}

// UpdateIntegration changes a catalog entry.
func (c *Client) UpdateIntegration(ctx context.Context, key string, r wire.UpdateIntegrationRequest) (wire.Envelope[wire.Integration], error) {
	return send[wire.Envelope[wire.Integration]](ctx, c, http.MethodPatch, r, "v1", "integrations", key)
}

// send is fetch with a body that holds no secret.
func send[T any](ctx context.Context, c *Client, method string, body any, path ...string) (answer T, err error) {
	encoded, err := json.Marshal(body)
	if err != nil {
		return answer, err
	}
	return fetch[T](ctx, c, call{method: method, path: path, body: encoded})
}

// StartRotation gives an environment a new key, and returns while its records are
// sealed anew; nil is the scope that all environments share. One that is under way
// goes on.
func (c *Client) StartRotation(ctx context.Context, environment *string) (wire.Envelope[wire.Rotation], error) {
	return fetch[wire.Envelope[wire.Rotation]](ctx, c, call{method: http.MethodPost, path: rotation(environment)})
}

// Rotation says how far the rotation of an environment's key is.
func (c *Client) Rotation(ctx context.Context, environment *string) (wire.Envelope[wire.Rotation], error) {
	return fetch[wire.Envelope[wire.Rotation]](ctx, c, call{method: http.MethodGet, path: rotation(environment)})
}

func rotation(environment *string) []string {
	name := "@shared"
	if environment != nil {
		name = *environment
	}
	return []string{"v1", "environments", name, "rotation"}
}

// Environments returns the environments that the token's grant covers.
func (c *Client) Environments(ctx context.Context) (wire.Page[wire.Environment], error) {
	return fetch[wire.Page[wire.Environment]](ctx, c, call{method: http.MethodGet, path: []string{"v1", "environments"}})
}

// Keys returns the API keys, revoked ones included, oldest first.
func (c *Client) Keys(ctx context.Context) (wire.Page[wire.Key], error) {
	return fetch[wire.Page[wire.Key]](ctx, c, call{method: http.MethodGet, path: []string{"v1", "keys"}})
}

// CreateKey creates an API key. Its secret is in the answer, and never again.
func (c *Client) CreateKey(ctx context.Context, r wire.CreateKeyRequest) (wire.Envelope[wire.NewKey], error) {
	return send[wire.Envelope[wire.NewKey]](ctx, c, http.MethodPost, r, "v1", "keys")
}

// RevokeKey revokes an API key, at once and for good.
func (c *Client) RevokeKey(ctx context.Context, id string) (wire.Envelope[wire.Key], error) {
	return fetch[wire.Envelope[wire.Key]](ctx, c, call{method: http.MethodDelete, path: []string{"v1", "keys", id}})
}

// AuditQuery selects audit entries. Zero fields select all.
type AuditQuery struct {
	Limit       int    // at most so many on one page; 0: as many as the sidecar likes
	Cursor      string // NextCursor of the page before
	Action      string
	Integration string
	Environment *string
	Actor       string // ID
	Outcome     string
	Since       time.Time // at or after
	Until       time.Time // before
}

// Audit returns a page of the audit log, newest entry first.
func (c *Client) Audit(ctx context.Context, a AuditQuery) (wire.Page[wire.AuditEntry], error) {
	q := url.Values{}
	if a.Limit != 0 {
		q.Set("limit", strconv.Itoa(a.Limit))
	}
	if a.Environment != nil {
		q.Set("environment", *a.Environment)
	}
	add(q, "cursor", a.Cursor)
	add(q, "action", a.Action)
	add(q, "integration", a.Integration)
	add(q, "actor", a.Actor)
	add(q, "outcome", a.Outcome)
	addTime(q, "since", a.Since)
	addTime(q, "until", a.Until)
	return fetch[wire.Page[wire.AuditEntry]](ctx, c, call{method: http.MethodGet, path: []string{"v1", "audit"}, query: q})
}

func addTime(q url.Values, name string, at time.Time) {
	if !at.IsZero() {
		q.Set(name, at.UTC().Format(wire.TimeFormat))
	}
}

// AuditHead returns where the audit log's chain ends; with verify the sidecar
// walks the chain first and says whether it is intact.
func (c *Client) AuditHead(ctx context.Context, verify bool) (wire.Envelope[wire.AuditHead], error) {
	q := url.Values{}
	if verify {
		q.Set("verify", "true")
	}
	return fetch[wire.Envelope[wire.AuditHead]](ctx, c, call{method: http.MethodGet, path: []string{"v1", "audit", "head"}, query: q})
}

// Whoami returns the caller as the sidecar sees it.
func (c *Client) Whoami(ctx context.Context) (wire.Envelope[wire.Whoami], error) {
	return fetch[wire.Envelope[wire.Whoami]](ctx, c, call{method: http.MethodGet, path: []string{"v1", "whoami"}})
}

// Health asks whether the sidecar is up.
func (c *Client) Health(ctx context.Context) (wire.Health, error) {
	return fetch[wire.Health](ctx, c, call{method: http.MethodGet, path: []string{"healthz"}})
}

// Ready says whether the sidecar can serve credentials, and which part of it
// cannot. That it cannot is not an error.
func (c *Client) Ready(ctx context.Context) (wire.Health, error) {
	got, err := c.do(ctx, call{method: http.MethodGet, path: []string{"readyz"}})
	if err != nil {
		return wire.Health{}, err
	}
	var h wire.Health
	if err := json.Unmarshal(got.body, &h); err != nil || h.Status == "" {
		return wire.Health{}, refusal(got.status, got.body)
	}
	return h, nil
}
