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
	mu sync.RWMutex
}

func (g *gate) Commit(ctx context.Context, b backends.Batch) (backends.Revision, error) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return g.Backend.Commit(ctx, b)
}
