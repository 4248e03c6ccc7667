package acceptance

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// hostileYAML is text that makes readers of YAML take for ever, take all memory, crash
// or read something else than a person does. The packages that read files have longer
// lists.
func hostileYAML() map[string]string {
	bomb := "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
	for i := 1; i < 12; i++ {
		one := fmt.Sprintf("*a%d", i-1)
		bomb += fmt.Sprintf("a%d: &a%d [%s]\n", i, i, strings.Repeat(one+", ", 9)+one)
	}
	const most = 250 << 10
	return map[string]string{
		"alias bomb": bomb, "merge": "a: &a {b: c}\nd: {<<: *a}\n", "depth": strings.Repeat("[", most/2) + strings.Repeat("]", most/2),
		"huge": strings.Repeat("# comment\n", 1<<20), "many keys": manyKeys(20_000), "anchors": strings.Repeat("&a ", most/3), "key twice": "log: {level: info}\nlog: {level: debug}\n",
		"unknown key": "nonsense: 1\n", "not UTF-8": "a: \xff\xfe\n", "tag of a program": "a: !!python/object/apply:os.system [id]\n", "two documents": "---\n---\na: b\n",
	}
}

func manyKeys(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "k%d: v\n", i)
	}
	return b.String()
}

// TestAttackYAML starts the program with hostile files: it refuses each in a moment and
// in a few lines, with the place, and serves nothing.
func TestAttackYAML(t *testing.T) {
	t.Parallel()
	v := binary.Init(t)
	// What is not refused for its YAML is refused a step later, and serves nothing.
	must(t, os.Remove(v.File("vault.db")))
	dir := t.TempDir()
	try := func(name, text string, flags func(path string) []string) {
		path := filepath.Join(dir, strings.ReplaceAll(name, " ", "-")+".yaml")
		must(t, os.WriteFile(path, []byte(text), 0o600))
		start := time.Now()
		o := binary.Run(t, "", nil, append([]string{"serve", "--listen", "127.0.0.1:0"}, flags(path)...)...)
		if o.Code != 2 || !strings.Contains(o.Stderr, path) || len(o.Stderr) > 32<<10 || strings.Contains(o.Stderr, "goroutine ") {
			t.Errorf("%s: ended with %d and %d bytes: %.300q", name, o.Code, len(o.Stderr), o.Stderr)
		}
		if took := time.Since(start); took > 30*time.Second {
			t.Errorf("%s: refused after %s", name, took)
		}
	}
	for name, text := range hostileYAML() {
		try("config "+name, text, func(path string) []string { return v.Args("--config", path) })
		try("catalog "+name, text, func(path string) []string { return v.Args("--catalog", path) })
	}
}
