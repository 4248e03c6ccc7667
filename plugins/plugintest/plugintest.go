// Package plugintest is the contract test of plugins: it starts a program as the
// sidecar does and holds it to what docs/plugins.md says. The program may be written
// in any language.
//
//	func TestContract(t *testing.T) {
//		plugintest.Run(t, plugintest.Plugin{
//			Path: plugintest.Build(t, "."),
//			Kind: plugintest.Validator,
//			Good: []plugintest.Credential{plugintest.Opaque("acme_0123456789")},
//			Bad:  []plugintest.Credential{plugintest.Opaque("0123456789")},
//		})
//	}
//
// Only tests import it. "sidevault plugin check" does the same for a program on disk.
package plugintest

import (
	"context"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/sidevault/sidevault/plugins/plugintest/contract"
)

// What the contract says of a program, and what is known of the one under test.
type (
	Plugin     = contract.Program
	Credential = contract.Credential
	Report     = contract.Report
	Result     = contract.Result
)

// The kinds of plugins.
const (
	Validator = contract.Validator
	Syncer    = contract.Syncer
)

// Opaque returns a credential that is one opaque string.
func Opaque(value string) Credential { return contract.Opaque(value) }

// WithFields returns a credential of several fields.
func WithFields(fields map[string]string) Credential { return contract.WithFields(fields) }

// Check holds a program to the contract, and returns how it stands to each demand.
func Check(ctx context.Context, p Plugin) Report { return contract.Check(ctx, p) }

// Run holds a program to the contract. Every demand is a subtest; one that does not
// apply, or that shows nothing without more credentials, says so in the log.
func Run(t *testing.T, p Plugin) {
	t.Helper()
	for _, r := range Check(t.Context(), p).Results {
		t.Run(r.Name, func(t *testing.T) {
			switch r.Status {
			case contract.Failed:
				t.Errorf("%s: %s\nwhat to do: %s", r.Demand, r.Reason, r.Advice)
			case contract.Skipped:
				t.Logf("not checked: %s", r.Reason)
			}
		})
	}
}

// Build builds the Go program in a folder and returns the path of the executable,
// which is removed with the test.
func Build(t testing.TB, folder string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "plugin")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", path, ".")
	cmd.Dir = folder
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build in %s: %v\n%s", folder, err, out)
	}
	return path
}
