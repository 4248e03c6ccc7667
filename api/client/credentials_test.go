package client

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/sidevault/sidevault/api/wire"
	"github.com/sidevault/sidevault/vault/secret"
)

func TestRequestsByID(t *testing.T) {
	env, name := "production", "EMEA"
	value := secret.New(canary)
	slot := Slot{Integration: "sales/force", Environment: &env, Name: "a b"}
	ctx := t.Context()
	cases := map[string]struct {
		call func(*Client) error
		want string
	}{
		"create": {func(c *Client) error {
			_, err := c.Create(ctx, slot, SetInput{Value: &value, AuthType: "api_key"})
			return err
		}, `POST /v1/credentials {"integrationId":"sales/force","environment":"production","name":"a b","authType":"api_key","value":"c4n4ry-value"}`},
		"get": {func(c *Client) error {
			_, err := c.Get(ctx, "../x")
			return err
		}, "GET /v1/integrations/credentials/..%2Fx "},
		"details": {func(c *Client) error {
			_, err := c.Details(ctx, slot, ResolveOptions{NoFallback: true, Version: 3})
			return err
		}, "GET /v1/credentials/sales%2Fforce/details?environment=production&fallback=false&name=a+b "},
		"update": {func(c *Client) error {
			_, err := c.Update(ctx, "slack", "i", wire.UpdateRequest{Name: &name, ExpiresAt: wire.OptionalTime{Given: true}}, `"7"`)
			return err
		}, `PATCH /v1/credentials/slack/i {"name":"EMEA","expiresAt":null} If-Match "7"`},
		"remove": {func(c *Client) error {
			_, err := c.RemoveByID(ctx, "slack", "i", RemoveOptions{IfExists: true, IfMatch: "*"})
			return err
		}, "DELETE /v1/credentials/slack/i?ifExists=true  If-Match *"},
		"remove silently": {func(c *Client) error {
			return c.RemoveSilently(ctx, "i", RemoveOptions{})
		}, "DELETE /v1/integrations/credentials/i "},
		"versions": {func(c *Client) error {
			_, err := c.Versions(ctx, "slack", "i")
			return err
		}, "GET /v1/credentials/slack/i/versions "},
		"rollback": {func(c *Client) error {
			_, err := c.Rollback(ctx, "slack", "i", 3, "")
			return err
		}, `POST /v1/credentials/slack/i/rollback {"version":3}`},
		"usage": {func(c *Client) error {
			_, err := c.Usage(ctx, "slack", "i")
			return err
		}, "GET /v1/credentials/slack/i/usage "},
		"test": {func(c *Client) error {
			return c.Test(ctx, slot, SetInput{Value: &value, AuthType: "api_key"})
		}, `POST /v1/integrations/sales%2Fforce/credentials/test?environment=production&name=a+b {"authType":"api_key","value":"c4n4ry-value"}`},
		"test the stored one": {func(c *Client) error {
			return c.Test(ctx, Slot{Integration: "slack"}, SetInput{})
		}, `POST /v1/integrations/slack/credentials/test {}`},
		"plugins": {func(c *Client) error {
			_, err := c.Plugins(ctx)
			return err
		}, "GET /v1/plugins "},
		"retry": {func(c *Client) error {
			_, err := c.RetrySyncs(ctx, wire.RetryRequest{IntegrationID: &name, Environment: wire.OptionalScope{Given: true}})
			return err
		}, `POST /v1/sync/retry {"integrationId":"EMEA","environment":null}`},
		"retry all": {func(c *Client) error {
			_, err := c.RetrySyncs(ctx, wire.RetryRequest{})
			return err
		}, `POST /v1/sync/retry {}`},
		"categories": {func(c *Client) error {
			_, err := c.Categories(ctx, IntegrationFilter{Category: "crm", Environment: &env})
			return err
		}, "GET /v1/integrations/categories?environment=production "},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			var got string
			c := sidecar(t, func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				got = fmt.Sprintf("%s %s %s", r.Method, r.RequestURI, body)
				if tag := r.Header.Get("If-Match"); tag != "" {
					got += " If-Match " + tag
				}
				io.WriteString(w, `{}`)
			}, Options{})
			if err := tc.call(c); err != nil {
				t.Fatal(err)
			}
			if got != tc.want {
				t.Errorf("sent %s\nwant %s", got, tc.want)
			}
		})
	}
}

func TestETagsAreReturned(t *testing.T) {
	c := sidecar(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("ETag", `"7"`)
		io.WriteString(w, `{"success":true,"data":{"id":"cred-1","status":"active"}}`)
	}, Options{})
	got, err := c.Get(t.Context(), "cred-1")
	if err != nil || got.ETag != `"7"` || got.ID != "cred-1" {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestEmptyAnswers(t *testing.T) {
	c := sidecar(t, answer(http.StatusNoContent, ""), Options{})
	if err := c.RemoveSilently(t.Context(), "cred-1", RemoveOptions{}); err != nil {
		t.Error(err)
	}
}

// pagesOf answers as a sidecar with pages of two credentials would, and fails after
// the last of them.
func pagesOf(t *testing.T, asked *[]string, pages ...string) *Client {
	return sidecar(t, func(w http.ResponseWriter, r *http.Request) {
		*asked = append(*asked, r.URL.RawQuery)
		if len(*asked) > len(pages) {
			answer(403, `{"error":{"code":"FORBIDDEN","message":"no"}}`)(w, r)
			return
		}
		io.WriteString(w, pages[len(*asked)-1])
	}, Options{})
}

func TestListPages(t *testing.T) {
	var asked []string
	c := pagesOf(t, &asked,
		`{"data":[{"id":"a"},{"id":"b"}],"nextCursor":"x+/"}`, `{"data":[],"nextCursor":"y"}`, `{"data":[{"id":"c"}]}`)
	env := "staging"
	var got []string
	for cred, err := range c.List(t.Context(), CredentialFilter{Integration: "slack", Environment: &env, Status: "active", Usage: true, PageSize: 2}) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, cred.ID)
	}
	if strings.Join(got, "") != "abc" {
		t.Errorf("listed %v", got)
	}
	const filter = "environment=staging&integration=slack&limit=2&status=active&usage=true"
	if want := []string{filter, "cursor=x%2B%2F&" + filter, "cursor=y&" + filter}; !slices.Equal(asked, want) {
		t.Errorf("asked %v\nwant %v", asked, want)
	}
}

func TestSyncPages(t *testing.T) {
	var asked []string
	c := pagesOf(t, &asked, `{"data":[{"plugin":"a"}],"nextCursor":"x"}`, `{"data":[{"plugin":"b","state":"failing"}]}`)
	env := "staging"
	var got []string
	for sync, err := range c.Syncs(t.Context(), SyncFilter{Integration: "slack", Environment: &env, Name: "n", Plugin: "p", PageSize: 1}) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, sync.Plugin)
	}
	const filter = "environment=staging&integration=slack&limit=1&name=n&plugin=p"
	if want := []string{filter, "cursor=x&" + filter}; strings.Join(got, "") != "ab" || !slices.Equal(asked, want) {
		t.Errorf("listed %v, asked %v\nwant %v", got, asked, want)
	}
}

// What was changed comes with the error that came after it.
func TestChangedAndFailed(t *testing.T) {
	const failure = `{"success":false,"error":{"code":"TOOL_SETUP_FAILED","message":"stored, not synced"},"data":{"id":"cred-7","version":3,"wasNoop":false},"request_id":"r1"}`
	c := sidecar(t, answer(500, failure), Options{})
	value := secret.New(canary)
	slot := Slot{Integration: "slack"}
	set, err := c.Set(t.Context(), slot, SetInput{Value: &value})
	if e, ok := errors.AsType[*Error](err); !ok || e.Code != CodeToolSetupFailed || set.Data.ID != "cred-7" || set.Data.Version != 3 {
		t.Errorf("%+v, %v", set, err)
	}
	made, err := c.Create(t.Context(), slot, SetInput{Value: &value})
	if err == nil || made.ID != "cred-7" {
		t.Errorf("%+v, %v", made, err)
	}
	removed, err := c.Remove(t.Context(), slot, RemoveOptions{})
	if err == nil || removed.Data.ID != "cred-7" {
		t.Errorf("%+v, %v", removed, err)
	}
	c = sidecar(t, answer(500, strings.Replace(failure, "TOOL_SETUP_FAILED", "INTERNAL", 1)), Options{})
	if set, err := c.Set(t.Context(), slot, SetInput{Value: &value}); err == nil || set.Data.ID != "" {
		t.Errorf("%+v, %v", set, err)
	}
}

func TestListEndsEarly(t *testing.T) {
	var asked []string
	c := pagesOf(t, &asked, `{"data":[{"id":"a"},{"id":"b"}],"nextCursor":"x"}`)
	for range c.List(t.Context(), CredentialFilter{}) {
		break
	}
	if len(asked) != 1 {
		t.Errorf("asked %v", asked)
	}
	n, last := 0, error(nil)
	for _, err := range c.List(t.Context(), CredentialFilter{}) {
		n, last = n+1, err
	}
	if e, ok := errors.AsType[*Error](last); !ok || e.Code != "FORBIDDEN" || n != 1 {
		t.Errorf("%d yielded, the last with %v", n, last)
	}
}
