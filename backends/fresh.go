package backends

import "context"

type freshKey struct{}

// Fresh returns a context whose reads come from the engine itself: a cache over it
// must not answer them. Reads that decide what is written need it where others
// write too, since a cache learns of their commits only a moment later.
func Fresh(ctx context.Context) context.Context {
	return context.WithValue(ctx, freshKey{}, true)
}

// IsFresh reports whether Fresh made the context, or one that it comes from.
func IsFresh(ctx context.Context) bool { return ctx.Value(freshKey{}) != nil }
