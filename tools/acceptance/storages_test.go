package acceptance

import (
	"testing"

	"github.com/sidevault/sidevault/tools/acceptance/sidecar"
)

// onEach runs a test of what callers see over every storage that a sidecar serves
// from. Left to bbolt alone are tests of what storage has no part in (queries,
// headers, the command line, MCP, plugins), of its file, and those that mostly wait.
func onEach(t *testing.T, test func(*testing.T, *sidecar.Binary)) {
	t.Helper()
	t.Parallel()
	t.Run("bbolt", func(t *testing.T) {
		t.Parallel()
		test(t, binary)
	})
	onShared(t, test)
}

// onShared runs a test over every storage that several sidecars can share.
func onShared(t *testing.T, test func(*testing.T, *sidecar.Binary)) {
	t.Helper()
	for name, storage := range map[string]sidecar.Storage{"postgres": sidecar.Postgres, "etcd": sidecar.Etcd} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, binary.On(storage))
		})
	}
}
