package bbolt

import (
	"math/rand/v2"
	"os"
	"testing"

	"github.com/sidevault/sidevault/backends"
)

// Reads all over a large file do not leave all of it in this process's memory, also
// while others read and write.
func TestReadsLeaveLittleMapped(t *testing.T) {
	const records = 80_000
	path := filledWith(t, records)
	info, err := os.Stat(path)
	if err != nil || info.Size() < 3*mostMapped {
		t.Fatalf("the file is too small: %v, %v", info.Size(), err)
	}
	b := open(t, path)
	before, most := mappedFiles(), int64(0)
	for i := range 8_000 {
		key := benchKey(rand.Int64N(records))
		r, err := b.Get(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		if i%100 == 0 {
			if _, err := b.Commit(t.Context(), backends.Batch{Changes: []backends.Change{backends.Put(key, r.Revision, benchValue)}}); err != nil {
				t.Fatal(err)
			}
			most = max(most, mappedFiles()-before)
		}
	}
	t.Logf("%d MiB of %d MiB mapped at most", most>>20, info.Size()>>20)
	if most > 2*mostMapped {
		t.Errorf("%d MiB of the file are mapped", most>>20)
	}
}
