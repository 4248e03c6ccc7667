package cache

import (
	"context"
	"errors"
	"time"

	"github.com/sidevault/sidevault/backends"
)

// View answers from memory where Get may.
func (c *Cache) View(ctx context.Context, key string) (backends.View, error) {
	if err := c.ready(ctx); err != nil {
		return backends.View{}, err
	}
	e, err := c.find(ctx, key, false)
	if err == nil {
		err = e.err
	}
	if err != nil {
		return backends.View{}, err
	}
	return backends.View{Record: backends.Record{Key: e.key, Value: e.value, Revision: e.revision}, Made: e.made, Keeper: e}, nil
}

// find returns what is known of a key, with the record's bytes where they are wanted.
func (c *Cache) find(ctx context.Context, key string, bytes bool) (*entry, error) {
	s := c.shard(key)
	if !c.exclusive && backends.IsFresh(ctx) {
		return c.findFresh(ctx, s, key)
	}
	for {
		if e := s.hit(key, c.valid.Load()); e.suits(bytes) {
			return e, nil
		}
		if reason := c.away.Load(); reason != nil {
			return c.findStale(s, key, bytes, *reason)
		}
		f, leads := s.join(key)
		if leads {
			c.fetch(ctx, s, key, f)
		}
		select {
		case <-f.done:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		switch {
		case f.dirty: // it may be older than what others were given meanwhile
		case f.entry != nil:
			c.misses.Add(1)
			return f.entry, nil
		case errors.Is(f.err, backends.ErrUnavailable):
			return c.findStale(s, key, bytes, f.err)
		case !isContext(f.err) || leads:
			return nil, f.err
		}
	}
}

// findFresh reads from storage, whatever is known.
func (c *Cache) findFresh(ctx context.Context, s *shard, key string) (*entry, error) {
	if reason := c.away.Load(); reason != nil {
		return nil, *reason
	}
	c.misses.Add(1)
	r, err := c.ask(ctx, key)
	if err != nil && !errors.Is(err, backends.ErrNotFound) {
		return nil, err
	}
	s.observe(key, r.Revision)
	return &entry{shard: s, key: key, value: r.Value, revision: r.Revision, err: err}, nil
}

// findStale answers while storage is away.
func (c *Cache) findStale(s *shard, key string, bytes bool, reason error) (*entry, error) {
	right := time.Duration(c.right.Load())
	e := s.any(key)
	if !e.suits(bytes) || c.maxStale <= 0 || right == 0 || c.clock()-right > c.maxStale {
		c.misses.Add(1)
		return nil, reason
	}
	s.hits.Add(1)
	return e, nil
}
