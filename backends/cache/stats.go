package cache

// Stats are counts since the cache was made, and what it holds.
type Stats struct {
	Hits   uint64 // Gets and Views that were answered from memory, also while storage is away
	Misses uint64 // those that went to storage, or would have while it is away
	Bytes  int    // that the records take, of MaxBytes
}

// Stats returns the counts.
func (c *Cache) Stats() Stats {
	s := Stats{Misses: c.misses.Load()}
	for i := range c.shards {
		shard := &c.shards[i]
		shard.mu.RLock()
		s.Bytes += shard.bytes
		s.Hits += shard.hits.Load()
		shard.mu.RUnlock()
	}
	return s
}
