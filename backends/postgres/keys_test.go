package postgres

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// TestKeyRange compares the range that the server is asked for with what prefix and
// after mean, for bytes that are next to each other where UTF-8 has its edges.
func TestKeyRange(t *testing.T) {
	alphabet := []string{"a", "b", "\x01", "\x7f", "\u0080", "\u07ff", "\u0800", "\ud7ff", "\ue000", "\ufffd", "\uffff", "\U00010000", "\U0010ffff"}
	bytes := "\x00\x01ab\x7f\x80\xbf\xc0\xc2\xc3\xdf\xe0\xed\xef\xf0\xf4\xf5\xff\xa0\x9f\x8f\x90"
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 0))
	word := func(n int) (s string) {
		for range random.IntN(n) {
			if random.IntN(3) > 0 {
				s += alphabet[random.IntN(len(alphabet))]
			} else {
				i := random.IntN(len(bytes))
				s += bytes[i : i+1]
			}
		}
		return s
	}
	valid := 0
	for range 300_000 {
		prefix, after, key := word(4), word(4), word(5)
		if random.IntN(2) == 0 {
			key = prefix + key
		}
		if !utf8.ValidString(key) || strings.Contains(key, "\x00") || key == "" {
			continue
		}
		want := strings.HasPrefix(key, prefix) && key > after
		first, end, any := keyRange(prefix, after)
		if got := any && key >= first && (end == "" || key < end); got != want {
			t.Fatalf("seed %d: prefix %q after %q is from %q to %q (%t): key %q in it: %t, want %t", seed, prefix, after, first, end, any, key, got, want)
		}
		if !utf8.ValidString(first+end) || strings.Contains(first+end, "\x00") {
			t.Fatalf("seed %d: prefix %q after %q is from %q to %q, which the server does not take", seed, prefix, after, first, end)
		}
		if want {
			valid++
		}
	}
	if valid < 1000 {
		t.Errorf("only %d keys were in their range", valid)
	}
}
