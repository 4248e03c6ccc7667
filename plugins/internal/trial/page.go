package trial

import (
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/sidevault/sidevault/vault"
	"github.com/sidevault/sidevault/vault/catalog"
)

// Section returns a program's part of docs/plugins-bundled.md.
func Section(t *testing.T, program string) string {
	t.Helper()
	page, err := os.ReadFile("../../docs/plugins-bundled.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := strings.Cut(string(page), "\n## "+program+"\n")
	if !ok {
		t.Fatalf("docs/plugins-bundled.md has no section %s", program)
	}
	section, _, _ = strings.Cut(section, "\n## ")
	return section
}

// Documented checks that the rows of the section's table are the keys of the
// configuration, each once, those of an object as object.key.
func Documented(t *testing.T, program string, config any) {
	t.Helper()
	var rows []string
	for line := range strings.Lines(Section(t, program)) {
		if row, ok := strings.CutPrefix(line, "| `"); ok {
			name, _, _ := strings.Cut(row, "`")
			rows = append(rows, name)
		}
	}
	want := keys(reflect.TypeOf(config), "")
	slices.Sort(rows)
	slices.Sort(want)
	if len(want) == 0 || !slices.Equal(rows, want) {
		t.Errorf("the page has  %q\nthe program has %q", rows, want)
	}
}

func keys(t reflect.Type, prefix string) []string {
	var list []string
	for i := range t.NumField() {
		field := t.Field(i)
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		name = prefix + name
		list = append(list, name)
		inner := field.Type
		if inner.Kind() == reflect.Map {
			inner, name = inner.Elem(), name+".NAME"
		}
		if inner.Kind() == reflect.Pointer {
			inner = inner.Elem()
		}
		if inner.Kind() == reflect.Struct {
			list = append(list, keys(inner, name+".")...)
		}
	}
	return list
}

// Example returns the binding in the catalog of the program's section, as the sidecar
// reads it.
func Example(t *testing.T, program string) vault.Binding {
	t.Helper()
	_, text, found := strings.Cut(Section(t, program), "```yaml\n# catalog.yaml\n")
	text, _, _ = strings.Cut(text, "```")
	if !found {
		t.Fatalf("the section %s has no catalog", program)
	}
	c, err := catalog.Parse("catalog.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	_, key, _ := strings.Cut(text, "key: ")
	key, _, _ = strings.Cut(key, "\n")
	entry, _ := c.Lookup(key)
	for _, v := range entry.Validators {
		entry.Syncers = append(entry.Syncers, vault.Syncer{Binding: v.Binding})
	}
	if len(entry.Syncers) != 1 || entry.Syncers[0].Plugin != program {
		t.Fatalf("the catalog of %s binds %+v", program, entry.Syncers)
	}
	return entry.Syncers[0].Binding
}
