package envs_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/sidevault/sidevault/envs"
)

func TestChain(t *testing.T) {
	tree, err := envs.New([]envs.Environment{
		{Name: "development"}, {Name: "preview", Parent: "development"}, {Name: "pr-1", Parent: "preview"}, {Name: "production"},
	})
	if err != nil {
		t.Fatal(err)
	}
	for scope, want := range map[envs.Scope][]envs.Scope{
		"pr-1":       {"pr-1", "preview", "development", envs.Shared},
		"production": {"production", envs.Shared},
		envs.Shared:  {envs.Shared},
	} {
		if got := tree.Chain(scope); !slices.Equal(got, want) {
			t.Errorf("chain of %s: %v, want %v", scope, got, want)
		}
	}
	if got := tree.Scopes(); len(got) != 5 || got[4] != envs.Shared {
		t.Errorf("scopes: %v", got)
	}
}

func TestNewRefuses(t *testing.T) {
	for _, c := range []struct {
		says string
		list []envs.Environment
	}{
		{"name at least one", nil},
		{`"Production"`, []envs.Environment{{Name: "Production"}}},
		{`"-x"`, []envs.Environment{{Name: "-x"}}},
		{`""`, []envs.Environment{{Name: ""}}},
		{"63", []envs.Environment{{Name: strings.Repeat("x", 64)}}},
		{"twice", []envs.Environment{{Name: "a"}, {Name: "a"}}},
		{`parent "b" is not`, []envs.Environment{{Name: "a", Parent: "b"}}},
		{"circle", []envs.Environment{{Name: "a", Parent: "a"}}},
		{"circle", []envs.Environment{{Name: "e", Parent: "a"}, {Name: "a", Parent: "b"}, {Name: "b", Parent: "a"}}},
	} {
		if _, err := envs.New(c.list); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%v: %v, want it to mention %s", c.list, err, c.says)
		}
	}
}
