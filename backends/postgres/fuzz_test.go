package postgres

import (
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzKeyRange compares the range that the server is asked for with what prefix and
// after, which come out of cursors, mean.
func FuzzKeyRange(f *testing.F) {
	f.Add("live/", "live/a", "live/b")
	f.Add("", "\xff", "\U0010ffff")
	f.Add("\xf4\x8f\xbf", "a\x00", "\U0010fffe")
	f.Fuzz(func(t *testing.T, prefix, after, key string) {
		if key == "" || !utf8.ValidString(key) || strings.Contains(key, "\x00") {
			return
		}
		first, end, any := keyRange(prefix, after)
		for _, bound := range []string{first, end} {
			if !utf8.ValidString(bound) || strings.Contains(bound, "\x00") {
				t.Errorf("the bound %q is no text that the server takes", bound)
			}
		}
		want := strings.HasPrefix(key, prefix) && key > after
		if got := any && key >= first && (end == "" || key < end); got != want {
			t.Errorf("%q with prefix %q after %q: %v, want %v", key, prefix, after, got, want)
		}
	})
}
