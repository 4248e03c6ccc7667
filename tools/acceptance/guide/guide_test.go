package guide

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const document = `# A document

` + "```sh\nvalue='a b'\ngreet() { echo \"hello $1\"; }\n```" + `

## One

- indented:

  ` + "```sh\n  cat <<'END'\n    deep\n  END\n  ```" + `

` + "```sh\ngreet \"$value\"\n```\n\n```text\nhello   a ...\n```" + `

` + "```yaml\nno: commands\n```" + `

## Two

` + "```sh\necho '{\"id\": \"cred-1\", \"list\": [{\"a\": 1}], \"more\": true}'\n```\n```json\n{\"id\": \"cred-...\", \"list\": [{\"a\": 1}]}\n```\n"

func written(t *testing.T, text string) []Block {
	t.Helper()
	path := filepath.Join(t.TempDir(), "document.md")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return Read(t, path)
}

func TestRead(t *testing.T) {
	blocks := written(t, document)
	type shown struct {
		Line                            int
		Section, Text, Prints, Language string
	}
	var got []shown
	for _, b := range blocks {
		got = append(got, shown{b.Line, b.Section, b.Text, b.Prints, b.Language})
	}
	want := []shown{
		{4, "", "value='a b'\ngreet() { echo \"hello $1\"; }\n", "", ""},
		{13, "One", "cat <<'END'\n  deep\nEND\n", "", ""},
		{19, "One", "greet \"$value\"\n", "hello   a ...\n", "text"},
		{33, "Two", "echo '{\"id\": \"cred-1\", \"list\": [{\"a\": 1}], \"more\": true}'\n", "{\"id\": \"cred-...\", \"list\": [{\"a\": 1}]}\n", "json"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if n := len(Under(blocks, "Two")); n != 2 {
		t.Errorf("%d blocks under a section", n)
	}
	if Under(blocks, "Three") != nil {
		t.Error("a section that is not there has blocks")
	}
}

func TestFollow(t *testing.T) {
	r := &Reader{Dir: t.TempDir(), Env: os.Environ()}
	r.Put("hello", "hello")
	r.Follow(t, written(t, document))
}

// A reader goes on while what stays runs, and what it says is typed in place of what the
// document has.
func TestStays(t *testing.T) {
	r := &Reader{Dir: t.TempDir(), Env: os.Environ()}
	r.Stays = map[string]func(*Reader, string) bool{"tail -f": func(r *Reader, said string) bool {
		if strings.Contains(said, "up at 17") {
			r.Put("PORT", "17")
			return true
		}
		return false
	}}
	r.Follow(t, written(t, "```sh\necho up at 17 > log\ntail -f log\n```\n```sh\ntest PORT = 17\n```\n"))
}

// What goes wrong is told, and never what was printed.
func TestCompare(t *testing.T) {
	for name, b := range map[string]Block{
		"another line":   {Language: "text", Prints: "one\ntwo\n"},
		"too few lines":  {Language: "text", Prints: "secret\n"},
		"too many lines": {Language: "text", Prints: "secret\nsecret\nmore\n"},
		"no JSON":        {Language: "json", Prints: "{}"},
		"none of any":    {Language: "text", Prints: "...\nmore\n"},
	} {
		if err := b.compare("secret\nsecret\n"); err == nil || strings.Contains(strings.ReplaceAll(err.Error(), `"secret"`, ""), "secret") {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, prints := range []string{"secret\nsecret\n", "...\n", "...\nsecret\n...\n", "  secret\nse...t\n"} {
		if err := (Block{Language: "text", Prints: prints}).compare("secret\nsecret\n"); err != nil {
			t.Errorf("%q: %v", prints, err)
		}
	}
	for _, want := range []string{`{"a": 2}`, `{"b": 1}`, `{"a": "1"}`, `{"l": []}`, `{"l": ["y"]}`, `{"o": "..."}`, `[]`, `{"s": "ab...d"}`} {
		b := Block{Language: "json", Prints: want}
		if b.compare(`{"a": 1, "l": ["x"], "o": {}, "s": "abc"}`) == nil {
			t.Errorf("%s is what was printed", want)
		}
	}
	r := &Reader{Dir: t.TempDir(), Env: os.Environ(), state: filepath.Join(t.TempDir(), "state")}
	if err := os.WriteFile(r.state, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, script := range []string{"false | true", "false\ntrue", "echo $undefined", "exit 3"} {
		if _, err := r.typed(t.Context(), script); err == nil {
			t.Errorf("%q works", script)
		}
	}
}
