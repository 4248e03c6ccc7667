package vault_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/sidevault/sidevault/vault"
)

func TestActionsAreComplete(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "actions.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	ast.Inspect(file, func(node ast.Node) bool {
		spec, ok := node.(*ast.ValueSpec)
		if !ok || !strings.HasPrefix(spec.Names[0].Name, "Action") {
			return true
		}
		n++
		value, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
		if err != nil || !slices.Contains(vault.Actions(), value) {
			t.Errorf("%s is not in Actions", spec.Names[0].Name)
		}
		return true
	})
	if n == 0 || n != len(vault.Actions()) {
		t.Errorf("%d constants and %d actions", n, len(vault.Actions()))
	}
}
