// Package suggest finds the known word that a mistyped one was probably meant
// to be, for messages to people.
package suggest

import "strings"

// Nearest returns the known word nearest to word: one that word begins or that
// begins word (prod, production), else one within a third of its length in
// edits. It returns "" when nothing is near.
func Nearest(word string, known []string) string {
	word = strings.ToLower(word)
	for _, k := range known {
		if len(word) >= 2 && strings.HasPrefix(strings.ToLower(k), word) || len(k) >= 2 && strings.HasPrefix(word, strings.ToLower(k)) {
			return k
		}
	}
	best, nearest := len(word)/3+1, ""
	for _, k := range known {
		if d := distance(word, strings.ToLower(k)); d < best {
			best, nearest = d, k
		}
	}
	return nearest
}

// Hint returns ` (did you mean "x"?)` for the nearest known word, or "".
func Hint(word string, known []string) string {
	if n := Nearest(word, known); n != "" {
		return ` (did you mean "` + n + `"?)`
	}
	return ""
}

// distance is the optimal string alignment distance in bytes: insertions,
// deletions, substitutions and swaps of neighbours. Words longer than 64 bytes
// are not compared.
func distance(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return max(len(a), len(b))
	}
	var before, row []int
	next := make([]int, len(b)+1)
	for j := range next {
		next[j] = j
	}
	for i := range len(a) {
		before, row, next = row, next, make([]int, len(b)+1)
		next[0] = i + 1
		for j := range len(b) {
			next[j+1] = min(row[j+1]+1, next[j]+1, row[j]+differ(a[i], b[j]))
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				next[j+1] = min(next[j+1], before[j-1]+1)
			}
		}
	}
	return next[len(b)]
}

func differ(a, b byte) int {
	if a == b {
		return 0
	}
	return 1
}
