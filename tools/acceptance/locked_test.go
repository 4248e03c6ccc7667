package acceptance

import (
	"bytes"
	"net/http"
	"testing"

	"filippo.io/age"

	"github.com/sidevault/sidevault/api/wire"
	"github.com/sidevault/sidevault/backends"
	"github.com/sidevault/sidevault/backends/bbolt"
	"github.com/sidevault/sidevault/tools/acceptance/sidecar"
)

// offline opens the storage of a sidecar that does not run.
func offline(t *testing.T, v *sidecar.Vault) backends.Backend {
	t.Helper()
	storage, err := bbolt.Open(v.File("vault.db"), nil)
	if err != nil {
		t.Fatal(err)
	}
	return storage
}

// lock replaces an environment's key file with one that only another host opens.
func lock(t *testing.T, v *sidecar.Vault, environment string) {
	t.Helper()
	storage := offline(t, v)
	defer storage.Close()
	files, err := storage.List(t.Context(), "keyfile/"+environment+"/", "", backends.MaxPage)
	if err != nil || len(files) != 1 {
		t.Fatalf("%d key files of %s: %v", len(files), environment, err)
	}
	other, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	var file bytes.Buffer
	w, err := age.Encrypt(&file, other.Recipient())
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	change := backends.Put(files[0].Key, files[0].Revision, file.Bytes())
	if _, err := storage.Commit(t.Context(), backends.Batch{Changes: []backends.Change{change}}); err != nil {
		t.Fatal(err)
	}
}

func TestHostWithoutTheKeyOfAnEnvironment(t *testing.T) {
	t.Parallel()
	s := binary.Serve(t)
	s.Admin().Put(slot("slack", "production"), value("for production")).Wants(http.StatusCreated)
	s.Admin().Put(slot("slack", ""), value("for all")).Wants(http.StatusCreated)
	s.Stop()
	lock(t, s.Vault, "production")
	s = s.Vault.Start(t)
	c := s.Admin()
	c.Get(resolve("slack", "production")).Fails(http.StatusServiceUnavailable, "ENVIRONMENT_LOCKED")
	c.Put(slot("slack", "production"), value("x")).Fails(http.StatusServiceUnavailable, "ENVIRONMENT_LOCKED")
	wantsSecret(t, c, resolve("slack", "staging"), "for all", "null")
	for _, e := range sidecar.Data[[]wire.Environment](c.Get("/v1/environments").Wants(http.StatusOK)) {
		if e.KeyHeld == (e.Name == "production") {
			t.Errorf("environment %s: keyHeld is %v", e.Name, e.KeyHeld)
		}
	}
	c.Delete(slot("slack", "production")).Wants(http.StatusOK)
}
