package acceptance

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/sidevault/sidevault/backends/migrate"
	"github.com/sidevault/sidevault/backends/open"
	"github.com/sidevault/sidevault/tools/acceptance/sidecar"
	"github.com/sidevault/sidevault/vault"
	"github.com/sidevault/sidevault/vault/secret"
)

// BenchmarkStorages measures what must not depend on how many credentials there are:
// to open a vault, to list a page anywhere in it, and to resolve any credential, in
// this process and without the cache of records that a sidecar has.
func BenchmarkStorages(b *testing.B) {
	for _, n := range []int{1_000, 10_000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) { benchmarkStorages(b, n) })
	}
}

func benchmarkStorages(b *testing.B, n int) {
	v := binary.Init(b)
	stock(b, v, n)
	for _, at := range []struct {
		name    string
		storage sidecar.Storage
	}{{"bbolt", nil}, {"postgres", sidecar.Postgres}, {"etcd", sidecar.Etcd}} {
		moved := *v
		if at.storage != nil {
			moved.URL = at.storage(b, b.TempDir())
			move(b, v, &moved)
		}
		b.Run("start/"+at.name, func(b *testing.B) { benchmarkStart(b, &moved) })
		b.Run("page/"+at.name, func(b *testing.B) { benchmarkPages(b, &moved) })
		b.Run("resolve/"+at.name, func(b *testing.B) { benchmarkResolve(b, &moved, n) })
	}
}

// move copies a vault into empty storage.
func move(b *testing.B, from, to *sidecar.Vault) {
	b.Helper()
	ctx := context.Background()
	source, err := open.Open(ctx, from.Storage(), open.Options{ReadOnly: true})
	if err != nil {
		b.Fatal(err)
	}
	defer source.Close()
	target, err := open.Open(ctx, to.Storage(), open.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer target.Close()
	if _, err := migrate.Copy(ctx, migrate.Config{From: source, To: target, LastKey: vault.HeaderKey, NotesKey: vault.CopyingKey}); err != nil {
		b.Fatal(err)
	}
}

func benchmarkStart(b *testing.B, v *sidecar.Vault) {
	for b.Loop() {
		_, closeVault := unserved(b, v)
		b.StopTimer()
		closeVault()
		b.StartTimer()
	}
}

// asAdmin opens the vault until the benchmark ends.
func asAdmin(b *testing.B, v *sidecar.Vault) (*vault.Vault, vault.Caller) {
	b.Helper()
	opened, closeVault := unserved(b, v)
	b.Cleanup(closeVault)
	admin, err := opened.Authenticate(context.Background(), secret.New(v.AdminKey))
	if err != nil {
		b.Fatal(err)
	}
	return opened, admin
}

// benchmarkPages goes through all pages, and begins again.
func benchmarkPages(b *testing.B, v *sidecar.Vault) {
	opened, admin := asAdmin(b, v)
	cursor := ""
	for b.Loop() {
		list, next, err := opened.List(context.Background(), admin, vault.Filter{}, cursor, 50)
		if err != nil || len(list) == 0 && cursor == "" {
			b.Fatalf("%d credentials, %v", len(list), err)
		}
		cursor = next
	}
}

func benchmarkResolve(b *testing.B, v *sidecar.Vault, n int) {
	opened, admin := asAdmin(b, v)
	for b.Loop() {
		slot := vault.Slot{Integration: "salesforce", Scope: "production", Name: numbered(rand.IntN(n))}
		if _, err := opened.Resolve(context.Background(), admin, slot, vault.ResolveOptions{}); err != nil {
			b.Fatal(err)
		}
	}
}
