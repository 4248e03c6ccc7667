package vault

import (
	"context"

	"github.com/sidevault/sidevault/vault/seal"
)

// Test checks fields as Set would, or without any those that the slot's own
// credential has, and stores nothing. It returns what Set would: nil when they
// pass. Reading the stored ones is an audited read.
func (v *Vault) Test(ctx context.Context, c Caller, slot Slot, fields seal.Fields) (err error) {
	a := v.begin(c, ActionTest, slot)
	defer func() { err = a.close(ctx, err) }()
	if err := a.changes(slot); err != nil {
		return err
	}
	integration, err := v.enabled(ctx, c.Org, slot.Integration)
	if err != nil {
		return err
	}
	a.note("stored", fields == nil)
	if fields == nil {
		stored, err := a.resolve(ctx, slot, ResolveOptions{NoFallback: true})
		if err != nil {
			return err
		}
		fields = stored.Fields
	}
	if err := checkFields(integration, fields); err != nil {
		return err
	}
	_, err = a.commit(ctx)
	return storageErrorOr(err)
}
