package vault

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/sidevault/sidevault/backends"
	"github.com/sidevault/sidevault/envs"
)

// gone is storage that is away.
type gone struct{ backends.Backend }

func (gone) Get(context.Context, string) (backends.Record, error) {
	return backends.Record{}, backends.ErrUnavailable
}

func (gone) Commit(context.Context, backends.Batch) (backends.Revision, error) {
	return 0, backends.ErrUnavailable
}

// What waits for storage is bounded, also when a client makes every read another.
func TestPendingReadsAreBounded(t *testing.T) {
	tree, err := envs.New(envs.Default())
	if err != nil {
		t.Fatal(err)
	}
	v := &Vault{backend: gone{}, envs: tree, clock: time.Now, log: slog.New(slog.DiscardHandler), stale: func() time.Duration { return time.Second }}
	l := newReadLog(v, ReadsCoalesced, time.Hour)
	read := func(n int) error {
		return l.record(t.Context(), &Caller{Origin: Origin{Realm: fmt.Sprint(n)}}, &auditBody{}, envs.Shared, &Credential{ID: "c"})
	}
	for n := range 3 * maxPendingReads {
		err := read(n)
		if (err == nil) != (n < maxPendingReads) || err != nil && KindOf(err) != BackendUnavailable {
			t.Fatalf("the read number %d of as many callers: %v", n+1, err)
		}
		if n%(maxPendingReads/4) == 0 {
			l.flush(t.Context())
		}
	}
	if err := read(1); err != nil {
		t.Errorf("one more of those that are counted already: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.close(ctx); err == nil {
		t.Error("it was closed with reads unrecorded, and said nothing")
	}
}
