package etcd

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

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
