package postgres

import (
	"math"
	"sort"
	"unicode/utf8"

	"github.com/sidevault/sidevault/backends"
)

// The server compares text and takes only valid UTF-8 without NUL, while a List's
// prefix and after may be any bytes. Every key is valid, so each bound can be moved
// up to the next valid string without passing a key.

// keyRange returns the bounds of the keys that begin with prefix and are greater
// than after: from first on, below end unless that is "". It returns false when
// there can be no such key.
func keyRange(prefix, after string) (first, end string, any bool) {
	first, any = ceiling(max(prefix, after+"\x00"))
	if after == "" {
		first, any = ceiling(prefix)
	}
	if !any {
		return "", "", false
	}
	if end, bounded := successor(prefix); bounded {
		return first, end, first < end
	}
	return first, "", true
}

// successor returns the least valid string above all that begin with prefix, or
// false when there is none.
func successor(prefix string) (string, bool) {
	last := len(prefix) - 1
	for last >= 0 && prefix[last] == 0xff {
		last--
	}
	if last < 0 {
		return "", false
	}
	return ceiling(prefix[:last] + string([]byte{prefix[last] + 1}))
}

// ceiling returns the least valid string that is not less than s, or false when
// there is none.
func ceiling(s string) (string, bool) {
	good := validPart(s)
	if good == len(s) {
		return s, true
	}
	rest := s[good:]
	next := sort.Search(utf8.MaxRune, func(i int) bool { return encode(rune(i)+1) > rest })
	if next < utf8.MaxRune {
		return s[:good] + encode(rune(next)+1), true
	}
	return successor(s[:good])
}

// encode is the UTF-8 of r, or of the next rune that has one.
func encode(r rune) string {
	const surrogates, above = 0xd800, 0xe000
	if r >= surrogates && r < above {
		r = above
	}
	return string(r)
}

// validPart returns the length of the part of s before NUL or invalid UTF-8.
func validPart(s string) int {
	for i, r := range s {
		if r == 0 {
			return i
		}
		if r == utf8.RuneError {
			if _, size := utf8.DecodeRuneInString(s[i:]); size <= 1 {
				return i
			}
		}
	}
	return len(s)
}

// clamp returns n as the engine's signed integer, or its greatest.
func clamp(n uint64) int64 { return int64(min(n, math.MaxInt64)) }

// expectation is the revision that a key must have, as the engine's integer. A
// revision beyond its range is one that no record has.
func expectation(at backends.Revision) int64 {
	if at > math.MaxInt64 {
		return -1
	}
	return int64(at)
}
