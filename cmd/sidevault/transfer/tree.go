package transfer

import (
	"bytes"
	"errors"
	"io"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/sidevault/sidevault/vault/secret"
)

// node is a JSON value with its line. Its text may be a secret.
type node struct {
	line    int
	kind    jsontext.Kind // { [ " 0 t f n
	text    secret.Value  // of a string, a number or a boolean
	members []member
	items   []node
}

type member struct {
	name string
	node
}

// member returns the member of that name, an empty node when there is none.
func (n node) member(name string) node {
	for _, m := range n.members {
		if m.name == name {
			return m.node
		}
	}
	return node{}
}

// string returns a string's text, "" of anything else.
func (n node) string() string {
	if n.kind != '"' {
		return ""
	}
	return n.text.Reveal()
}

// scalar reports whether the value is a string, a number or a boolean.
func (n node) scalar() bool { return n.kind == '"' || n.kind == '0' || n.kind == 't' || n.kind == 'f' }

// maxDepth is how deep a file may be nested.
const maxDepth = 16

// tree reads JSON texts.
type tree struct {
	data []byte
	dec  *jsontext.Decoder
	line int
	read int // bytes whose lines are counted
}

var errDeep = errors.New("nested too deep")

// parseJSON returns the JSON texts that follow each other. It refuses a name that is
// twice in an object. The decoder's own text is dropped: it quotes.
func parseJSON(data []byte) ([]node, error) {
	t := &tree{data: data, dec: jsontext.NewDecoder(bytes.NewReader(data)), line: 1}
	var list []node
	for {
		n, err := t.value(0)
		switch {
		case errors.Is(err, io.EOF):
			return list, nil
		case errors.Is(err, errDeep):
			return nil, Problem{Line: t.line, Msg: "nested deeper than any of the formats"}
		case errors.Is(err, jsontext.ErrDuplicateName):
			return nil, Problem{Line: t.lineAt(errorOffset(err)), Msg: "a name is twice in one object"}
		case err != nil:
			return nil, Problem{Line: t.lineAt(errorOffset(err)), Msg: "not JSON"}
		}
		list = append(list, n)
	}
}

func errorOffset(err error) int {
	if e, ok := errors.AsType[*jsontext.SyntacticError](err); ok {
		return int(e.ByteOffset)
	}
	return 0
}

// lineAt returns the line of an offset that is not before those asked for earlier.
func (t *tree) lineAt(offset int) int {
	if offset = min(offset, len(t.data)); offset > t.read {
		t.line += bytes.Count(t.data[t.read:offset], []byte("\n"))
		t.read = offset
	}
	return t.line
}

func (t *tree) value(depth int) (node, error) {
	if depth > maxDepth {
		return node{}, errDeep
	}
	tok, err := t.dec.ReadToken()
	if err != nil {
		return node{}, err
	}
	n := node{kind: tok.Kind()}
	switch n.kind {
	case '"', '0', 't', 'f':
		n.text = secret.New(tok.String())
	}
	n.line = t.lineAt(int(t.dec.InputOffset()))
	switch n.kind {
	case '{':
		err = t.object(&n, depth)
	case '[':
		err = t.array(&n, depth)
	}
	return n, err
}

func (t *tree) object(n *node, depth int) error {
	for t.dec.PeekKind() != '}' {
		name, err := t.value(depth + 1)
		if err != nil {
			return err
		}
		v, err := t.value(depth + 1)
		if err != nil {
			return err
		}
		n.members = append(n.members, member{name.string(), v})
	}
	_, err := t.dec.ReadToken()
	return err
}

func (t *tree) array(n *node, depth int) error {
	for t.dec.PeekKind() != ']' {
		v, err := t.value(depth + 1)
		if err != nil {
			return err
		}
		n.items = append(n.items, v)
	}
	_, err := t.dec.ReadToken()
	return err
}
