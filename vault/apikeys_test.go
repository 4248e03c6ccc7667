package vault_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/sidevault/sidevault/backends"
	"github.com/sidevault/sidevault/vault"
	"github.com/sidevault/sidevault/vault/secret"
)

// asked is storage that notes the keys it is asked for.
type asked struct {
	backends.Backend
	keys []string
}

func (a *asked) Get(ctx context.Context, key string) (backends.Record, error) {
	a.keys = append(a.keys, key)
	return a.Backend.Get(ctx, key)
}

// TestKeysAreFoundByHash shows that no API key is compared with another, so that no
// comparison takes longer the more of a guess is right: what storage is asked for is the
// SHA-256 of the guess, of which nobody chooses a part, and nothing for what has not the
// form of a key.
func TestKeysAreFoundByHash(t *testing.T) {
	f := newFixture(t, vault.Options{})
	backend := &asked{Backend: f.backend}
	f.config.Backend = backend
	v := f.open()
	right := f.init.Admin.Secret.Reveal()
	for i, guess := range []string{right, right[:len(right)-1] + "0", right[:10] + strings.Repeat("0", 37), "svk_" + strings.Repeat("0", 43)} {
		backend.keys = nil
		if _, err := v.Authenticate(t.Context(), secret.New(guess)); err != nil && vault.KindOf(err) != vault.Unauthorized {
			t.Fatal(err)
		}
		if want := []string{"apikey/" + hashOf(guess)}; !slices.Equal(backend.keys, want) {
			t.Errorf("guess %d: storage is asked for %d records, or for another than its hash", i, len(backend.keys))
		}
	}
	for i, guess := range []string{"", "svk_", right + "0", right[1:], strings.Replace(right, "svk_", "svk-", 1), "apikey/" + hashOf(right), hashOf(right)} {
		backend.keys = nil
		if _, err := v.Authenticate(t.Context(), secret.New(guess)); vault.KindOf(err) != vault.Unauthorized || len(backend.keys) != 0 {
			t.Errorf("no key %d: %v, and storage is asked for %d records", i, vault.KindOf(err), len(backend.keys))
		}
	}
}

func hashOf(s string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(s))) }
