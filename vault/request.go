package vault

import (
	"context"
	"log/slog"
)

// RequestContext is a context that says which request it is of, by the ID that the
// request's Origin has: what the log says of its work, and of the syncs that follow
// from it, names the request. It is a context.Context by its address.
type RequestContext struct {
	context.Context
	ID string
}

type requestIDKey struct{}

// Value implements context.Context.
func (c *RequestContext) Value(key any) any {
	if key == (requestIDKey{}) {
		return c.ID
	}
	return c.Context.Value(key)
}

// requestID returns "" for what no request has asked for.
func requestID(ctx context.Context) string {
	id, _ := ctx.Value(requestIDKey{}).(string)
	return id
}

// ofRequest is the attribute that leads from a line of the log to a request; without an
// ID the line has none.
func ofRequest(id string) slog.Attr {
	if id == "" {
		return slog.Attr{}
	}
	return slog.String("request_id", id)
}
