package cache

import (
	"sync"
	"sync/atomic"

	"github.com/sidevault/sidevault/backends"
)

const (
	maxShards = 32
	// minShard is twice what the largest record takes.
	minShard = 2 * backends.MaxValue
	// overhead is about what an entry takes besides its key and value: itself, its
	// place in the map, and allocation classes.
	overhead = 256
)

// shard is a part of the cache with a lock of its own. It evicts by second chance
// (CLOCK): a hit sets a bit under a shared lock, where LRU would move a list node
// under an exclusive one.
type shard struct {
	mu      sync.RWMutex
	max     int
	bytes   int
	entries map[string]*entry
	hand    *entry // of the ring of all entries: the next to be looked at
	flights map[string]*flight
	hits    atomic.Uint64
}

// entry is what is known of a key: its record, what a reader made of it, or err, that
// there is none. It is not changed but for the bit and the links. What a hit looks at comes
// first: of many entries it has to be fetched from memory.
type entry struct {
	key      string
	made     any
	epoch    uint64
	revision backends.Revision
	used     atomic.Bool

	shard      *shard
	value      []byte // nil where there is made
	bytes      int    // of made
	err        error
	prev, next *entry
}

func (e *entry) size() int { return len(e.key) + len(e.value) + e.bytes + overhead }

// suits reports whether the entry can answer, also when the record's bytes are wanted.
func (e *entry) suits(bytes bool) bool { return e != nil && (e.made == nil || !bytes) }

// Keep keeps what a reader made in the place of the record's bytes, unless the key was
// changed or somebody else was faster.
func (e *entry) Keep(made any, bytes int) {
	s := e.shard
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.entries[e.key] != e {
		return
	}
	kept := &entry{shard: s, key: e.key, made: made, bytes: bytes, revision: e.revision, epoch: e.epoch}
	kept.used.Store(true)
	s.insert(kept)
}

// flight is a read of storage under way, which all who miss the key meanwhile wait
// for. There is one at a time for a key, so that no older answer can replace a
// newer one. All but done is written before that is closed, under the lock.
type flight struct {
	done  chan struct{}
	dirty bool // the key was changed since it began
	entry *entry
	err   error
}

func newShards(bytes int) []shard {
	n := 1
	for n < maxShards && bytes/(2*n) >= minShard {
		n *= 2
	}
	shards := make([]shard, n)
	for i := range shards {
		shards[i] = shard{max: bytes / n, entries: map[string]*entry{}, flights: map[string]*flight{}}
	}
	return shards
}

// any returns what is known of a key, however old.
func (s *shard) any(key string) *entry {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.entries[key]
}

// hit returns what is known of a key if it is of that epoch.
func (s *shard) hit(key string, epoch uint64) *entry {
	if epoch == 0 {
		return nil
	}
	e := s.any(key)
	if e == nil || e.epoch != epoch {
		return nil
	}
	if !e.used.Load() {
		e.used.Store(true)
	}
	s.hits.Add(1)
	return e
}

// join returns the flight for a key, and whether it is the caller's to carry out.
func (s *shard) join(key string) (f *flight, leads bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f, ok := s.flights[key]; ok {
		return f, false
	}
	f = &flight{done: make(chan struct{})}
	s.flights[key] = f
	return f, true
}

// finish ends a flight with an entry, which is kept unless the key was changed
// since it began, or with an error.
func (s *shard) finish(key string, f *flight, e *entry, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.flights[key] == f {
		delete(s.flights, key)
	}
	f.entry, f.err = e, err
	if e != nil && !f.dirty {
		s.insert(e)
	}
	close(f.done)
}

func (s *shard) insert(e *entry) {
	if old := s.entries[e.key]; old != nil {
		s.remove(old)
	}
	if e.size() > s.max {
		return
	}
	s.entries[e.key] = e
	s.bytes += e.size()
	if s.hand == nil {
		s.hand, e.prev, e.next = e, e, e
	} else {
		e.prev, e.next = s.hand.prev, s.hand
		e.prev.next, e.next.prev = e, e
	}
	for s.bytes > s.max {
		s.evict()
	}
}

// evict removes the first entry that was not used since it was looked at last.
func (s *shard) evict() {
	for s.hand.used.Swap(false) {
		s.hand = s.hand.next
	}
	s.remove(s.hand)
}

func (s *shard) remove(e *entry) {
	delete(s.entries, e.key)
	s.bytes -= e.size()
	e.prev.next, e.next.prev = e.next, e.prev
	if s.hand == e {
		if s.hand = e.next; s.hand == e {
			s.hand = nil
		}
	}
}

// drop forgets what is known of a key from before rev.
func (s *shard) drop(key string, rev backends.Revision) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.entries[key]; e != nil && e.revision < rev {
		s.remove(e)
	}
	s.spoil(key)
}

// spoil keeps the answer of a flight from being used.
func (s *shard) spoil(key string) {
	if f := s.flights[key]; f != nil {
		f.dirty = true
		delete(s.flights, key)
	}
}

// observe forgets what differs from the revision that a key was found to have (0:
// none).
func (s *shard) observe(key string, rev backends.Revision) {
	s.mu.RLock()
	e, f := s.entries[key], s.flights[key]
	s.mu.RUnlock()
	if (e == nil || e.revision == rev) && f == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.entries[key]; e != nil && e.revision != rev {
		s.remove(e)
	}
	s.spoil(key)
}

// clear forgets everything.
func (s *shard) clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.entries)
	s.hand, s.bytes = nil, 0
	for key := range s.flights {
		s.spoil(key)
	}
}
