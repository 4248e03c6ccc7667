package catalog

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

// maxConfig is the most that a binding's config may hold, in bytes of JSON.
const maxConfig = 16 << 10

// config reads a binding's config, which is the plugin's own: any mapping, kept
// as JSON with its keys in the order of the file.
func (r *reader) config(b *bound) func(ast.Node) error {
	return func(n ast.Node) error {
		if _, ok := n.(ast.MapNode); !ok {
			return fmt.Errorf("a mapping is expected, not %s", kind(n))
		}
		before := len(r.problems) + r.omitted
		out := r.json(nil, n)
		if len(r.problems)+r.omitted > before {
			return nil
		}
		if len(out) > maxConfig {
			return fmt.Errorf("%d bytes as JSON; at most %d are allowed", len(out), maxConfig)
		}
		b.Config = out
		return nil
	}
}

// json appends a value as JSON; what JSON cannot have is a problem at its place.
func (r *reader) json(out []byte, n ast.Node) []byte {
	if len(out) > maxConfig {
		return out // too large as it is
	}
	switch n := n.(type) {
	case ast.MapNode:
		return r.jsonObject(out, n)
	case *ast.SequenceNode:
		out = append(out, '[')
		for i, v := range n.Values {
			if i > 0 {
				out = append(out, ',')
			}
			out = r.json(out, v)
		}
		return append(out, ']')
	}
	scalar, err := jsonScalar(n)
	if err != nil {
		r.fail(r.start(n), "config: %v", err)
	}
	return append(out, scalar...)
}

func (r *reader) jsonObject(out []byte, n ast.MapNode) []byte {
	out = append(out, '{')
	seen := map[string]bool{}
	for it := n.MapRange(); it.Next(); {
		name, ok := it.Key().(*ast.StringNode)
		if !ok {
			r.fail(r.start(it.Key()), "config: the key %s is not text (quote it)", quote(keyText(it.Key())))
			continue
		}
		if seen[name.Value] {
			r.fail(r.start(it.Key()), "config: key %s is given twice", quote(name.Value))
			continue
		}
		if len(seen) > 0 {
			out = append(out, ',')
		}
		seen[name.Value] = true
		out = append(append(out, jsonText(name.Value)...), ':')
		out = r.json(out, it.Value())
	}
	return append(out, '}')
}

func jsonText(s string) []byte {
	out, err := json.Marshal(s)
	if err != nil {
		panic(err) // a string always marshals
	}
	return out
}

var (
	numberRE      = regexp.MustCompile(`^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$`)
	leadingZeroRE = regexp.MustCompile(`^[-+]?0[0-9_]`)
)

func jsonScalar(n ast.Node) ([]byte, error) {
	switch n := n.(type) {
	case nil, *ast.NullNode:
		return []byte("null"), nil
	case *ast.BoolNode:
		return strconv.AppendBool(nil, n.Value), nil
	case *ast.StringNode:
		return jsonString(n)
	case *ast.LiteralNode:
		return jsonText(n.Value.Value), nil
	case *ast.IntegerNode:
		// Readers differ over whether it is octal.
		if leadingZeroRE.MatchString(n.GetToken().Value) {
			return nil, fmt.Errorf("the number %.40s has a leading zero: quote it if it is text", n.GetToken().Value)
		}
		return fmt.Append(nil, n.Value), nil
	case *ast.FloatNode:
		if written, err := jsonNumber(n.GetToken().Value); err == nil {
			return written, nil
		}
		return json.Marshal(n.Value)
	}
	return nil, errors.New("text, a number, true, false, null, a list or a mapping is expected")
}

// jsonString also finds the numbers that the parser takes for text: large ones, and
// some with an exponent.
func jsonString(n *ast.StringNode) ([]byte, error) {
	if plain := n.GetToken().Type == token.StringType; plain && numberRE.MatchString(n.Value) {
		return jsonNumber(n.Value)
	}
	return jsonText(n.Value), nil
}

// jsonNumber returns a decimal number as it was written, where JSON writes it so
// too: 1.0 does not become 1, and no digit is lost.
func jsonNumber(s string) ([]byte, error) {
	f, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return nil, fmt.Errorf("the number %.40s is too large: quote it if it is text", s)
	}
	if written := []byte(s); json.Valid(written) {
		return written, nil
	}
	return json.Marshal(f)
}
