package vault

import (
	"context"
	"sync"

	"github.com/sidevault/sidevault/backends"
)

// gate is the way of this process's commits into storage, which a backup closes for
// the milliseconds in which it reads what changed last. Reads do not pass it.
type gate struct {
	backends.Backend
	viewer backends.Viewer // the same backend; nil: it keeps nothing
	mu     sync.RWMutex
}

func newGate(b backends.Backend) *gate {
	viewer, _ := b.(backends.Viewer)
	return &gate{Backend: b, viewer: viewer}
}

// view is Get for those who change nothing of what they are given.
func (g *gate) view(ctx context.Context, key string) (backends.View, error) {
	if g.viewer != nil {
		return g.viewer.View(ctx, key)
	}
	r, err := g.Backend.Get(ctx, key)
	return backends.View{Record: r}, err
}

func (g *gate) Commit(ctx context.Context, b backends.Batch) (backends.Revision, error) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return g.Backend.Commit(ctx, b)
}
