package transfer

import (
	"fmt"
	"regexp"
	"strings"
	"unicode"

	"github.com/sidevault/sidevault/vault/secret"
)

// A .env file:
//
//	# a comment
//	NAME=value          # a comment, after a space
//	export NAME=value
//	NAME='as it is, $ and \ too, over several lines'
//	NAME="with \n \r \t \" \\ \$, over several lines"
//
// There is no expansion. What another program would expand, ${NAME} outside single
// quotes, and what programs read differently, a backtick at the start, is refused.

var (
	variableRE  = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]*$`)
	referenceRE = regexp.MustCompile(`(^|[^\\])\$\{[A-Za-z_]`)
)

// envReader reads a .env file, line by line.
type envReader struct {
	lines []string
	at    int // index of the line that is read
	p     problems
	seen  map[string]int
	list  []Entry
}

func readEnv(data []byte) ([]Entry, error) {
	text := strings.ReplaceAll(string(data), "\r\n", "\n")
	r := &envReader{lines: strings.Split(text, "\n"), seen: map[string]int{}}
	for ; r.at < len(r.lines); r.at++ {
		// What ends the line stays: it may be in a quoted value that goes on.
		line := strings.TrimLeftFunc(r.lines[r.at], unicode.IsSpace)
		if line != "" && line[0] != '#' {
			r.assignment(line)
		}
	}
	return r.list, r.p.err()
}

func (r *envReader) assignment(line string) {
	start := r.at + 1
	if rest, ok := strings.CutPrefix(line, "export "); ok {
		line = strings.TrimLeftFunc(rest, unicode.IsSpace)
	}
	name, value, ok := strings.Cut(line, "=")
	name = strings.TrimSpace(name)
	if !ok || !variableRE.MatchString(name) {
		// The line is not quoted: it can be the rest of a secret of several lines.
		r.p.add(start, "not NAME=VALUE; a value of several lines stands in quotes")
		return
	}
	if first, twice := r.seen[name]; twice {
		r.p.add(start, "%s is set on line %d, too", name, first)
		return
	}
	r.seen[name] = start
	text, err := r.value(strings.TrimLeft(value, " \t"))
	if err != "" {
		r.p.add(start, "%s %s", name, err)
		return
	}
	r.list = append(r.list, variable(start, name, secret.New(text)))
}

// variable is the entry of a single value.
func variable(line int, name string, v secret.Value) Entry {
	e := Entry{Line: line, Source: name, Variable: true, Fields: map[string]secret.Value{"": v}}
	if v.Len() == 0 {
		e.Skip = "it is empty"
	}
	return e
}

// value reads a value that begins with text. What is wrong comes back as the end of a
// sentence.
func (r *envReader) value(text string) (value, wrong string) {
	switch {
	case strings.HasPrefix(text, "'"):
		return r.quoted(text[1:], '\'')
	case strings.HasPrefix(text, `"`):
		return r.quoted(text[1:], '"')
	case strings.HasPrefix(text, "`"):
		return "", "begins with a backtick, which programs read differently: put the value into single quotes"
	case referenceRE.MatchString(text):
		return "", refersTo
	}
	if strings.HasPrefix(text, "#") {
		return "", ""
	}
	for _, comment := range []string{" #", "\t#"} {
		text, _, _ = strings.Cut(text, comment)
	}
	return strings.TrimSpace(text), ""
}

const refersTo = "refers to another variable: write the value out, or put it into single quotes if it is meant as it is"

// quoted reads up to the closing quote, on this line or a later one.
func (r *envReader) quoted(text string, quote byte) (value, wrong string) {
	var b strings.Builder
	end := closing(text, quote)
	for end < 0 {
		if b.WriteString(text + "\n"); r.at+1 == len(r.lines) {
			return "", "has no closing quote"
		}
		r.at++
		text = r.lines[r.at]
		end = closing(text, quote)
	}
	after := strings.TrimSpace(text[end+1:])
	if after != "" && after[0] != '#' {
		return "", "has text after its closing quote"
	}
	b.WriteString(text[:end])
	if quote == '\'' {
		return b.String(), ""
	}
	if referenceRE.MatchString(b.String()) {
		return "", refersTo
	}
	return unescaper().Replace(b.String()), ""
}

// closing returns where the quote ends that text is in, -1 when not on this line.
func closing(text string, quote byte) int {
	for i := 0; i < len(text); i++ {
		switch {
		case text[i] == quote:
			return i
		case text[i] == '\\' && quote == '"':
			i++
		}
	}
	return -1
}

func unescaper() *strings.Replacer {
	return strings.NewReplacer(`\n`, "\n", `\r`, "\r", `\t`, "\t", `\"`, `"`, `\\`, `\`, `\$`, `$`)
}

func escaper() *strings.Replacer {
	return strings.NewReplacer("\n", `\n`, "\r", `\r`, "\t", `\t`, `"`, `\"`, `\`, `\\`, `$`, `\$`)
}

// envLine prints a variable so that readEnv reads it back: in single quotes, which
// every program takes for what they hold, unless it has some itself.
func envLine(name, value string) string {
	if strings.ContainsAny(value, "'\r") {
		return fmt.Sprintf("%s=\"%s\"\n", name, escaper().Replace(value))
	}
	return fmt.Sprintf("%s='%s'\n", name, value)
}
