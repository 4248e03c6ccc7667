package seal

import (
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sidevault/sidevault/vault/secret"
)

func newTestKey(t *testing.T) *Key {
	t.Helper()
	k, err := NewKey(X25519)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// TestOpeningsAreUsedOnce seals from many goroutines: no two records begin alike, and each
// opens for its own place.
func TestOpeningsAreUsedOnce(t *testing.T) {
	k := newTestKey(t)
	const each = 50
	var mu sync.Mutex
	var all sync.WaitGroup
	seen := map[string]bool{}
	for g := range 8 {
		all.Go(func() {
			for n := range each {
				place := Place{Org: "o", Integration: "i", Name: fmt.Sprint(g), Version: uint64(n)}
				file, err := k.Seal(place, Fields{"value": secret.New(place.Name)})
				if err != nil {
					t.Error(err)
					return
				}
				if fields, err := k.Open(file, place); err != nil || fields["value"].Reveal() != place.Name {
					t.Errorf("a record is not its own: %v", err)
				}
				mu.Lock()
				seen[string(file[:150])] = true // the recipient's stanza, with the share of the file key
				mu.Unlock()
			}
		})
	}
	all.Wait()
	if len(seen) != 8*each {
		t.Errorf("%d records begin in %d ways", 8*each, len(seen))
	}
}

func TestOpeningsAheadOfTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &ahead{to: newTestKey(t).openings.to}
		take := func() *opening {
			t.Helper()
			o, err := a.take()
			if err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			return o
		}
		take()
		if a.next.Load() != nil {
			t.Error("an opening is made ahead for one record alone")
		}
		time.Sleep(aheadFor)
		take()
		made := a.next.Load()
		if made == nil {
			t.Fatal("no opening is made ahead of the third record")
		}
		if take() != made || a.next.Load() == made || a.next.Load() == nil {
			t.Error("the opening that was made ahead is not the one that is used, once")
		}
		made = a.next.Load()
		time.Sleep(aheadFor + 1)
		if take() == made || a.next.Load() != nil {
			t.Error("an opening is used that is too old, or another made at once")
		}
	})
}
