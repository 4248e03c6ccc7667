package vault

import (
	"testing"

	"github.com/sidevault/sidevault/envs"
)

// FuzzPaths reads the parts of storage keys, and of cursors, which are made of them.
func FuzzPaths(f *testing.F) {
	for _, path := range []string{"", "salesforce/@shared/default", "a/b/c", "a/b/%2F", "a/b/%", "a/@control/x", "a/b/c/d", "../../x", "a/b/\x00", "a//b", "a/b/%e4"} {
		f.Add(path)
	}
	f.Fuzz(func(t *testing.T, path string) {
		slot, ok := parsePath(path)
		if IsCursor(path) && path != "" && (!ok || slot.path() != path) {
			t.Errorf("%q is a cursor and no path", path)
		}
		if !ok {
			return
		}
		again, ok := parsePath(slot.path())
		if slot.Scope == envs.Scope("") && slot.Integration != "" && ok && again != slot {
			t.Errorf("%q is read as %v and then as %v", path, slot, again)
		}
	})
}

// FuzzNames holds what callers give as names and IDs to what storage can keep apart.
func FuzzNames(f *testing.F) {
	for _, s := range []string{"", "default", "a/b", "..", "\u00e4", " a", "a\n", "\xff", "cred-550e8400-e29b-41d4-a716-446655440099", "{550e8400-e29b-41d4-a716-446655440099}"} {
		f.Add(s, s)
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		if IsName(a) && IsName(b) {
			one, two := Slot{Integration: "i", Name: a}, Slot{Integration: "i", Name: b}
			if (one.path() == two.path()) != (a == b) {
				t.Errorf("%q and %q share a key", a, b)
			}
			if got, ok := parsePath(one.path()); !ok || got != one {
				t.Errorf("%q is not read back", a)
			}
		}
		if id, err := ParseID(a); err == nil {
			if again, err := ParseID(string(id)); err != nil || again != id {
				t.Errorf("%q is read as %q and then not", a, id)
			}
		}
		if clean := Clean(a); len(clean) > MaxName || !printable(clean) {
			t.Errorf("%q is cleaned to %q", a, clean)
		}
	})
}
