package main

import (
	"errors"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"

	"github.com/sidevault/sidevault/vault/suggest"
)

const maxMapping = 1 << 20

// readMapping reads a file that says which variable is which field:
//
//	NAME: {integration: salesforce, name: default, field: value}
func readMapping(path string) ([]mapped, error) {
	data, err := readBounded(path, maxMapping)
	if err != nil {
		return nil, usagef("read the mapping").because(err)
	}
	r := &configReader{path: path}
	var list []mapped
	if root := r.parse(data); root != nil && len(r.problems) == 0 {
		list = r.variables(root)
	}
	if len(r.problems) > 0 {
		return nil, usagef("%s", errors.Join(r.problems...))
	}
	if len(list) == 0 {
		return nil, usagef("%s names no variable", path).hinted("as in NAME: {integration: salesforce, field: value}")
	}
	return list, nil
}

func (r *configReader) variables(root ast.Node) (list []mapped) {
	m, ok := root.(ast.MapNode)
	if !ok {
		r.fail(root.GetToken(), "a mapping is expected, as in NAME: {integration: salesforce, field: value}")
		return nil
	}
	for it := m.MapRange(); it.Next(); {
		tk := it.Key().GetToken()
		if v, ok := r.variable(tk, it.Value()); ok {
			list = append(list, v)
		}
	}
	return list
}

func (r *configReader) variable(tk *token.Token, n ast.Node) (mapped, bool) {
	v := mapped{variable: tk.Value, choice: choice{name: defaultName}}
	if !variableRE.MatchString(v.variable) {
		r.fail(tk, "%q is not a variable's name", v.variable)
		return v, false
	}
	m, ok := n.(ast.MapNode)
	if !ok {
		r.fail(tk, "%s: a mapping is expected, as in {integration: salesforce, field: value}", v.variable)
		return v, false
	}
	known := map[string]*string{"integration": &v.integration, "name": &v.name, "field": &v.field}
	for it := m.MapRange(); it.Next(); {
		tk := it.Key().GetToken()
		to, ok := known[tk.Value]
		if !ok {
			r.fail(tk, "%s: unknown key %q%s", v.variable, tk.Value, suggest.Hint(tk.Value, []string{"integration", "name", "field"}))
		} else if text, ok := r.scalar(tk.Value, tk, it.Value()); ok {
			*to = text
		}
	}
	if v.integration == "" {
		r.fail(tk, "%s: integration is missing", v.variable)
	}
	return v, true
}
