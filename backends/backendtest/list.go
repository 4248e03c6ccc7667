package backendtest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/sidevault/sidevault/backends"
)

func batch(changes ...backends.Change) backends.Batch { return backends.Batch{Changes: changes} }

func isInvalid(err error) bool { return errors.Is(err, backends.ErrInvalid) }

func keyOf(i int) string { return fmt.Sprintf("k/%06d", i) }

// putAll puts every key with its own name as the value.
func (u *subject) putAll(keys []string) {
	u.Helper()
	for part := range slices.Chunk(keys, backends.MaxChanges) {
		var b backends.Batch
		for _, key := range part {
			b.Changes = append(b.Changes, backends.Put(key, 0, []byte(key)))
		}
		u.commitBatch(b)
	}
}

func (u *subject) expectKeys(what string, got []backends.Record, want []string) {
	u.Helper()
	keys := make([]string, len(got))
	for i, r := range got {
		keys[i] = r.Key
		if string(r.Value) != r.Key {
			u.Errorf("%s: the record %q has the value %q", what, r.Key, abridge(r.Value))
		}
	}
	if !slices.Equal(keys, want) {
		u.Errorf("%s:\n got %.400q\nwant %.400q", what, keys, want)
	}
}

// everyByte returns keys that contain each byte that UTF-8 can contain, but NUL,
// and pairs that collation, case folding, trimming, normalization or pattern
// matching would confuse.
func everyByte() []string {
	var keys []string
	for c := rune(1); c <= 0xbf; c++ {
		keys = append(keys, string(c))
	}
	for lead := rune(0x100); lead < 0x800; lead += 0x40 {
		keys = append(keys, string(lead))
	}
	for lead := rune(0x800); lead <= 0x10ffff; lead = lead<<1 | lead&1 {
		keys = append(keys, string(lead))
	}
	for lead := rune(0x1000); lead < 0x10000; lead += 0x1000 {
		keys = append(keys, string(lead+0xfff))
	}
	keys = append(keys, "\U00040000", "\U000c0000", "\U0010ffff", "\uffff", "\ud7ff", "\ue000")
	keys = append(keys, "aa", "aA", "Aa", "AA", "a ", " a", "a  ", "a\t", "a\n", "a/", "a/b", "a//b", "a/../b", "./a")
	keys = append(keys, "é", "e\u0301", "ß", "ss", "ﬁ", "fi", "İ", "i̇", "a\u200b", "a\u00ad", "a%", "a_", `a\`, `a\_`, "a*", "a?", "a'b", `a"b`)
	keys = append(keys, strings.Repeat("z", backends.MaxKey), strings.Repeat("z", backends.MaxKey-1), strings.Repeat("z", backends.MaxKey-1)+"y")
	slices.Sort(keys)
	return slices.Compact(keys)
}

func testKeys(u *subject) {
	keys := everyByte()
	u.putAll(keys)
	for _, key := range keys {
		if r, err := u.Get(u.Context(), key); err != nil || string(r.Value) != key {
			u.Errorf("Get(%.40q) = %.40q, %v", key, r.Value, err)
		}
	}
	u.expectKeys("every key", u.all("", backends.MaxPage), keys)
	u.expectKeys("every key in pages", u.all("", 7), keys)
	for _, prefix := range append(keys, "zz", "a/.") {
		u.expectKeys(fmt.Sprintf("prefix %.40q", prefix), u.all(prefix, backends.MaxPage), filter(keys, prefix, ""))
	}
}

func filter(sorted []string, prefix, after string) []string {
	return slices.DeleteFunc(slices.Clone(sorted), func(key string) bool {
		return !strings.HasPrefix(key, prefix) || key <= after
	})
}

func testList(u *subject) {
	keys := []string{"a", "a/", "a/1", "a/10", "a/2", "a0", "b", "b/1", "c\U0010ffff", "c\U0010ffffz", "d"}
	u.putAll(keys)
	starts := append([]string{"", "A", "a/1\x01", "a/3", "c", "\U0010ffff", "zz"}, keys...)
	for _, prefix := range append([]string{"", "x", "c\U0010ffff"}, keys...) {
		for _, after := range starts {
			want := filter(keys, prefix, after)
			for _, limit := range []int{1, 2, len(keys), backends.MaxPage} {
				got, err := u.List(u.Context(), prefix, after, limit)
				if err != nil {
					u.Fatalf("List(%q, %q, %d): %v", prefix, after, limit, err)
				}
				u.expectKeys(fmt.Sprintf("List(%q, %q, %d)", prefix, after, limit), got, want[:min(limit, len(want))])
			}
		}
	}
}

func testListPages(u *subject) {
	var keys []string
	for i := range backends.MaxPage + 100 {
		keys = append(keys, keyOf(i))
	}
	u.putAll(keys)
	for _, limit := range []int{1, 99, 100, backends.MaxPage} {
		if limit == 1 {
			u.expectKeys("pages of 1", u.all(keyOf(50)[:6], 1), filter(keys, keyOf(50)[:6], ""))
			continue
		}
		u.expectKeys(fmt.Sprintf("pages of %d", limit), u.all("k/", limit), keys)
	}
}

// testListWhileWriting pages through records that stay while others come and go
// and all of them are rewritten.
func testListWhileWriting(u *subject) {
	u.listWhileWriting(u.Backend)
}

// listWhileWriting writes through the handle and lists through the subject's.
func (u *subject) listWhileWriting(b backends.Backend) {
	u.Helper()
	var stay []string
	for i := 0; i < 200; i += 2 {
		stay = append(stay, keyOf(i))
	}
	u.putAll(stay)
	var stop atomic.Bool
	var written atomic.Int64
	var writers sync.WaitGroup
	defer func() {
		stop.Store(true)
		writers.Wait()
	}()
	for w := range 2 {
		writers.Go(func() {
			for i := w; !stop.Load(); i++ {
				u.churn(b, keyOf(i%200), i%2 == 1)
				written.Add(1)
			}
		})
	}
	for round := 0; round < 20 || written.Load() < 2*wins && !u.Failed(); round++ {
		var seen []string
		for _, r := range u.all("k/", 7) {
			if len(seen) > 0 && r.Key <= seen[len(seen)-1] {
				u.Errorf("%q came after %q", r.Key, seen[len(seen)-1])
			}
			seen = append(seen, r.Key)
		}
		for _, key := range stay {
			if _, found := slices.BinarySearch(seen, key); !found {
				u.Errorf("%q was missed", key)
			}
		}
	}
}

// churn rewrites the record under key, or deletes it if it may go.
func (u *subject) churn(b backends.Backend, key string, mayGo bool) {
	r, err := b.Get(u.Context(), key)
	if err != nil && !errors.Is(err, backends.ErrNotFound) {
		u.Errorf("Get(%q): %v", key, err)
	}
	c := backends.Put(key, r.Revision, []byte(key))
	if mayGo && r.Revision != 0 {
		c = backends.Delete(key, r.Revision)
	}
	if _, err := b.Commit(u.Context(), batch(c)); err != nil && !errors.Is(err, backends.ErrConflict) {
		u.Errorf("Commit(%q): %v", key, err)
	}
}
