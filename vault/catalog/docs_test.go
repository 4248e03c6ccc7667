package catalog

import (
	"os"
	"strings"
	"testing"
)

func TestDocumentedExample(t *testing.T) {
	doc, err := os.ReadFile("../../docs/catalog.md")
	if err != nil {
		t.Fatal(err)
	}
	_, example, _ := strings.Cut(string(doc), "```yaml\nintegrations:")
	example, _, _ = strings.Cut(example, "```")
	c := mustParse(t, "integrations:"+example)
	acme, _ := c.Lookup("acme")
	reports, _ := c.Lookup("acme_reports")
	if len(acme.Fields) != 4 || len(reports.Fields) != 4 || len(reports.Environments) != 2 {
		t.Errorf("acme: %+v\nacme_reports: %+v", acme, reports)
	}
}

func TestDocumentedBindings(t *testing.T) {
	doc, err := os.ReadFile("../../docs/catalog.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(doc), "## Validators and syncers")
	_, example, _ := strings.Cut(section, "```yaml\n")
	example, _, _ = strings.Cut(example, "```")
	c := mustParse(t, example)
	acme, _ := c.Lookup("acme")
	if len(acme.Validators) != 2 || len(acme.Syncers) != 1 || acme.Validators[0].Config == nil {
		t.Errorf("acme: %+v", acme)
	}
	if err := c.CheckPlugins([]string{"format", "http", "webhook"}); err != nil {
		t.Error(err)
	}
}

func TestDocumentedProblems(t *testing.T) {
	doc, err := os.ReadFile("../../docs/catalog.md")
	if err != nil {
		t.Fatal(err)
	}
	file := strings.Repeat("\n", 8) + "integrations:\n  - key: a\n    name: A\n    doc: x\n    category: b\n" +
		strings.Repeat("\n", 3) + "  - key: c\n    name: C\n    category: d\n    credentialOf: jiraa\n"
	_, err = Parse("catalog.yaml", []byte(file))
	if err == nil || !strings.Contains(string(doc), err.Error()+"\n") {
		t.Errorf("not in docs/catalog.md: %v", err)
	}
}

// Every key that is read has a row in the tables, and no other has.
func TestDocumentedKeys(t *testing.T) {
	doc, err := os.ReadFile("../../docs/catalog.md")
	if err != nil {
		t.Fatal(err)
	}
	var rows []string
	for line := range strings.Lines(string(doc)) {
		if row, ok := strings.CutPrefix(line, "| `"); ok {
			name, _, _ := strings.Cut(row, "`")
			rows = append(rows, name)
		}
	}
	want := "key name category description docs rotation enabled authTypes fields environments credentialOf validators syncers " +
		"name description required pattern secret plugin name config timeout fields onUnavailable mode"
	if got := strings.Join(rows, " "); got != want {
		t.Errorf("rows: %s", got)
	}
}
