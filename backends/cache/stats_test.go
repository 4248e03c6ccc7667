package cache

import (
	"testing"
	"time"

	"github.com/sidevault/sidevault/backends"
	"github.com/sidevault/sidevault/backends/memory"
)

func TestStats(t *testing.T) {
	b := memory.New()
	if _, err := b.Commit(t.Context(), backends.Batch{Changes: []backends.Change{backends.Put("k", 0, make([]byte, 1000))}}); err != nil {
		t.Fatal(err)
	}
	c := New(b, Options{})
	defer c.Close()
	for end := time.Now().Add(10 * time.Second); c.valid.Load() == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it does not become live")
		}
	}
	before := c.Stats()
	for range 5 {
		if _, err := c.Get(t.Context(), "k"); err != nil {
			t.Fatal(err)
		}
	}
	got := c.Stats()
	if hits, misses := got.Hits-before.Hits, got.Misses-before.Misses; hits != 4 || misses != 1 {
		t.Errorf("%d hits and %d misses, want 4 and 1", hits, misses)
	}
	if got.Bytes < 1000 || got.Bytes > 2000 {
		t.Errorf("%d bytes for a record of 1000", got.Bytes)
	}
}
