package vault

import "context"

// Profile records that the caller takes a profile of this process, which tells of
// everybody's work and of nobody's secrets. It takes admin scope.
func (v *Vault) Profile(ctx context.Context, c Caller, name string) (err error) {
	a := v.beginOn(c, ActionProfile, targetVault, v.header.ID)
	defer func() { err = a.close(ctx, err) }()
	if err := a.admin(); err != nil {
		return err
	}
	a.note("profile", clip(name))
	_, err = a.commit(ctx)
	return storageErrorOr(err)
}
