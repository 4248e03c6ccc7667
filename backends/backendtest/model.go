package backendtest

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"

	"github.com/sidevault/sidevault/backends"
)

// model is what the storage must hold.
type model struct {
	records map[string]backends.Record
	bodies  []string
	last    backends.Revision
}

// testModel applies random batches to the storage and to a model, right and wrong
// ones, and compares the two.
func testModel(u *subject) {
	u.Logf("seed %d, %d steps: repeat with BACKENDTEST_SEED and BACKENDTEST_STEPS", u.suite.Seed, u.suite.Steps)
	random := rand.New(rand.NewPCG(uint64(u.suite.Seed), 0))
	m := &model{records: map[string]backends.Record{}}
	for step := range u.suite.Steps {
		b := m.randomBatch(random)
		rev, err := u.Commit(u.Context(), b)
		switch {
		case !m.accepts(b):
			if !errors.Is(err, backends.ErrConflict) {
				u.Fatalf("step %d: %v: got %v, want a conflict", step, b.Changes, err)
			}
		case err != nil || rev <= m.last:
			u.Fatalf("step %d: %v: revision %d after %d, %v", step, b.Changes, rev, m.last, err)
		default:
			m.apply(b, rev)
		}
		if step%100 == 99 && !u.suite.Volatile {
			u.reopen()
		}
		if step%20 == 19 {
			m.compare(u)
		}
	}
	m.compare(u)
}

func (m *model) randomBatch(random *rand.Rand) backends.Batch {
	var b backends.Batch
	for _, i := range random.Perm(12)[:random.IntN(5)] {
		key := fmt.Sprintf("%c/%d", 'a'+i%3, i)
		at := m.records[key].Revision
		switch random.IntN(12) {
		case 0:
			at = 0
		case 1:
			at = backends.Revision(random.Uint64N(uint64(m.last) + 2))
		}
		b.Changes = append(b.Changes, randomChange(random, key, at))
	}
	for range random.IntN(3) {
		b.Entries = append(b.Entries, randomBytes(random, 1))
	}
	if len(b.Changes)+len(b.Entries) == 0 {
		b.Entries = append(b.Entries, randomBytes(random, 1))
	}
	return b
}

func randomChange(random *rand.Rand, key string, at backends.Revision) backends.Change {
	switch op := random.IntN(5); {
	case op == 0:
		return backends.Check(key, at)
	case op == 1 && at != 0:
		return backends.Delete(key, at)
	}
	return backends.Put(key, at, randomBytes(random, 0))
}

// randomBytes returns mostly short values, and sometimes one of many pages.
func randomBytes(random *rand.Rand, least int) []byte {
	size := least + random.IntN(100)
	if random.IntN(20) == 0 {
		size = random.IntN(20_000) + 1
	}
	value := make([]byte, size)
	for i := range value {
		value[i] = byte(random.Uint32())
	}
	return value
}

func (m *model) accepts(b backends.Batch) bool {
	return !slices.ContainsFunc(b.Changes, func(c backends.Change) bool {
		return m.records[c.Key].Revision != c.If
	})
}

func (m *model) apply(b backends.Batch, rev backends.Revision) {
	m.last = rev
	for _, c := range b.Changes {
		switch c.Op {
		case backends.OpPut:
			m.records[c.Key] = backends.Record{Key: c.Key, Value: c.Value, Revision: rev}
		case backends.OpDelete:
			delete(m.records, c.Key)
		}
	}
	for _, body := range b.Entries {
		m.bodies = append(m.bodies, string(body))
	}
}

func (m *model) compare(u *subject) {
	u.Helper()
	if h := u.head(); h.Revision != m.last || h.Seq != uint64(len(m.bodies)) {
		u.Errorf("the head is %+v, want revision %d and entry %d", h, m.last, len(m.bodies))
	}
	keys := slices.Sorted(maps.Keys(m.records))
	got := u.all("", 5)
	if len(got) != len(keys) {
		u.Fatalf("%d records, want %d", len(got), len(keys))
	}
	for i, key := range keys {
		want := m.records[key]
		if got[i].Key != key || string(got[i].Value) != string(want.Value) || got[i].Revision != want.Revision {
			u.Fatalf("List has %q at %d, want %q at %d", got[i].Key, got[i].Revision, key, want.Revision)
		}
		u.expect(key, string(want.Value), want.Revision)
	}
	for i, e := range u.chain(37) {
		if string(e.Body) != m.bodies[i] {
			u.Fatalf("entry %d holds %q, want %q", e.Seq, abridge(e.Body), abridge([]byte(m.bodies[i])))
		}
	}
}
