package acceptance

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/sidevault/sidevault/tools/acceptance/sidecar"
)

// node runs the pinned programs of tools/mcp.
type node struct {
	t       *testing.T
	program string
	modules string
}

// foreign returns what runs foreign clients. That there is no Node is the only reason to
// skip a test of theirs.
func foreign(t *testing.T) node {
	t.Helper()
	if _, err := exec.LookPath("npm"); err != nil {
		t.Skip("skipped for lack of Node: there is no npm, so the foreign MCP clients are not run")
	}
	tools := os.Getenv("SIDEVAULT_TOOLS")
	if tools == "" {
		var err error
		if tools, err = filepath.Abs("../../.tools"); err != nil {
			t.Fatal(err)
		}
	}
	n := node{t: t, modules: filepath.Join(tools, "mcp", "node_modules")}
	if _, err := os.Stat(n.modules); err != nil {
		t.Fatalf("the foreign MCP clients are not installed, run make tools: %v", err)
	}
	arch := map[string]string{"amd64": "x64", "arm64": "arm64"}[runtime.GOARCH]
	n.program = filepath.Join(n.modules, "node-"+runtime.GOOS+"-"+arch, "bin", "node")
	if _, err := os.Stat(n.program); err != nil {
		// Where the package has no build for this host, its own has to do.
		n.program = "node"
	}
	return n
}

// run runs a program and returns what it printed to each output, and its exit code.
func (n node) run(dir string, environ []string, name string, args ...string) (stdout, stderr string, code int) {
	n.t.Helper()
	cmd := exec.CommandContext(n.t.Context(), n.program, append([]string{filepath.Join(n.modules, ".bin", name)}, args...)...)
	cmd.Dir = dir
	cmd.Env = append([]string{"PATH=" + filepath.Dir(n.program) + ":" + os.Getenv("PATH"), "HOME=" + dir}, environ...)
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); cmd.ProcessState == nil {
		n.t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// inspected is a result as the inspector prints it.
type inspected struct {
	Tools             []struct{ Name string }
	StructuredContent map[string]any
	IsError           bool
}

func TestMCPInspector(t *testing.T) {
	t.Parallel()
	n := foreign(t)
	s := binary.Serve(t)
	server := map[string][]string{
		"http":  {"--cli", s.URL + "/mcp", "--transport", "http", "--header", "Authorization: Bearer " + s.AdminKey},
		"stdio": {"--cli", "-e", "SIDEVAULT_ADDR=" + s.URL, "-e", "SIDEVAULT_TOKEN=" + s.AdminKey, "--transport", "stdio"},
	}
	for transport, args := range server {
		t.Run(transport, func(t *testing.T) {
			t.Parallel()
			n := n
			n.t = t
			inspect := func(more ...string) (r inspected) {
				t.Helper()
				line := append(slices.Clone(args), more...)
				if transport == "stdio" {
					line = append(line, "--", binary.Path(), "mcp")
				}
				out, errs, _ := n.run(t.TempDir(), nil, "mcp-inspector", line...)
				if err := json.Unmarshal([]byte(out), &r); err != nil {
					t.Fatalf("%s: %v\n%s%s", more, err, out, errs)
				}
				return r
			}
			call := func(tool string, args ...string) map[string]any {
				t.Helper()
				return inspect(append([]string{"--method", "tools/call", "--tool-name", tool, "--tool-arg", "integration_key=slack", "name=" + transport}, args...)...).StructuredContent
			}
			if got := inspect("--method", "tools/list"); len(got.Tools) != 6 {
				t.Errorf("tools: %v", got.Tools)
			}
			if got := call(mcpSet, "value=x"); got["isConfigured"] != true || got["key"] != "slack" {
				t.Errorf("set: %v", got)
			}
			if got := call(mcpStatus); got["isConfigured"] != true {
				t.Errorf("status: %v", got)
			}
			for range 2 {
				if got := call(mcpRemove); got["isConfigured"] != false || got["code"] != nil {
					t.Errorf("remove: %v", got)
				}
			}
			if got := call(mcpSet, "value=x", "environment=prod"); got["code"] != "invalid_request" {
				t.Errorf("an unknown environment: %v", got)
			}
		})
	}
}

// withKey is a proxy that adds an API key to requests and changes nothing else: the
// conformance program has no way to give one.
func withKey(t *testing.T, s *sidecar.Sidecar) string {
	t.Helper()
	target, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{FlushInterval: -1, Rewrite: func(r *httputil.ProxyRequest) {
		r.Out.URL.Scheme, r.Out.URL.Host, r.Out.Host = target.Scheme, target.Host, r.In.Host
		r.Out.Header.Set("Authorization", "Bearer "+s.AdminKey)
	}}
	server := httptest.NewServer(http.Handler(proxy))
	t.Cleanup(server.Close)
	return server.URL + "/mcp"
}

// check is what the conformance program found about one thing.
type check struct {
	ID, Status string
	Details    struct{ Untestable bool }
}

func TestMCPConformance(t *testing.T) {
	t.Parallel()
	n := foreign(t)
	baseline, err := filepath.Abs("../mcp/baseline.yml")
	if err != nil {
		t.Fatal(err)
	}
	for _, revision := range []string{mcpSessions, mcpModern} {
		t.Run(revision, func(t *testing.T) {
			t.Parallel()
			n, dir := n, t.TempDir()
			n.t = t
			out, errs, code := n.run(dir, nil, "conformance", "server", "--url", withKey(t, binary.Serve(t)),
				"--suite", "all", "--spec-version", revision, "--expected-failures", ofRevision(t, baseline, dir, n, revision), "-o", dir)
			_, summary, _ := strings.Cut(out, "=== SUMMARY ===")
			if code != 0 || strings.Count(summary, "✓") < 6 {
				t.Errorf("conformance ended with %d\n%s%s", code, summary, errs)
			}
			testable(t, dir)
		})
	}
}

// ofRevision returns the part of the baseline that a revision has scenarios for: the
// program takes any other for one that is no longer needed.
func ofRevision(t *testing.T, baseline, dir string, n node, revision string) string {
	t.Helper()
	known, errs, code := n.run(dir, nil, "conformance", "list", "--server")
	text, err := os.ReadFile(baseline)
	if err != nil || code != 0 {
		t.Fatal(err, errs)
	}
	var kept []string
	for line := range strings.Lines(string(text)) {
		name, entry := strings.CutPrefix(line, "  - ")
		applies := strings.Contains(known, "- "+strings.TrimSpace(name)+" [")
		if entry && !applies {
			t.Errorf("the baseline has %s, which is no scenario", name)
		}
		for scenario := range strings.Lines(known) {
			if strings.Contains(scenario, "- "+strings.TrimSpace(name)+" [") && !strings.Contains(scenario, revision) {
				applies = false
			}
		}
		if !entry || applies {
			kept = append(kept, line)
		}
	}
	path := filepath.Join(dir, "baseline.yml")
	if err := os.WriteFile(path, []byte(strings.Join(kept, "")), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// testable fails the test for a check of server-stateless that failed, and not for lack
// of a fixture server's tool.
func testable(t *testing.T, dir string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "server-server-stateless-*", "checks.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range files {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var checks []check
		if err := json.Unmarshal(text, &checks); err != nil {
			t.Fatal(err)
		}
		for _, c := range checks {
			if c.Status == "FAILURE" && !c.Details.Untestable {
				t.Errorf("server-stateless: %s fails", c.ID)
			}
		}
	}
}
