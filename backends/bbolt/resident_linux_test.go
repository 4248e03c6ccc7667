package bbolt

import (
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/sidevault/sidevault/backends"
)

// Reads all over a large file do not leave all of it in this process's memory, also
// while others read and write.
func TestReadsLeaveLittleMapped(t *testing.T) {
	const records = 80_000
	path := filledWith(t, records)
	info, err := os.Stat(path)
	if err != nil || info.Size() < 4*mostMapped {
		t.Fatalf("the file is too small: %v, %v", info.Size(), err)
	}
	b := open(t, path)
	before, most := mappedFiles(t), 0
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
			most = max(most, mappedFiles(t)-before)
		}
	}
	t.Logf("%d MiB of %d MiB mapped at most", most>>20, info.Size()>>20)
	if most > 2*mostMapped {
		t.Errorf("%d MiB of the file are mapped", most>>20)
	}
}

// mappedFiles is how much of files this process has in memory, in bytes (proc(5): statm).
func mappedFiles(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	pages, err := strconv.Atoi(strings.Fields(string(text))[2])
	if err != nil {
		t.Fatal(err)
	}
	return pages * os.Getpagesize()
}
