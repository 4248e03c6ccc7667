package bbolt

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/sidevault/sidevault/backends"
)

// TestDamagedPages overwrites pages of a vault and uses what still opens. No call
// may panic or hang, and an error must say what is wrong.
func TestDamagedPages(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	path := newFile(t)
	b := open(t, path)
	for i := range 60 {
		batch := put(fmt.Sprintf("k/%03d", i), 0, string(make([]byte, i*100)))
		batch.Entries = [][]byte{[]byte("entry")}
		if _, err := b.Commit(t.Context(), batch); err != nil {
			t.Fatal(err)
		}
	}
	b.Close()
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	met := map[string]int{}
	for range 40 {
		damaged := bytes.Clone(good)
		damage(random, damaged)
		if err := os.WriteFile(path, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		met[useDamaged(t, path)]++
	}
	t.Logf("%v", met)
}

// damage overwrites one page, in whole, in its header, or in a few bytes.
func damage(random *rand.Rand, file []byte) {
	const page = 4096
	at := random.IntN(len(file)/page) * page
	switch random.IntN(4) {
	case 0:
		clear(file[at : at+page])
	case 1:
		for i := range page {
			file[at+i] = byte(random.Uint32())
		}
	case 2:
		file[at+random.IntN(16)] = byte(random.Uint32())
	default:
		for range 8 {
			file[at+random.IntN(256)] = byte(random.Uint32())
		}
	}
}

func useDamaged(t *testing.T, path string) string {
	t.Helper()
	b, err := Open(path, nil)
	if errors.Is(err, backends.ErrUnavailable) {
		t.Errorf("Open: got %v", err)
	}
	if err != nil {
		return "refused"
	}
	result := "unnoticed"
	note := func(err error) {
		switch {
		case errors.Is(err, backends.ErrCorrupt):
			result = "reported"
		case err != nil && !errors.Is(err, backends.ErrNotFound) && !errors.Is(err, backends.ErrConflict):
			t.Errorf("got %v", err)
		}
	}
	for i := range 60 {
		key := fmt.Sprintf("k/%03d", i)
		r, err := b.Get(t.Context(), key)
		note(err)
		if i%10 == 0 {
			_, err = b.Commit(t.Context(), put(key, r.Revision, "changed"))
			note(err)
		}
	}
	_, err = b.List(t.Context(), "", "", backends.MaxPage)
	note(err)
	_, err = b.Log(t.Context(), 0, backends.MaxPage)
	note(err)
	b.Close()
	return result
}

// TestTruncatedUnderneath cuts the file while it is open, so that its mapping
// faults.
func TestTruncatedUnderneath(t *testing.T) {
	path := filledFile(t)
	b := open(t, path)
	if err := os.Truncate(path, 2*4096); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Get(t.Context(), "a"); !errors.Is(err, backends.ErrCorrupt) {
		t.Errorf("Get: got %v", err)
	}
	for range 2 {
		if _, err := b.Commit(t.Context(), put("c", 0, "")); !errors.Is(err, backends.ErrCorrupt) {
			t.Errorf("Commit: got %v", err)
		}
	}
	if err := b.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	if _, err := Open(path, nil); !errors.Is(err, backends.ErrCorrupt) {
		t.Errorf("Open: got %v", err)
	}
}
