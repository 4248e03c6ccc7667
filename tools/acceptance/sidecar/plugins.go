package sidecar

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// Program is a plugin as the configuration has it.
type Program struct {
	Name string
	Path string
	Env  map[string]string
	// More are further lines of its mapping, such as "eager: true".
	More []string
}

var (
	builtMu sync.Mutex
	built   = map[string]string{}
)

// BuildProgram builds a plugin from a package of this module, or of the product when
// it is a path below the module's, once in a run. Without the race detector: it is
// not what is tested, and starts faster.
func (b *Binary) BuildProgram(t testing.TB, pkg string) string {
	t.Helper()
	builtMu.Lock()
	defer builtMu.Unlock()
	if path := built[pkg]; path != "" {
		return path
	}
	path := filepath.Join(b.dir, strings.ReplaceAll(strings.TrimPrefix(pkg, "./"), "/", "-"))
	cmd := exec.Command("go", "build", "-o", path, pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", pkg, err, out)
	}
	built[pkg] = path
	return path
}

// Configure writes sidevault.yaml and catalog.yaml into a directory beside the data,
// and returns the arguments of serve that name them. It may be called again.
func (v *Vault) Configure(t testing.TB, catalog string, programs ...Program) []string {
	t.Helper()
	var b strings.Builder
	b.WriteString("catalog: [catalog.yaml]\n")
	if len(programs) > 0 {
		fmt.Fprintf(&b, "plugins:\n  programs:\n")
	}
	for _, p := range programs {
		fmt.Fprintf(&b, "    %s:\n      path: %s\n      sha256: %s\n", p.Name, p.Path, Checksum(p.Path))
		for _, line := range p.More {
			fmt.Fprintf(&b, "      %s\n", line)
		}
		if len(p.Env) > 0 {
			b.WriteString("      env:\n")
		}
		for name, value := range p.Env {
			fmt.Fprintf(&b, "        %s: %q\n", name, value)
		}
	}
	dir := filepath.Dir(v.Dir)
	for name, text := range map[string]string{"sidevault.yaml": b.String(), "catalog.yaml": catalog} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return []string{"--config", filepath.Join(dir, "sidevault.yaml"), "--environments", Environments}
}

// Checksum returns the file's SHA-256 in hexadecimal, or as many zeros.
func Checksum(path string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return strings.Repeat("0", 2*sha256.Size)
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
