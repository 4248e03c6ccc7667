package cache

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/sidevault/sidevault/backends"
)

// check counts what a shard holds by walking its ring.
func (s *shard) check(t *testing.T) {
	t.Helper()
	bytes, n := 0, 0
	for e := s.hand; e != nil; e = e.next {
		if s.entries[e.key] != e || e.next.prev != e {
			t.Fatalf("the ring has %q, which is not an entry", e.key)
		}
		bytes += e.size()
		if n++; e.next == s.hand {
			break
		}
	}
	if bytes != s.bytes || n != len(s.entries) || bytes > s.max {
		t.Fatalf("%d entries of %d bytes in the ring; %d of %d are counted, at most %d bytes", n, bytes, len(s.entries), s.bytes, s.max)
	}
}

func TestBytesAreBounded(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	s := &newShards(20_000)[0]
	for n := range 20_000 {
		key := fmt.Sprint(random.IntN(200))
		switch random.IntN(10) {
		case 0:
			s.drop(key, backends.Revision(n))
		case 1:
			s.observe(key, backends.Revision(random.IntN(n+1)))
		case 2, 3, 4:
			s.hit(key, 1)
		default:
			f, _ := s.join(key)
			s.finish(key, f, &entry{key: key, value: make([]byte, random.IntN(3000)), revision: backends.Revision(n), epoch: 1}, nil)
		}
		s.check(t)
	}
	if len(s.entries) < 5 {
		t.Errorf("only %d entries are left", len(s.entries))
	}
	s.clear()
	s.check(t)
}

func TestTooLargeIsNotKept(t *testing.T) {
	s := &newShards(10_000)[0]
	for key, size := range map[string]int{"small": 100, "large": 10_000} {
		f, _ := s.join(key)
		s.finish(key, f, &entry{key: key, value: make([]byte, size)}, nil)
	}
	s.check(t)
	if s.any("small") == nil || s.any("large") != nil {
		t.Error("the wrong one was kept")
	}
}

// What is used stays when more comes by than there is room for.
func TestWhatIsUsedStays(t *testing.T) {
	s := &newShards(100 * 1000)[0]
	put := func(key string) {
		f, _ := s.join(key)
		s.finish(key, f, &entry{key: key, value: make([]byte, 1000), epoch: 1}, nil)
	}
	for n := range 20 {
		put(fmt.Sprint("used/", n))
	}
	lost := 0
	for n := range 1000 {
		put(fmt.Sprint("once/", n))
		if s.hit(fmt.Sprint("used/", n%20), 1) == nil {
			lost++
		}
	}
	if lost > 0 {
		t.Errorf("%d of 1000 hits of what is used were lost", lost)
	}
}

func TestShards(t *testing.T) {
	for bytes, want := range map[int]int{1: 1, minShard: 1, 4 * minShard: 4, DefaultMaxBytes: maxShards, 16 * DefaultMaxBytes: maxShards} {
		shards := newShards(bytes)
		if len(shards) != want || shards[0].max*len(shards) > bytes {
			t.Errorf("%d bytes: %d shards of %d", bytes, len(shards), shards[0].max)
		}
	}
}
