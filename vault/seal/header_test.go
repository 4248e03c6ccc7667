package seal

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestHeadersAheadOfTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &headers{to: newAgeIdentity(t).Recipient()}
		take := func() *header {
			t.Helper()
			taken, err := h.take()
			if err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			return taken
		}
		take()
		if h.next.Load() != nil {
			t.Error("a header is made ahead for one file alone")
		}
		time.Sleep(aheadFor)
		take()
		made := h.next.Load()
		if made == nil {
			t.Fatal("no header is made ahead of the third file")
		}
		if take() != made || h.next.Load() == made || h.next.Load() == nil {
			t.Error("the header that was made ahead is not the one that is used, once")
		}
		made = h.next.Load()
		time.Sleep(aheadFor + 1)
		if take() == made || h.next.Load() != nil {
			t.Error("a header is used that is too old, or another made at once")
		}
	})
}
