package cache

// Stats are counts since the cache was made, and what it holds.
type Stats struct {
	Hits   uint64 // Gets that were answered from memory, also while storage is away
	Misses uint64 // Gets that went to storage, or would have while it is away
	Bytes  int    // that the records take, of MaxBytes
}

// Stats returns the counts.
func (c *Cache) Stats() Stats {
	s := Stats{Hits: c.hits.Load(), Misses: c.misses.Load()}
	for i := range c.shards {
		shard := &c.shards[i]
		shard.mu.RLock()
		s.Bytes += shard.bytes
		shard.mu.RUnlock()
	}
	return s
}
