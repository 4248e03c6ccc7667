package catalog

import (
	"fmt"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
	"github.com/sidevault/sidevault/vault/suggest"
)

// maxProblems is how many problems of one file are reported.
const maxProblems = 100

// reader walks one file's nodes and collects what is wrong with them. A value
// is read by a func(ast.Node) error, whose error becomes a problem at the
// value's place.
type reader struct {
	file     string
	problems []*Problem
	omitted  int // problems over the limit
	entries  []entry
	lines    map[string]int // of the keys of entries
}

// member is one of the keys that a mapping may have.
type member struct {
	key  string
	read func(ast.Node) error
}

func (r *reader) sheet(broken bool) sheet {
	if r.omitted > 0 {
		msg := fmt.Sprintf("%d problems, of which these are %d", maxProblems+r.omitted, maxProblems)
		r.problems = append(r.problems, &Problem{place: r.whole(), Msg: msg})
	}
	return sheet{entries: r.entries, problems: r.problems, broken: broken}
}

func (r *reader) fail(at place, format string, args ...any) {
	if len(r.problems) == maxProblems {
		r.omitted++
		return
	}
	r.problems = append(r.problems, &Problem{place: at, Msg: fmt.Sprintf(format, args...)})
}

func (r *reader) whole() place { return place{File: r.file} }

func (r *reader) placeOf(tk *token.Token) place {
	if tk == nil || tk.Position == nil {
		return r.whole()
	}
	return place{File: r.file, Line: tk.Position.Line, Column: max(1, tk.Position.Column)}
}

// start returns where a value begins. The token of a block mapping is its first
// colon, so the first key stands in for it.
func (r *reader) start(n ast.Node) place {
	switch n := n.(type) {
	case nil:
		return r.whole()
	case *ast.MappingNode:
		if !n.IsFlowStyle && len(n.Values) > 0 {
			return r.start(n.Values[0])
		}
	case *ast.MappingValueNode:
		return r.start(n.Key)
	}
	return r.placeOf(n.GetToken())
}

// mapping reads a mapping that may have the given keys, and returns where those
// it has stand.
func (r *reader) mapping(n ast.Node, members []member) (map[string]place, error) {
	m, ok := n.(ast.MapNode)
	if !ok {
		return nil, fmt.Errorf("a mapping is expected, not %s", kind(n))
	}
	seen := map[string]place{}
	for it := m.MapRange(); it.Next(); {
		key := keyText(it.Key())
		at := r.start(it.Key())
		if _, twice := seen[key]; twice {
			r.fail(at, "key %s is given twice", quote(key))
			continue
		}
		seen[key] = at
		r.value(key, at, it.Value(), members)
	}
	return seen, nil
}

func (r *reader) value(key string, at place, n ast.Node, members []member) {
	known := make([]string, len(members))
	for i, m := range members {
		known[i] = m.key
		if m.key != key {
			continue
		}
		if err := m.read(n); err != nil {
			if !isNull(n) {
				at = r.start(n)
			}
			r.fail(at, "%s: %v", key, err)
		}
		return
	}
	r.fail(at, "unknown key %s%s", quote(key), suggest.Hint(key, known))
}

// keyText returns a mapping's key. One that is not text (12:, null:) comes as
// it stands, and so is unknown.
func keyText(n ast.MapKeyNode) string {
	if s, ok := n.(*ast.StringNode); ok {
		return s.Value
	}
	if n == nil || n.GetToken() == nil {
		return ""
	}
	return n.GetToken().Value
}

// list reads every item of a list; an item's problem stands at the item and
// begins with the list's name.
func (r *reader) list(name string, n ast.Node, item func(ast.Node) error) error {
	s, ok := n.(*ast.SequenceNode)
	if !ok {
		return fmt.Errorf("a list is expected, not %s", kind(n))
	}
	for _, v := range s.Values {
		if err := item(v); err != nil {
			r.fail(r.start(v), "%s: %v", name, err)
		}
	}
	return nil
}

// text returns a reader of a string, which it hands to set.
func text(set func(string) error) func(ast.Node) error {
	return func(n ast.Node) error {
		switch n := n.(type) {
		case *ast.StringNode:
			return set(n.Value)
		case *ast.LiteralNode:
			return set(n.Value.Value)
		}
		return fmt.Errorf("text is expected, not %s", kind(n))
	}
}

// checked stores a string that check has nothing against.
func checked(to *string, check func(string) error) func(ast.Node) error {
	return text(func(s string) error {
		err := check(s)
		if err == nil {
			*to = s
		}
		return err
	})
}

// boolean reads true or false.
func boolean(to *bool) func(ast.Node) error {
	return func(n ast.Node) error {
		b, ok := n.(*ast.BoolNode)
		if !ok {
			return fmt.Errorf("true or false is expected, not %s", kind(n))
		}
		*to = b.Value
		return nil
	}
}

func isNull(n ast.Node) bool {
	_, null := n.(*ast.NullNode)
	return null || n == nil
}

// kind names what a value is, for a person who wrote it by mistake.
func kind(n ast.Node) string {
	switch n := n.(type) {
	case nil, *ast.NullNode:
		return "nothing"
	case *ast.StringNode:
		return quote(n.Value)
	case *ast.LiteralNode:
		return "text"
	case *ast.BoolNode:
		return fmt.Sprintf("the boolean %t (quote it)", n.Value)
	case *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		return fmt.Sprintf("the number %.40s (quote it)", strings.TrimSpace(n.GetToken().Value))
	case *ast.SequenceNode:
		return "a list"
	case *ast.MappingNode, *ast.MappingValueNode:
		return "a mapping"
	}
	return "this"
}
