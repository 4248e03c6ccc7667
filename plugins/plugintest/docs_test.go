package plugintest_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/sidevault/sidevault/plugins/pluginpb"
	"github.com/sidevault/sidevault/plugins/plugintest"
)

const guide = "../../docs/plugins.md"

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

var goBlockRE = regexp.MustCompile("(?s)```go\n(.*?)```")

// build builds the guide's programs and returns their paths, with the first one's
// source.
func build(t *testing.T) (paths []string, first string) {
	t.Helper()
	for i, m := range goBlockRE.FindAllStringSubmatch(read(t, guide), -1) {
		dir := t.TempDir()
		source := filepath.Join(dir, "main.go")
		if err := os.WriteFile(source, []byte(m[1]), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, args := range [][]string{{"vet", source}, {"build", "-o", filepath.Join(dir, "plugin"), source}} {
			if out, err := exec.CommandContext(t.Context(), "go", args...).CombinedOutput(); err != nil {
				t.Fatalf("program %d of the guide: %v\n%s", i+1, err, out)
			}
		}
		if paths = append(paths, filepath.Join(dir, "plugin")); i == 0 {
			first = m[1]
		}
	}
	if len(paths) < 2 {
		t.Fatalf("the guide has %d programs", len(paths))
	}
	return paths, first
}

// A complete validator is under 20 lines, and keeps the contract.
func TestProgramsOfTheGuide(t *testing.T) {
	paths, first := build(t)
	if n := strings.Count(first, "\n"); n >= 20 {
		t.Errorf("the first validator has %d lines", n)
	}
	plugintest.Run(t, plugintest.Plugin{
		Path: paths[0], Kind: plugintest.Validator,
		Good: []plugintest.Credential{plugintest.Opaque("acme_0123456789abcdef")},
		Bad:  []plugintest.Credential{plugintest.Opaque("0123456789abcdef")},
	})
}

// The guide's reference of the protocol is complete.
func TestProtocolOfTheGuide(t *testing.T) {
	_, reference, ok := strings.Cut(read(t, guide), "\n## Protocol\n")
	if !ok {
		t.Fatal("the section is missing")
	}
	says := func(what string) {
		t.Helper()
		if !strings.Contains(reference, "`"+what+"`") {
			t.Errorf("the guide does not say what `%s` is", what)
		}
	}
	file := pluginpb.File_sidevault_plugin_v1_plugin_proto
	for i := range file.Services().Len() {
		s := file.Services().Get(i)
		says(string(s.FullName()))
		for j := range s.Methods().Len() {
			says(string(s.Methods().Get(j).Name()))
		}
	}
	for i := range file.Messages().Len() {
		m := file.Messages().Get(i)
		says(string(m.Name()))
		eachName(m, says)
	}
	for _, constant := range []string{pluginpb.CookieKey, pluginpb.CookieValue, pluginpb.ServiceValidator, pluginpb.ServiceSyncer} {
		if !strings.Contains(reference, constant) {
			t.Errorf("the guide does not have %s", constant)
		}
	}
	if !strings.Contains(reference, fmt.Sprintf("\n   1|%d|unix|", pluginpb.ProtocolVersion)) {
		t.Error("the guide has another handshake")
	}
}

func eachName(m protoreflect.MessageDescriptor, visit func(string)) {
	for i := range m.Fields().Len() {
		visit(string(m.Fields().Get(i).Name()))
	}
	for i := range m.Enums().Len() {
		values := m.Enums().Get(i).Values()
		for j := range values.Len() {
			visit(string(values.Get(j).Name()))
		}
	}
}

// The guide lists what the contract test checks.
func TestDemandsOfTheGuide(t *testing.T) {
	const begin, end = "<!-- demands: begin -->\n", "<!-- demands: end -->"
	text := read(t, guide)
	before, rest, ok := strings.Cut(text, begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatal("the marks are missing")
	}
	var b strings.Builder
	b.WriteString("| check | it demands |\n|---|---|\n")
	for _, r := range plugintest.Check(t.Context(), plugintest.Plugin{Path: "/nonexistent", Timeout: time.Second}).Results {
		fmt.Fprintf(&b, "| %s | %s |\n", r.Name, strings.ReplaceAll(r.Demand, "|", `\|`))
	}
	want := before + begin + b.String() + end + after
	if want == text {
		return
	}
	if os.Getenv("UPDATE_DOCS") == "" {
		t.Fatal("docs/plugins.md is not up to date: run UPDATE_DOCS=1 go test ./plugins/plugintest")
	}
	if err := os.WriteFile(guide, []byte(want), 0o644); err != nil {
		t.Fatal(err)
	}
}
