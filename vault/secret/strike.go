package secret

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"html"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// shortest is the length in bytes below which a secret is too short to be struck
// out of a text: most texts contain it by chance, and the gaps would tell it.
const shortest = 4

// shortestLine is the length from which a single line of a secret of several lines
// is struck out by itself, as a program that logs line by line would show it.
const shortestLine = 16

// Striker strikes secrets out of foreign text: what a program says that has been
// given them. It is immutable and may be shared between goroutines.
//
// It finds a secret as it is, in either case, and in the encodings that programs
// commonly print: JSON, Go and HTML escapes, URL escapes, base64 and hexadecimal. It
// is a guard against accidents. A program that means to give a secret away will
// find an encoding that is not in the list.
type Striker struct {
	forms []string // lower case, longest first
	short []string // secrets too short to be struck out
}

// NewStriker returns a Striker for those secrets. Empty ones are ignored.
func NewStriker(values ...Value) *Striker {
	s := new(Striker)
	for _, v := range values {
		switch text := v.Reveal(); {
		case text == "":
		case len(text) < shortest:
			s.short = append(s.short, strings.ToLower(text))
		default:
			s.add(text)
			for line := range strings.Lines(text) {
				if line = strings.TrimSpace(line); len(line) >= shortestLine && line != text {
					s.add(line)
				}
			}
		}
	}
	slices.SortFunc(s.forms, func(a, b string) int { return len(b) - len(a) })
	s.forms = slices.Compact(s.forms)
	return s
}

func (s *Striker) add(text string) {
	quoted, _ := json.Marshal(text) // a string always marshals
	raw := []byte(text)
	for _, form := range []string{
		text, strings.TrimSpace(text), strings.Trim(string(quoted), `"`), strings.Trim(strconv.Quote(text), `"`), html.EscapeString(text),
		url.QueryEscape(text), url.PathEscape(text), hex.EncodeToString(raw),
		base64.RawStdEncoding.EncodeToString(raw), base64.RawURLEncoding.EncodeToString(raw),
	} {
		if len(form) >= shortest {
			s.forms = append(s.forms, strings.ToLower(form))
		}
	}
}

// Strike returns the text with every secret replaced by [Redacted]. A text that
// contains a secret too short to be struck out becomes [Redacted] as a whole. What
// is not UTF-8 becomes U+FFFD.
func (s *Striker) Strike(text string) string {
	text = strings.ToValidUTF8(text, "\uFFFD")
	lower := strings.ToLower(text)
	for _, form := range s.forms {
		if strings.Contains(lower, form) {
			text = strike(text, form)
			lower = strings.ToLower(text)
		}
	}
	for _, short := range s.short {
		if strings.Contains(lower, short) {
			return Redacted
		}
	}
	return text
}

// Finds reports whether the text contains one of the secrets.
func (s *Striker) Finds(text string) bool {
	return s.Strike(text) != strings.ToValidUTF8(text, "\uFFFD")
}

func strike(text, form string) string {
	lower := strings.ToLower(text)
	if len(lower) != len(text) {
		// A letter whose lower case has another length: places would not agree.
		text = lower
	}
	var b strings.Builder
	for {
		at := strings.Index(lower, form)
		if at < 0 {
			b.WriteString(text)
			return b.String()
		}
		b.WriteString(text[:at] + Redacted)
		text, lower = text[at+len(form):], lower[at+len(form):]
	}
}
