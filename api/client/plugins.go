package client

import (
	"context"
	"iter"
	"net/http"
	"net/url"
	"strconv"

	"github.com/sidevault/sidevault/api/wire"
)

// Plugins returns the configured plugins, by name.
func (c *Client) Plugins(ctx context.Context) (wire.Page[wire.Plugin], error) {
	return fetch[wire.Page[wire.Plugin]](ctx, c, call{method: http.MethodGet, path: []string{"v1", "plugins"}})
}

// SyncFilter selects syncs. Zero fields select all.
type SyncFilter struct {
	Integration string
	Environment *string
	Name        string
	Plugin      string // name of a binding in the catalog entry
	PageSize    int    // syncs asked for at once, at most 500; 0: as many as the sidecar likes
}

func (f SyncFilter) query() url.Values {
	q := url.Values{}
	add(q, "integration", f.Integration)
	add(q, "name", f.Name)
	add(q, "plugin", f.Plugin)
	if f.Environment != nil {
		q.Set("environment", *f.Environment)
	}
	if f.PageSize != 0 {
		q.Set("limit", strconv.Itoa(f.PageSize))
	}
	return q
}

// Syncs returns the changes that syncers have not taken yet, as far as the token's
// grant covers them, page by page as they are asked for. An error ends the sequence.
func (c *Client) Syncs(ctx context.Context, f SyncFilter) iter.Seq2[wire.Sync, error] {
	return pages[wire.Sync](ctx, c, call{method: http.MethodGet, path: []string{"v1", "sync"}, query: f.query()})
}

// RetrySyncs makes the selected syncs due at once, and does not wait for them. With
// an integration, those that are done or were never told are sent again too.
func (c *Client) RetrySyncs(ctx context.Context, r wire.RetryRequest) (wire.Envelope[wire.RetryResult], error) {
	return send[wire.Envelope[wire.RetryResult]](ctx, c, http.MethodPost, r, "v1", "sync", "retry")
}

// pages returns the items of a list, page by page as they are asked for.
func pages[T any](ctx context.Context, c *Client, first call) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		q := url.Values{}
		for name, values := range first.query {
			q[name] = values
		}
		for first.query = q; ; {
			page, err := fetch[wire.Page[T]](ctx, c, first)
			if err != nil {
				var none T
				yield(none, err)
				return
			}
			for _, item := range page.Data {
				if !yield(item, nil) {
					return
				}
			}
			if page.NextCursor == "" {
				return
			}
			q.Set("cursor", page.NextCursor)
		}
	}
}
