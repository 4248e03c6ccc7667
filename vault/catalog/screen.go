package catalog

import "github.com/goccy/go-yaml/token"

// Limits on the shape of a file. The parser recurses with depth, and its time
// grows with the square of the keys in one mapping and of the empty values in
// the file. The built-in catalog has less than a twentieth of maxTokens.
const (
	maxFlow   = 8    // brackets and braces inside each other
	maxColumn = 200  // where a block's list item or key may begin
	maxKeys   = 1000 // keys in one mapping; entries between one pair of brackets
	maxTokens = 200_000
)

var refused = map[token.Type]string{
	token.AnchorType:     "anchors and aliases are not accepted: write the value out, or quote it if it is text",
	token.AliasType:      "anchors and aliases are not accepted: write the value out, or quote it if it is text",
	token.MergeKeyType:   "merge keys are not accepted: write the keys out",
	token.TagType:        "tags are not accepted: quote the value if it is text",
	token.DirectiveType:  "directives are not accepted: quote the value if it is text",
	token.MappingKeyType: `"? key" is not accepted: write "key: value"`,
}

// screen reports the tokens that a catalog has no use for, among them all that
// could expand, nest or multiply without end.
func (r *reader) screen(tokens token.Tokens) {
	var s shape
	for i, tk := range tokens {
		if i == maxTokens {
			r.fail(r.placeOf(tk), "too much for one file: split it")
			return
		}
		if msg, bad := refused[tk.Type]; bad {
			r.fail(r.placeOf(tk), "%s", msg)
		}
		header := tk.Type == token.DocumentHeaderType && i > 0
		if end := i > 0 && tokens[i-1].Type == token.DocumentEndType; header || end {
			r.fail(r.placeOf(tk), "a second document: a catalog file has one")
			return
		}
		if msg := s.next(tk); msg != "" {
			r.fail(r.placeOf(tk), "%s", msg)
			return
		}
	}
}

// CheckShape returns the first token at which a file is too deep, too wide or too long
// for the YAML parser, and what is wrong there; nil when nothing is. It is for other files
// that are read as a catalog's are: whole, before the parser sees them.
func CheckShape(tokens token.Tokens) (*token.Token, string) {
	var s shape
	for i, tk := range tokens {
		if i == maxTokens {
			return tk, "too much for one file: split it"
		}
		if msg := s.next(tk); msg != "" {
			return tk, msg
		}
	}
	return nil, ""
}

// shape follows how deep and how wide a file is. Brackets and braces are counted
// apart, so that a mismatched one does not hide depth.
type shape struct {
	brackets, braces, items int
	blocks                  []block // mappings that are open, the outermost first
}

// block is a mapping without braces: its keys stand in one column.
type block struct{ column, keys int }

// next takes the next token and returns what is wrong with the file at it.
func (s *shape) next(tk *token.Token) string {
	switch tk.Type {
	case token.SequenceStartType:
		s.brackets++
	case token.SequenceEndType:
		s.brackets = max(0, s.brackets-1)
	case token.MappingStartType:
		s.braces++
	case token.MappingEndType:
		s.braces = max(0, s.braces-1)
	case token.CollectEntryType:
		s.items++
	case token.SequenceEntryType:
		s.close(column(tk))
		return tooDeep(column(tk) > maxColumn)
	case token.MappingValueType:
		if s.brackets+s.braces == 0 {
			return s.key(column(tk.Prev))
		}
	}
	if s.brackets+s.braces == 0 {
		s.items = 0
	}
	if s.items >= maxKeys {
		return "too many entries between brackets: begin each on a line of its own with a hyphen"
	}
	return tooDeep(s.brackets > maxFlow || s.braces > maxFlow)
}

// close ends the blocks to the right of the column.
func (s *shape) close(column int) {
	for len(s.blocks) > 0 && s.blocks[len(s.blocks)-1].column > column {
		s.blocks = s.blocks[:len(s.blocks)-1]
	}
}

func (s *shape) key(column int) string {
	s.close(column)
	if n := len(s.blocks); n == 0 || s.blocks[n-1].column < column {
		s.blocks = append(s.blocks, block{column: column})
	}
	b := &s.blocks[len(s.blocks)-1]
	b.keys++
	if b.keys > maxKeys {
		return "too many keys in one mapping"
	}
	return tooDeep(column > maxColumn)
}

func tooDeep(yes bool) string {
	if yes {
		return "nested too deeply"
	}
	return ""
}

func column(tk *token.Token) int {
	if tk == nil || tk.Position == nil {
		return 0
	}
	return tk.Position.Column
}
