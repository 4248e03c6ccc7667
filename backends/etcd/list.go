package etcd

import (
	"context"
	"sync"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/sidevault/sidevault/backends"
)

func (b *Backend) List(ctx context.Context, prefix, after string, limit int) ([]backends.Record, error) {
	if err := validLimit(limit); err != nil {
		return nil, err
	}
	root := b.layout.record("")
	from, end := root+prefix, clientv3.GetPrefixRangeEnd(root+prefix)
	if after != "" {
		from = max(from, root+after+"\x00")
	}
	if from >= end {
		return nil, b.ready(ctx)
	}
	s := b.scans.begin(root+prefix, from, end)
	var page []backends.Record
	for len(page) < limit && s.from < end {
		until := s.until()
		resp, err := b.read(ctx, s.from, clientv3.WithRange(until), clientv3.WithLimit(int64(limit-len(page))))
		if err != nil {
			return nil, err
		}
		for _, kv := range resp.Kvs {
			r, err := parseRecord(string(kv.Key[len(root):]), kv.Value)
			if err != nil {
				return nil, b.located(err)
			}
			page = append(page, r)
		}
		s.passed(until, resp.Count > int64(wideRange*limit))
	}
	b.scans.learn(s, root, page)
	return page, nil
}

// etcd counts all keys of the range that it is asked for, whatever the limit: a page
// of 50 out of 100,000 takes ten times as long as one out of 1,000. So a page is read
// from a part of its range that was learnt to hold about as much, and the rest of
// the range only if that was too little. What is learnt is a matter of speed alone.
const (
	wideRange  = 16 // ranges of more than so many pages are worth narrowing
	deepRanges = 3  // a page that takes more requests than this was sought too narrowly
	maxHints   = 256
)

// hint is what is known about the records below a prefix.
type hint struct {
	// level is how many bytes a page's first key shares with the end of the part.
	level int
	// first is the last key of the first page.
	first string
}

// hints are those of the prefixes with many records, by prefix.
type hints struct {
	mu sync.Mutex
	of map[string]hint
}

// scan is the reading of one page.
type scan struct {
	prefix, from, end string
	start             string // the key that the ends of the ranges are made from
	first             bool   // whether it is the first page below the prefix
	hint              hint
	level             int
	parts             int  // requests so far
	wide              bool // whether the first of them was much too wide
}

func (h *hints) begin(prefix, from, end string) *scan {
	h.mu.Lock()
	defer h.mu.Unlock()
	known := h.of[prefix]
	return &scan{prefix: prefix, from: from, end: end, start: from, first: from == prefix, hint: known, level: known.level}
}

// until returns where the next range ends: each one is wider than the one before.
func (s *scan) until() string {
	if s.first && s.parts == 0 && s.hint.first != "" {
		s.start = s.hint.first + "\x00"
		return s.start
	}
	for level := min(s.level, len(s.start)); level > len(s.prefix); level-- {
		if end := clientv3.GetPrefixRangeEnd(s.start[:level]); end > s.from && end < s.end {
			s.level = level - 1
			return end
		}
	}
	return s.end
}

func (s *scan) passed(until string, wide bool) {
	s.parts++
	s.wide = s.wide || wide && s.parts == 1
	s.from = until
}

// learn keeps what the page tells about where to end the next one.
func (h *hints) learn(s *scan, root string, page []backends.Record) {
	next := s.hint
	switch {
	case len(page) == 0:
		return
	case s.first && (s.wide || s.parts > 1 && s.hint.first != ""):
		next.first = root + page[len(page)-1].Key
	case s.first:
		return
	case s.wide:
		next.level = max(next.level+1, common(root+page[0].Key, root+page[len(page)-1].Key))
	case s.parts > deepRanges:
		next.level--
	default:
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.of == nil || len(h.of) >= maxHints {
		h.of = map[string]hint{}
	}
	h.of[s.prefix] = next
}

// common returns how many bytes the keys share at the start.
func common(a, b string) int {
	n := 0
	for n < min(len(a), len(b)) && a[n] == b[n] {
		n++
	}
	return n
}
