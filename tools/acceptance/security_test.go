package acceptance

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	testName = regexp.MustCompile("`((?:Test|Fuzz)[A-Za-z0-9]+)`")
	testFunc = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)[A-Za-z0-9]+)\(`)
)

// TestSecurityDocument holds docs/security.md to tests that there are: each attacker's
// row names some.
func TestSecurityDocument(t *testing.T) {
	there := testsThere(t)
	text, err := os.ReadFile(filepath.Join(root, "docs", "security.md"))
	must(t, err)
	rows := 0
	for line := range strings.Lines(string(text)) {
		named := testName.FindAllStringSubmatch(line, -1)
		for _, m := range named {
			if !there[m[1]] {
				t.Errorf("there is no test %s", m[1])
			}
		}
		if strings.HasPrefix(line, "| **") || strings.HasPrefix(line, "| ...") {
			if rows++; len(named) == 0 {
				t.Errorf("no test is named in %.40q", line)
			}
		}
	}
	if rows < 12 {
		t.Errorf("the table has %d rows", rows)
	}
}

// testsThere are the tests that the repository has.
func testsThere(t *testing.T) map[string]bool {
	t.Helper()
	there := map[string]bool{}
	must(t, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, m := range testFunc.FindAllSubmatch(text, -1) {
			there[string(m[1])] = true
		}
		return err
	}))
	return there
}
