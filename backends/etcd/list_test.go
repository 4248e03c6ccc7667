package etcd

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/sidevault/sidevault/backends"
	"github.com/sidevault/sidevault/backends/testserver"
)

// TestPagesOfMany compares pages of many records, of which the backend learns where
// to end its ranges, with a model that changes meanwhile.
func TestPagesOfMany(t *testing.T) {
	b := open(t, testserver.SharedEtcd(t).URL())
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	model := map[string]backends.Revision{}
	for range 60 {
		changeSome(t, b, random, model)
	}
	narrowed := 0
	for round := range 400 {
		if round%20 == 0 {
			changeSome(t, b, random, model)
		}
		prefix := []string{"", "c/", "c/1", "u/", "x"}[random.IntN(5)]
		after := ""
		if keys := slices.Sorted(maps.Keys(model)); random.IntN(3) > 0 {
			after = keys[random.IntN(len(keys))]
		}
		limit := 1 + random.IntN(40)
		page, err := b.List(t.Context(), prefix, after, limit)
		if err != nil {
			t.Fatal(err)
		}
		var got, want []string
		for _, r := range page {
			got = append(got, r.Key)
		}
		for _, key := range slices.Sorted(maps.Keys(model)) {
			if strings.HasPrefix(key, prefix) && key > after && len(want) < limit {
				want = append(want, key)
			}
		}
		if !slices.Equal(got, want) {
			t.Fatalf("List(%q, %q, %d):\n got %q\nwant %q", prefix, after, limit, got, want)
		}
		narrowed = max(narrowed, len(b.scans.of))
	}
	if narrowed == 0 {
		t.Error("nothing was learnt")
	}
}

// changeSome puts and deletes records whose keys come in clusters and at random.
func changeSome(t *testing.T, b *Backend, random *rand.Rand, model map[string]backends.Revision) {
	t.Helper()
	var batch backends.Batch
	named := map[string]bool{}
	for len(batch.Changes) < backends.MaxChanges {
		key := fmt.Sprintf("c/%d/%06d", random.IntN(3), random.IntN(100_000))
		switch random.IntN(4) {
		case 0:
			key = fmt.Sprintf("u/%016x", random.Uint64())
		case 1:
			for old := range model {
				key = old
				break
			}
		}
		if named[key] {
			continue
		}
		named[key] = true
		if at := model[key]; at != 0 {
			batch.Changes = append(batch.Changes, backends.Delete(key, at))
		} else {
			batch.Changes = append(batch.Changes, backends.Put(key, 0, nil))
		}
	}
	at, err := b.Commit(t.Context(), batch)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range batch.Changes {
		delete(model, c.Key)
		if c.Op == backends.OpPut {
			model[c.Key] = at
		}
	}
}

// TestLogGap takes an entry away: the log must show the gap, not end at it.
func TestLogGap(t *testing.T) {
	c := testserver.SharedEtcd(t)
	url := c.URL()
	b := open(t, url)
	for n := range 9 {
		if _, err := b.Commit(t.Context(), backends.Batch{Entries: [][]byte{{byte(n)}}}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.Client(t).Delete(t.Context(), b.layout.entry(5)); err != nil {
		t.Fatal(err)
	}
	for _, limit := range []int{1, 3, 100} {
		var seqs []uint64
		for after := uint64(0); ; after = seqs[len(seqs)-1] {
			page, err := b.Log(t.Context(), after, limit)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range page {
				seqs = append(seqs, e.Seq)
			}
			if len(page) < limit {
				break
			}
		}
		if !slices.Equal(seqs, []uint64{1, 2, 3, 4, 6, 7, 8, 9}) {
			t.Errorf("in pages of %d the log reads %d", limit, seqs)
		}
	}
}

// TestLogOfRuns compares pages of entries that were committed together with what was
// committed, and with a gap where the key of some of them is gone.
func TestLogOfRuns(t *testing.T) {
	c := testserver.SharedEtcd(t)
	b := open(t, c.URL())
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	var want []string
	for _, together := range []int{2, backends.MaxEntries, 1, backends.MaxEntries - 1, 3, 1, backends.MaxEntries} {
		var batch backends.Batch
		for range together {
			body := fmt.Sprintf("%x", random.Uint64())
			batch.Entries, want = append(batch.Entries, []byte(body)), append(want, body)
		}
		if _, err := b.Commit(t.Context(), batch); err != nil {
			t.Fatal(err)
		}
	}
	keys, err := c.Client(t).Get(t.Context(), b.layout.entry(0), clientv3.WithRange(b.layout.logEnd()), clientv3.WithCountOnly())
	if err != nil || keys.Count != 7 {
		t.Errorf("7 commits have %d keys, %v", keys.Count, err)
	}
	comparePages(t, b, random, want)

	gone, _ := b.layout.run(logged(t, b, 2, backends.MaxEntries))
	if removed, err := c.Client(t).Delete(t.Context(), gone); err != nil || removed.Deleted != 1 {
		t.Fatalf("delete %q: %v", gone, err)
	}
	clear(want[2 : 2+backends.MaxEntries])
	comparePages(t, b, random, want)
}

// comparePages reads pages from everywhere; the entry of number i is want[i-1], "" for none.
func comparePages(t *testing.T, b *Backend, random *rand.Rand, want []string) {
	t.Helper()
	for after := range len(want) + 2 {
		limit := 1 + random.IntN(len(want))
		var expected, got []string
		for i, body := range want {
			if i >= after && body != "" && len(expected) < limit {
				expected = append(expected, fmt.Sprintf("%d: %s", i+1, body))
			}
		}
		for _, e := range logged(t, b, uint64(after), limit) {
			got = append(got, fmt.Sprintf("%d: %s", e.Seq, e.Body))
		}
		if !slices.Equal(got, expected) {
			t.Fatalf("Log(%d, %d):\n got %q\nwant %q", after, limit, got, expected)
		}
	}
}

func logged(t *testing.T, b *Backend, after uint64, limit int) []backends.Entry {
	t.Helper()
	page, err := b.Log(t.Context(), after, limit)
	if err != nil {
		t.Fatal(err)
	}
	return page
}
