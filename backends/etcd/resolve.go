package etcd

import (
	"context"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/sidevault/sidevault/backends"
)

// resolve finds out what became of a transaction whose answer was lost, and returns
// the group if it is to be sent again.
//
// The transaction put a head with a nonce of its own on top of the head before, or
// did nothing. If the head is still the one before, the transaction may be on its way
// yet; putting the same head once more takes away what it compares with, so that it
// can never be applied. If the head has moved, its history tells who moved it.
func (w *writer) resolve(ctx context.Context, group []*request, t txn, cause error) []*request {
	before := w.at
	at, err := w.fence(ctx)
	applied := false
	if err == nil {
		w.at = at
		applied, err = w.descends(ctx, at, before, t.next.nonce)
	}
	switch {
	case err != nil:
		w.known = false
		fail(group, fmt.Errorf("%s: %w: the cluster was lost in the midst of it: %s", w.name, backends.ErrUnknownOutcome, plain(cause)))
		return nil
	case applied:
		w.applied(group, t, at)
		return nil
	}
	return group
}

// fence returns a head that is not the one at the writer's position: the head as it
// is when that has moved, else one that it puts.
func (w *writer) fence(ctx context.Context) (position, error) {
	same := w.at.follow()
	var at position
	err := w.try(ctx, true, func(ctx context.Context) error {
		resp, err := w.client.Txn(ctx).If(w.unmoved()).
			Then(clientv3.OpPut(w.layout.head(), same.marshal())).
			Else(clientv3.OpGet(w.layout.head())).Commit()
		if err != nil {
			return err
		}
		if resp.Succeeded {
			at = position{journal: same, mod: resp.Header.Revision, store: resp.Header.Revision}
			return nil
		}
		at, err = parsePosition((*clientv3.GetResponse)(resp.Responses[0].GetResponseRange()))
		at.store = resp.Header.Revision
		return err
	})
	return at, err
}

// descends tells whether the heads between before and at include the one with the
// nonce.
func (w *writer) descends(ctx context.Context, at, before position, nonce [nonceSize]byte) (bool, error) {
	for at.mod > before.mod {
		if at.nonce == nonce {
			return true, nil
		}
		var err error
		if at, err = w.readHead(ctx, true, clientv3.WithRev(at.mod-1)); err != nil {
			return false, err
		}
	}
	return false, nil
}
