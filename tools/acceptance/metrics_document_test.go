package acceptance

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
)

// docs/metrics.md has every metric that a sidecar shows, as the sidecar shows it.
func TestMetricsDocument(t *testing.T) {
	t.Parallel()
	const path = "../../docs/metrics.md"
	all, _ := everyMetric(t)
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const begin, end = "<!-- metrics: begin -->\n", "<!-- metrics: end -->"
	before, rest, ok := strings.Cut(string(content), begin)
	_, after, closed := strings.Cut(rest, end)
	if !ok || !closed {
		t.Fatal("the marks of the table are missing")
	}
	text := before + begin + metricsTable(all) + end + after
	if text == string(content) {
		return
	}
	if os.Getenv("UPDATE_DOCS") == "" {
		t.Fatal("docs/metrics.md is not up to date: run UPDATE_DOCS=1 go -C tools/acceptance test . -run MetricsDocument")
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func metricsTable(all families) string {
	var b strings.Builder
	b.WriteString("| metric | type | labels | what it is |\n|---|---|---|---|\n")
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if !strings.HasPrefix(name, "sidevault_") {
			continue
		}
		family := all[name]
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", name, strings.ToLower(family.GetType().String()),
			strings.Join(labelsOf(family), ", "), family.GetHelp())
	}
	return b.String()
}
