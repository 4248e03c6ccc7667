package vault_test

import (
	"fmt"
	"testing"

	"filippo.io/age"

	"github.com/sidevault/sidevault/backends/memory"
	"github.com/sidevault/sidevault/envs"
	"github.com/sidevault/sidevault/vault"
)

// BenchmarkParts measures what requests are made of, with storage in memory, so that
// commits of this module can be compared by their own work: a key is authorized, a
// record that was read before is opened again, a page of 50 documents is decoded, a
// rotation is sealed, signed and committed.
func BenchmarkParts(b *testing.B) {
	ctx := b.Context()
	backend := memory.New()
	root, err := age.GenerateX25519Identity()
	must(b, err)
	tree, err := envs.New(envs.Default())
	must(b, err)
	made, err := vault.Init(ctx, vault.InitConfig{Backend: backend, Roots: []string{root.Recipient().String()}, Envs: tree, Org: "default", AdminName: "admin"})
	must(b, err)
	v, err := vault.Open(ctx, vault.Config{Backend: backend, Envs: tree, Catalog: testCatalog, Identities: []age.Identity{root}, Trusted: made.Trusted})
	must(b, err)
	b.Cleanup(func() { v.Close(ctx) })
	admin, err := v.Authenticate(ctx, made.Admin.Secret)
	must(b, err)
	s := &stored{vault: v, admin: admin}
	s.fill(b, 1000)
	for _, part := range []struct {
		name string
		do   func(i int) error
	}{
		{"authorize", func(int) error { _, err := v.Authenticate(ctx, made.Admin.Secret); return err }},
		{"cached-open", func(i int) error {
			_, err := v.Resolve(ctx, admin, s.slots[i%100], vault.ResolveOptions{})
			return err
		}},
		{"decode-50", func(i int) error {
			list, _, err := v.List(ctx, admin, vault.Filter{}, fmt.Sprintf("salesforce/production/n%06d", i*7919%900), 50)
			if err == nil && len(list) != 50 {
				err = fmt.Errorf("a page of %d", len(list))
			}
			return err
		}},
		{"set", func(i int) error { _, err := v.Set(ctx, admin, s.slots[i*7919%1000], benchInput); return err }},
	} {
		b.Run(part.name, func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				must(b, part.do(i))
			}
		})
	}
}
