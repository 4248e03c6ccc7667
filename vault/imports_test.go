package vault_test

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/sidevault/sidevault/"

// allowed are the floors of the house: a package may import those of its own
// module that its line names, and no others.
var allowed = map[string]string{
	"backends/testserver":         "",
	"backends/postgres":           "backends backends/internal/feed",
	"backends/etcd":               "backends",
	"backends/open":               "backends backends/bbolt backends/etcd backends/memory backends/postgres",
	"backends/cache":              "backends",
	"backends/migrate":            "backends",
	"vault/secret":                "",
	"vault/suggest":               "",
	"envs":                        "",
	"backends":                    "",
	"backends/internal/feed":      "backends",
	"backends/memory":             "backends backends/internal/feed",
	"backends/bbolt":              "backends backends/internal/feed",
	"backends/backendtest":        "backends",
	"vault/seal":                  "vault/secret",
	"vault/backup":                "backends vault/seal",
	"vault":                       "backends envs vault/backup vault/seal vault/secret vault/suggest",
	"vault/catalog":               "envs vault vault/suggest",
	"api":                         "",
	"api/wire":                    "vault/secret",
	"api/client":                  "api/wire vault/secret",
	"api/jwt":                     "envs vault vault/secret",
	"api/peercred":                "envs vault",
	"cmd/sidevault/transfer":      "vault/secret vault/suggest",
	"plugins/pluginpb":            "",
	"plugins/sdk":                 "plugins/pluginpb vault/secret",
	"plugins/scaffold":            "",
	"plugins/plugintest/contract": "plugins/pluginpb vault/secret",
	"plugins/plugintest":          "plugins/plugintest/contract",
	"plugins/format":              "plugins/internal/release plugins/sdk",
	"plugins/http":                "plugins/internal/egress plugins/internal/release plugins/sdk vault/secret",
	"plugins/trustradius":         "plugins/internal/egress plugins/internal/release plugins/sdk vault/secret",
	"plugins/webhook":             "plugins/internal/egress plugins/internal/release plugins/sdk",
	"plugins/internal/egress":     "",
	"plugins/internal/release":    "",
	"plugins/internal/trial":      "plugins/pluginpb vault vault/catalog",
	"plugins/host":                "plugins/pluginpb vault vault/seal vault/secret",
	"api/codes":                   "vault",
	"api/mcp":                     "api/codes vault vault/secret vault/suggest",
	"api/mcp/local":               "api/mcp envs vault vault/seal vault/secret vault/suggest",
	"api/mcp/remote":              "api/client api/mcp api/wire",
	"api/rest":                    "api api/codes api/peercred api/wire envs vault vault/seal vault/secret vault/suggest",
	"cmd/sidevault/child":         "",
	"cmd/sidevault": "api/client api/codes api/jwt api/mcp api/mcp/local api/mcp/remote api/peercred api/rest api/wire backends backends/bbolt backends/cache backends/memory backends/migrate backends/open cmd/sidevault/child cmd/sidevault/transfer envs " +
		"plugins/host plugins/plugintest/contract plugins/scaffold vault vault/backup vault/catalog vault/seal vault/secret vault/suggest",
}

// foreign are the technologies that the domain must not know.
var foreign = []string{"gin-gonic", "grpc", "cobra", "modelcontextprotocol", "database/sql", "jackc/pgx", "go-yaml", "yaml", "net/http"}

func TestImports(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, module+"...").Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		pkg := strings.TrimPrefix(f[0], module)
		may, ok := allowed[pkg]
		if !ok {
			t.Errorf("%s is on no floor", pkg)
		}
		for _, imp := range f[1:] {
			if in, ours := strings.CutPrefix(imp, module); ours && !slices.Contains(strings.Fields(may), in) {
				t.Errorf("%s must not import %s", pkg, in)
			} else if !ours && (pkg == "vault" || pkg == "vault/seal") {
				checkForeign(t, pkg, imp)
			}
		}
	}
}

func checkForeign(t *testing.T, pkg, imp string) {
	t.Helper()
	for _, name := range foreign {
		if strings.Contains(imp, name) {
			t.Errorf("%s must not know %s", pkg, imp)
		}
	}
}
