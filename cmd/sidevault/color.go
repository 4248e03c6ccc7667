package main

// Colors, as ECMA-48 numbers them.
const (
	red    = "31"
	green  = "32"
	yellow = "33"
	cyan   = "36"
)

// paint colors text for a person at a terminal who has not declined: NO_COLOR
// (no-color.org) counts when it is not empty.
func (s *shell) paint(color, text string) string {
	if color == "" || !isTerminal(s.out) || s.getenv("NO_COLOR") != "" || s.getenv("TERM") == "dumb" {
		return text
	}
	return "\x1b[" + color + "m" + text + "\x1b[0m"
}
