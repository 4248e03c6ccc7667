package cache_test

import (
	"testing"
	"time"

	"github.com/sidevault/sidevault/backends"
	"github.com/sidevault/sidevault/backends/backendtest"
	"github.com/sidevault/sidevault/backends/cache"
	"github.com/sidevault/sidevault/backends/memory"
)

// A cache changes nothing of what its backend promises.
func TestContract(t *testing.T) {
	for name, o := range map[string]cache.Options{
		"roomy":     {MaxStale: time.Minute},
		"too full":  {MaxBytes: 2000, MaxStale: time.Minute},
		"exclusive": {Exclusive: true},
	} {
		t.Run(name, func(t *testing.T) {
			backendtest.Run(t, func(t *testing.T) backendtest.Open {
				return func() (backends.Backend, error) { return cache.New(memory.New(), o), nil }
			}, &backendtest.Options{Volatile: true})
		})
	}
}

// kept is storage that outlives its handles.
type kept struct{ backends.Backend }

func (kept) Close() error { return nil }

// Several caches over one storage keep its promises too, but for the moment until an
// event arrives.
func TestContractOfSeveral(t *testing.T) {
	backendtest.Run(t, func(t *testing.T) backendtest.Open {
		store := memory.New()
		return func() (backends.Backend, error) { return cache.New(kept{store}, cache.Options{}), nil }
	}, &backendtest.Options{Shared: true})
}
