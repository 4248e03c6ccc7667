// Package guide types the commands of documents as their reader would: every block of sh
// of a document, in order, into one shell, against the real program. What a document
// shows as printed is compared with what was. The package knows no document: where a
// reader stands and what they have beside them is the tests' to say.
package guide

import (
	"os"
	"strings"
	"testing"
)

// Block is a block of commands.
type Block struct {
	Document string // its path
	Line     int    // of the first command
	Section  string // the title above it, "" before the first
	Text     string

	// Prints is the block of text or json that follows at once: what the commands print.
	Prints   string
	Language string // of Prints
}

// Read returns the blocks of sh of a document.
func Read(t testing.TB, path string) (blocks []Block) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var (
		section, language string
		indent, begin     int
		fenced, adjacent  bool // adjacent: nothing but blank lines since a block of sh
		text              strings.Builder
	)
	for n, line := range strings.Split(string(data), "\n") {
		trimmed := strings.TrimSpace(line)
		info, fence := strings.CutPrefix(trimmed, "```")
		switch {
		case fence && !fenced:
			language, _, _ = strings.Cut(info, " ")
			fenced, indent, begin = true, strings.Index(line, "`"), n+2
			text.Reset()
		case fence && language == "sh":
			blocks = append(blocks, Block{Document: path, Line: begin, Section: section, Text: text.String()})
			fenced, adjacent = false, true
		case fence:
			if shown := language == "text" || language == "json"; shown && adjacent {
				last := &blocks[len(blocks)-1]
				last.Prints, last.Language = text.String(), language
			}
			fenced, adjacent = false, false
		case fenced:
			text.WriteString(line[min(indent, len(line)-len(strings.TrimLeft(line, " "))):] + "\n")
		case strings.HasPrefix(line, "## "):
			section, adjacent = strings.TrimPrefix(line, "## "), false
		case trimmed != "":
			adjacent = false
		}
	}
	return blocks
}

// Under returns the blocks of a section, after those that come before every section.
func Under(blocks []Block, section string) (under []Block) {
	found := false
	for _, b := range blocks {
		if b.Section == "" || b.Section == section {
			under = append(under, b)
		}
		found = found || b.Section == section
	}
	if !found {
		return nil
	}
	return under
}

// Text returns the commands of the blocks.
func Text(blocks []Block) string {
	var b strings.Builder
	for _, block := range blocks {
		b.WriteString(block.Text)
	}
	return b.String()
}
