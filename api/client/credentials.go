package client

import (
	"context"
	"encoding/json"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/sidevault/sidevault/api/wire"
)

// Described is a credential without its secret, and the ETag that names its
// present state for IfMatch.
type Described struct {
	wire.Credential
	ETag string
	// Stale is for how long the answer may have been out of date, because the
	// sidecar's storage was away; 0: it was not. Whole seconds, rounded up.
	Stale time.Duration
}

func (c *Client) describe(ctx context.Context, r call) (Described, error) {
	got, said, err := fetchTagged[wire.Envelope[wire.Credential]](ctx, c, r)
	err = changed(err, &got.Data)
	return Described{Credential: got.Data, ETag: said.etag, Stale: said.stale}, err
}

// Create sets a credential in a slot that must be free. An error with
// CodeToolSetupFailed comes with the credential, which is stored.
func (c *Client) Create(ctx context.Context, s Slot, in SetInput) (Described, error) {
	body, err := in.encode(s, true)
	if err != nil {
		return Described{}, err
	}
	defer clear(body)
	return c.describe(ctx, call{method: http.MethodPost, path: []string{"v1", "credentials"}, ifMatch: in.IfMatch, body: body})
}

// Get returns the credential with that ID, which may come without its prefix.
func (c *Client) Get(ctx context.Context, id string) (Described, error) {
	return c.describe(ctx, call{method: http.MethodGet, path: []string{"v1", "integrations", "credentials", id}})
}

// Details returns the credential that Resolve finds for the slot, whatever its
// status. A version in the options is ignored.
func (c *Client) Details(ctx context.Context, s Slot, o ResolveOptions) (Described, error) {
	o.Version = 0
	return c.describe(ctx, call{method: http.MethodGet, path: []string{"v1", "credentials", s.Integration, "details"}, query: o.query(s)})
}

// CredentialFilter selects credentials. Zero fields select all.
type CredentialFilter struct {
	Integration string
	Environment *string
	Name        string
	Status      string // active, inactive or expired
	Usage       bool   // ask when each was last read, too; takes admin scope
	PageSize    int    // credentials asked for at once, at most 500; 0: as many as the sidecar likes
}

func (f CredentialFilter) query() url.Values {
	q := url.Values{}
	add(q, "integration", f.Integration)
	add(q, "name", f.Name)
	add(q, "status", f.Status)
	if f.Environment != nil {
		q.Set("environment", *f.Environment)
	}
	if f.Usage {
		q.Set("usage", "true")
	}
	if f.PageSize != 0 {
		q.Set("limit", strconv.Itoa(f.PageSize))
	}
	return q
}

// List returns the credentials that are not deleted and that the token's grant
// covers, page by page as they are asked for. What exists throughout comes once,
// whatever is created and deleted meanwhile. An error ends the sequence.
func (c *Client) List(ctx context.Context, f CredentialFilter) iter.Seq2[wire.Credential, error] {
	return pages[wire.Credential](ctx, c, call{
		method: http.MethodGet, path: []string{"v1", "integrations", "credentials"}, query: f.query(),
	})
}

func byID(integration, id string, more ...string) []string {
	return append([]string{"v1", "credentials", integration, id}, more...)
}

// Update changes a credential's metadata; what is left out of the request stays.
// With an ifMatch the credential must still have that ETag.
func (c *Client) Update(ctx context.Context, integration, id string, r wire.UpdateRequest, ifMatch string) (Described, error) {
	return c.change(ctx, http.MethodPatch, r, ifMatch, byID(integration, id))
}

// Rollback makes the value of an older version that is still kept the next
// version. With an ifMatch the credential must still have that ETag.
func (c *Client) Rollback(ctx context.Context, integration, id string, version uint64, ifMatch string) (Described, error) {
	return c.change(ctx, http.MethodPost, wire.RollbackRequest{Version: version}, ifMatch, byID(integration, id, "rollback"))
}

// change sends a body that holds no secret.
func (c *Client) change(ctx context.Context, method string, body any, ifMatch string, path []string) (Described, error) {
	encoded, err := json.Marshal(body)
	if err != nil {
		return Described{}, err
	}
	return c.describe(ctx, call{method: method, path: path, ifMatch: ifMatch, body: encoded})
}

// RemoveByID deletes the credential of that integration with that ID, and says
// whom that concerns. CodeToolSetupFailed is as with Remove.
func (c *Client) RemoveByID(ctx context.Context, integration, id string, o RemoveOptions) (wire.Envelope[wire.Removal], error) {
	removed, err := fetch[wire.Envelope[wire.Removal]](ctx, c, o.call(url.Values{}, byID(integration, id)...))
	err = changed(err, &removed.Data)
	return removed, err
}

// RemoveSilently deletes the credential with that ID, of whatever integration.
func (c *Client) RemoveSilently(ctx context.Context, id string, o RemoveOptions) error {
	_, err := fetch[struct{}](ctx, c, o.call(url.Values{}, "v1", "integrations", "credentials", id))
	return err
}

// Versions returns the versions of a credential that are kept, newest first.
func (c *Client) Versions(ctx context.Context, integration, id string) (wire.Page[wire.Version], error) {
	return fetch[wire.Page[wire.Version]](ctx, c, call{method: http.MethodGet, path: byID(integration, id, "versions")})
}

// Usage returns who read the credential in the last 30 days.
func (c *Client) Usage(ctx context.Context, integration, id string) (wire.Envelope[wire.Usage], error) {
	return fetch[wire.Envelope[wire.Usage]](ctx, c, call{method: http.MethodGet, path: byID(integration, id, "usage")})
}

// Test runs the checks of a set, its validators among them, without storing
// anything: on the input's Value or Fields or, without either, on the credential
// that the slot holds. It returns nil when they pass.
func (c *Client) Test(ctx context.Context, s Slot, in SetInput) error {
	body, err := SetInput{Value: in.Value, Fields: in.Fields, AuthType: in.AuthType}.encode(Slot{}, false)
	if err != nil {
		return err
	}
	defer clear(body)
	_, err = fetch[wire.Envelope[wire.TestResult]](ctx, c, call{
		method: http.MethodPost, path: append(s.credentials(), "test"), query: s.query(), body: body,
	})
	return err
}

// Categories returns the catalog by category. The filter's Category is ignored.
func (c *Client) Categories(ctx context.Context, f IntegrationFilter) (wire.Page[wire.Category], error) {
	f.Category = ""
	return fetch[wire.Page[wire.Category]](ctx, c, call{
		method: http.MethodGet, path: []string{"v1", "integrations", "categories"}, query: f.query(),
	})
}
