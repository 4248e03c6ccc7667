package vault_test

import (
	"fmt"
	"testing"

	"github.com/sidevault/sidevault/backends"
	"github.com/sidevault/sidevault/vault"
)

// Where very many callers read, their usage is written by turns; who asks for it gets all
// of it, and so does who opens the vault anew.
func TestUsageOfVeryMany(t *testing.T) {
	const callers, reads = 700, 3
	f := newFixture(t, vault.Options{})
	id := f.set("salesforce", "", "x").Credential.ID
	read := func() {
		t.Helper()
		for n := range callers {
			c := f.admin
			c.Actor.ID = fmt.Sprint("caller-", n)
			if _, err := f.Resolve(t.Context(), c, f.slot("salesforce", ""), vault.ResolveOptions{}); err != nil {
				t.Fatal(err)
			}
		}
	}
	check := func(want int) {
		t.Helper()
		usage, err := f.Usage(t.Context(), f.admin, vault.Address{ID: id})
		if err != nil || usage.Reads != want || len(usage.Consumers) != callers {
			t.Errorf("%d reads of %d callers, %v; want %d of %d", usage.Reads, len(usage.Consumers), err, want, callers)
		}
	}
	read()
	f.audit("") // flushes
	page, err := f.backend.List(t.Context(), "usage/", "", backends.MaxPage)
	if err != nil || len(page) == 0 {
		t.Errorf("a flush wrote the usage of %d callers, %v; want some of %d", len(page), err, callers)
	}
	for range reads - 1 {
		read()
	}
	check(callers * reads)
	read()
	if err := f.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.Vault = f.open()
	check(callers * (reads + 1))
	total := 0.0
	for before := uint64(0); ; {
		entries, next, err := f.Audit(t.Context(), f.admin, vault.AuditQuery{Action: vault.ActionRead, Before: before, Limit: 1000})
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			total += e.Metadata["count"].(float64)
		}
		if before = next; next == 0 {
			break
		}
	}
	if total != callers*(reads+1) {
		t.Errorf("%v reads in the audit log, want %d", total, callers*(reads+1))
	}
}
