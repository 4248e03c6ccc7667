package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// The command tree and docs/cli.md say the same.
func TestCommandDocument(t *testing.T) {
	const path = "../../docs/cli.md"
	text := readFile(t, path)
	for mark, generate := range map[string]func() string{"commands": commandsText, "exit codes": exitsText} {
		begin, end := "<!-- "+mark+": begin -->\n", "<!-- "+mark+": end -->"
		before, rest, ok := strings.Cut(text, begin)
		_, after, ok2 := strings.Cut(rest, end)
		if !ok || !ok2 {
			t.Fatalf("the marks of %s are missing", mark)
		}
		text = before + begin + generate() + end + after
	}
	if text != readFile(t, path) {
		if os.Getenv("UPDATE_DOCS") == "" {
			t.Fatal("docs/cli.md is not up to date: run UPDATE_DOCS=1 go test ./cmd/sidevault -run Document")
		}
		writeFile(t, path, text, 0o644)
	}
}

// The index of docs/cli.md, by what commands are for, leaves none out and names none that
// is not there.
func TestCommandIndex(t *testing.T) {
	index, _, _ := strings.Cut(readFile(t, "../../docs/cli.md"), "## Completion")
	listed := map[string]bool{}
	for line := range strings.Lines(index) {
		cells := strings.Split(line, "|")
		if len(cells) != 5 {
			continue
		}
		for i, word := range strings.Split(cells[2], "`") {
			if i%2 == 1 {
				listed[word] = true
			}
		}
	}
	root := newRoot(&shell{})
	root.InitDefaultCompletionCmd()
	for _, cmd := range root.Commands() {
		if !cmd.Hidden && !listed[cmd.Name()] {
			t.Errorf("%s is not in the index", cmd.Name())
		}
		delete(listed, cmd.Name())
	}
	for name := range listed {
		t.Errorf("there is no command %s", name)
	}
}

// The README leads to every page.
func TestREADMEIndex(t *testing.T) {
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil || len(pages) == 0 {
		t.Fatalf("%d pages, %v", len(pages), err)
	}
	_, index, _ := strings.Cut(readFile(t, "../../README.md"), "| to begin with |")
	for _, page := range pages {
		if !strings.Contains(index, "]("+strings.TrimPrefix(page, "../../")+")") {
			t.Errorf("%s is not in the README's index", page)
		}
	}
}

// Every command says what it does, and names its flags' values.
func TestCommandsAreDescribed(t *testing.T) {
	eachCommand(newRoot(&shell{}), func(cmd *cobra.Command) {
		if cmd.Short == "" || strings.HasSuffix(cmd.Short, ".") {
			t.Errorf("%s: %q", cmd.CommandPath(), cmd.Short)
		}
		cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if f.Usage == "" {
				t.Errorf("%s --%s has no help", cmd.CommandPath(), f.Name)
			}
		})
	})
}

func eachCommand(cmd *cobra.Command, visit func(*cobra.Command)) {
	visit(cmd)
	for _, sub := range cmd.Commands() {
		eachCommand(sub, visit)
	}
}

func commandsText() string {
	var b strings.Builder
	said := map[string]bool{"help": true, "addr": true, "token-file": true, "json": true, "output": true}
	eachCommand(newRoot(&shell{}), func(cmd *cobra.Command) {
		if cmd.HasSubCommands() && !strings.Contains(cmd.Use, " ") {
			return // a group
		}
		fmt.Fprintf(&b, "- `%s`: %s\n", strings.TrimSuffix(cmd.UseLine(), " [flags]"), cmd.Short)
		cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
			setting := cmd.Name() == "serve" && (f.Name == configFlag || isSetting(f.Name))
			if name, usage := pflag.UnquoteUsage(f); !said[f.Name] && !setting {
				fmt.Fprintf(&b, "  - `%s`: %s\n", strings.TrimSpace(flagText(f)+" "+name), usage)
			}
		})
	})
	return b.String()
}

func isSetting(flag string) bool {
	return slices.ContainsFunc(table(), func(s setting) bool { return s.flag() == flag })
}

func flagText(f *pflag.Flag) string {
	if f.Shorthand != "" {
		return "-" + f.Shorthand + ", --" + f.Name
	}
	return "--" + f.Name
}

func exitsText() string {
	var b strings.Builder
	b.WriteString("| code | meaning |\n|---|---|\n")
	for _, x := range exits() {
		fmt.Fprintf(&b, "| %d | %s |\n", x.code, x.meaning)
	}
	return b.String()
}
