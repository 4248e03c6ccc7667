package vault_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/sidevault/sidevault/backends"
	"github.com/sidevault/sidevault/envs"
	"github.com/sidevault/sidevault/vault"
	"github.com/sidevault/sidevault/vault/seal"
)

// unreadable is a storage whose keys cannot be read at times.
type unreadable struct {
	backends.Backend
	broken  atomic.Bool
	refused atomic.Int64
}

func (u *unreadable) List(ctx context.Context, prefix, after string, limit int) ([]backends.Record, error) {
	if u.broken.Load() && strings.HasPrefix(prefix, "key") {
		u.refused.Add(1)
		return nil, backends.ErrUnavailable
	}
	return u.Backend.List(ctx, prefix, after, limit)
}

var production = []envs.Scope{"production"}

// A host that hears that its keys have changed, and cannot read them at that moment,
// does not go on with those it had.
func TestChangedKeysAreReadUntilItSucceeds(t *testing.T) {
	f := newFixture(t, vault.Options{Follow: true})
	f.set("salesforce", "production", "the crown jewels")
	second := newRoot(t)
	recipients := []string{second.Recipient().String()}
	if err := f.Share(t.Context(), production, recipients); err != nil {
		t.Fatal(err)
	}
	storage := &unreadable{Backend: f.backend}
	f.config.Backend = storage
	v, err := f.host(second)
	if err != nil {
		t.Fatal(err)
	}
	f.wantRead(v, "production", "the crown jewels")
	storage.broken.Store(true)
	if err := f.Unshare(t.Context(), production, recipients); err != nil {
		t.Fatal(err)
	}
	until(t, "the host tries to read its keys", func() bool { return storage.refused.Load() > 0 })
	storage.broken.Store(false)
	f.eventually(v, "production", false)
	f.wantLocked(v, "production")
}

// plugin is an identity of a token that is unplugged at times.
type plugin struct {
	age.Identity
	unplugged atomic.Bool
	asked     atomic.Int64
}

func (p *plugin) Unwrap(stanzas []*age.Stanza) ([]byte, error) {
	p.asked.Add(1)
	if p.unplugged.Load() {
		return nil, fmt.Errorf("%w: it is unplugged", seal.ErrPlugin)
	}
	return p.Identity.Unwrap(stanzas)
}

// A key that changed, and that only a plugin could open which gives no answer, is one
// that the host does not have: it may have been taken away.
func TestPluginThatGivesNoAnswer(t *testing.T) {
	f := newFixture(t, vault.Options{Follow: true})
	f.set("salesforce", "production", "the crown jewels")
	f.set("salesforce", "staging", "glass beads")
	second := newRoot(t)
	recipients := []string{second.Recipient().String()}
	if err := f.Share(t.Context(), nil, recipients); err != nil {
		t.Fatal(err)
	}
	token := &plugin{Identity: second}
	v, err := f.host(token)
	if err != nil {
		t.Fatal(err)
	}
	f.wantRead(v, "production", "the crown jewels")
	token.unplugged.Store(true)
	if err := f.Unshare(t.Context(), production, recipients); err != nil {
		t.Fatal(err)
	}
	f.eventually(v, "production", false)
	f.wantLocked(v, "production")
	f.wantRead(v, "staging", "glass beads")
	if err := f.Share(t.Context(), production, recipients); err != nil {
		t.Fatal(err)
	}
	token.unplugged.Store(false)
	f.eventually(v, "production", true)
	f.wantRead(v, "production", "the crown jewels")
}

// What a host shares or rotates itself takes no answer of its plugin: the key is open.
func TestPluginIsNotAskedForKeysThatAreOpen(t *testing.T) {
	f := newFixture(t, vault.Options{})
	f.set("salesforce", "production", "x")
	own := f.config.Identities[0].(*age.X25519Identity)
	token := &plugin{Identity: own}
	f.config.Identities = []age.Identity{token}
	v := f.open()
	token.unplugged.Store(true)
	before := token.asked.Load()
	if _, err := v.Rotate(t.Context(), "production", nil); err != nil {
		t.Fatal(err)
	}
	f.wantRead(v, "production", "x")
	if n := token.asked.Load() - before; n > 0 {
		t.Errorf("the plugin was asked %d times", n)
	}
}

// An SSH key is the same with a comment and without.
func TestSSHRecipientsHaveNoComment(t *testing.T) {
	const key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHsKLqeplhpW+uObz5dvMgjz1OxfM/XXUB+VHtZ6isGN"
	f := newFixture(t, vault.Options{})
	if err := f.Share(t.Context(), production, []string{key + " me@example.com"}); err != nil {
		t.Fatal(err)
	}
	holders, err := f.Holders(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range holders {
		if h.Name == "production" && h.Readers[len(h.Readers)-1] != key {
			t.Errorf("the readers are %q", h.Readers)
		}
	}
	wantKind(t, f.Share(t.Context(), production, []string{key}), vault.InvalidRequest)
	if err := f.Unshare(t.Context(), production, []string{key + " another comment"}); err != nil {
		t.Error(err)
	}
}

// until waits until something is so.
func until(t *testing.T, what string, so func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !so(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("still not so: %s", what)
		}
	}
}
