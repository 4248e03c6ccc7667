package main

import (
	"fmt"
	"os"
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
