package linear

import (
	"context"
	"errors"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/sidevault/sidevault/backends"
	"github.com/sidevault/sidevault/backends/cache"
	"github.com/sidevault/sidevault/envs"
	"github.com/sidevault/sidevault/vault"
	"github.com/sidevault/sidevault/vault/seal"
	"github.com/sidevault/sidevault/vault/secret"
)

// local is a vault in this process, on a handle of its own.
type local struct {
	vault  *vault.Vault
	caller vault.Caller
}

func openSidecars(t *testing.T, s Storage, o Options) []sidecar {
	t.Helper()
	open := func() backends.Backend {
		b, err := s.Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if o.Cached {
			b = cache.New(b, cache.Options{MaxStale: time.Minute})
		}
		t.Cleanup(func() { b.Close() })
		return b
	}
	tree, err := envs.New(envs.Default())
	if err != nil {
		t.Fatal(err)
	}
	root, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	made, err := vault.Init(t.Context(), vault.InitConfig{
		Backend: open(), Roots: []string{root.Recipient().String()}, Envs: tree, Org: "default", AdminName: "admin",
	})
	if err != nil {
		t.Fatal(err)
	}
	list := make([]sidecar, o.Sidecars)
	for n := range list {
		v, err := vault.Open(t.Context(), vault.Config{
			Backend: open(), Envs: tree, Catalog: catalog{}, Identities: []age.Identity{root}, Trusted: made.Trusted,
			Options: vault.Options{ReadGrace: time.Hour, Stale: func() time.Duration { return 1 }},
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			if err := v.Close(ctx); err != nil {
				t.Errorf("close a sidecar: %v", err)
			}
		})
		list[n] = local{vault: v, caller: authenticate(t, v, made.Admin.Secret)}
	}
	return list
}

func authenticate(t *testing.T, v *vault.Vault, key secret.Value) vault.Caller {
	t.Helper()
	c, err := v.Authenticate(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	c.Origin = vault.Origin{Source: "rest", Peer: "127.0.0.1:1", RequestID: "linear"}
	return c
}

// catalog has one integration.
type catalog struct{}

var integration = vault.Integration{Key: "salesforce", Name: "Salesforce", Category: "crm", Enabled: true}

func (catalog) All() []vault.Integration { return []vault.Integration{integration} }

func (catalog) Lookup(key string) (vault.Integration, bool) {
	return integration, key == integration.Key
}

func (l local) perform(ctx context.Context, op *operation) (outcome, error) {
	slot, err := l.vault.Slot(integration.Key, nil, op.name())
	if err != nil {
		return "", err
	}
	switch op.kind {
	case opSet, opCreate:
		var set vault.SetResult
		in := vault.SetInput{Fields: seal.Fields{vault.ValueField: secret.New(op.value)}, MustCreate: op.kind == opCreate}
		set, err = l.vault.Set(ctx, l.caller, slot, in)
		op.version, op.revision, op.created = set.Credential.Version, set.Credential.Revision, set.Created
	case opRemove:
		var removed vault.Removed
		removed, err = l.vault.Remove(ctx, l.caller, slot, vault.RemoveOptions{})
		op.revision = removed.Credential.Revision
	case opResolve:
		var found vault.Resolved
		found, err = l.vault.Resolve(ctx, l.caller, slot, vault.ResolveOptions{NoFallback: true})
		if err == nil {
			fields, _ := found.Fields()
			op.value = fields[vault.ValueField].Reveal() // not a secret: value-N
			op.version, op.revision = found.Version, found.Credential.Revision
		}
	}
	return classify(op, err)
}

func classify(op *operation, err error) (outcome, error) {
	switch vault.KindOf(err) {
	case vault.CredentialNotFound:
		return wasNone, nil
	case vault.CredentialDeleted:
		return wasGone, nil
	case vault.CredentialExists:
		return wasTaken, nil
	case vault.BackendUnavailable:
		if op.kind == opResolve || !errors.Is(err, backends.ErrUnknownOutcome) {
			return wasNotDone, nil
		}
		return wasUnknown, nil
	}
	return wasDone, err
}
