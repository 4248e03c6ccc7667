package vault

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/sidevault/sidevault/backends"
	"github.com/sidevault/sidevault/envs"
	"github.com/sidevault/sidevault/vault/seal"
)

// rotator does the work of rotations, one of a scope at a time, and keeps the
// vault's keys to what storage has.
type rotator struct {
	v     *Vault
	owner string // of leases: this process
	ctx   context.Context
	stop  context.CancelFunc
	wg    sync.WaitGroup

	mu sync.Mutex
	// again has the scopes that are being worked on, and whether they are to be once more.
	again map[envs.Scope]bool
}

// startRotator follows the changes after a revision when it is told to, and goes on
// with the rotations that are under way.
func startRotator(v *Vault, follow bool, after Revision) *rotator {
	r := &rotator{v: v, owner: uuid.NewString(), again: map[envs.Scope]bool{}}
	r.ctx, r.stop = context.WithCancel(backends.Fresh(context.Background()))
	if follow {
		r.wg.Go(func() { r.follow(after) })
		r.wg.Go(r.resume)
	}
	return r
}

func (r *rotator) close(ctx context.Context) error {
	r.mu.Lock()
	r.stop()
	r.mu.Unlock()
	done := make(chan struct{})
	go func() {
		r.wg.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return errors.New("a rotation did not pause")
	}
}

// start works on a scope's rotation in the background. Where that is being done it is
// done once more afterwards: what is at work may have ended the rotation before.
func (r *rotator) start(scope envs.Scope) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ctx.Err() != nil {
		return
	}
	if _, working := r.again[scope]; working {
		r.again[scope] = true
		return
	}
	r.again[scope] = false
	r.wg.Go(func() {
		for more := true; more; more = r.more(scope) {
			r.work(scope)
		}
	})
}

// more reports whether start was called meanwhile.
func (r *rotator) more(scope envs.Scope) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.again[scope] && r.ctx.Err() == nil {
		r.again[scope] = false
		return true
	}
	delete(r.again, scope)
	return false
}

// work goes on with a rotation until it ends, or cannot.
func (r *rotator) work(scope envs.Scope) {
	for {
		err := r.run(r.ctx, scope, nil)
		if err == nil || r.ctx.Err() != nil || errors.Is(err, backends.ErrClosed) || errors.Is(err, errStuck) || KindOf(err) == EnvironmentLocked {
			return
		}
		r.v.log.Error("a rotation was interrupted; it goes on shortly", "scope", segment(scope), "err", err)
		r.pause(rotationRetry)
	}
}

func (r *rotator) pause(d time.Duration) {
	select {
	case <-r.ctx.Done():
	case <-time.After(d):
	}
}

// resume finds the rotations under way: once, or again and again where others share
// storage, who may have been killed.
func (r *rotator) resume() {
	for {
		err := each(r.ctx, r.v.backend, rotationFamily, func(rec backends.Record) error {
			scope := envs.Scope(strings.TrimPrefix(rec.Key, rotationFamily))
			if scope == sharedSegment {
				scope = envs.Shared
			}
			var d rotationDoc
			if r.v.decode(r.ctx, rec, &d) == nil && r.free(d) && len(d.Damaged) == 0 && r.v.keys.holds(scope) {
				r.start(scope)
			}
			return nil
		})
		if err == nil && r.v.exclusive {
			return
		}
		r.pause(rescan)
		if r.ctx.Err() != nil {
			return
		}
	}
}

// free reports whether no other process is at work on a rotation.
func (r *rotator) free(d rotationDoc) bool {
	return r.v.exclusive || !d.Lease.holds(r.v.now()) || d.Lease.By == r.owner
}

// follow loads the keys again when anyone has changed them.
func (r *rotator) follow(after Revision) {
	for r.ctx.Err() == nil {
		events, err := r.v.backend.Watch(r.ctx, after)
		if errors.Is(err, backends.ErrClosed) {
			return
		}
		if err != nil {
			r.pause(rotationRetry)
			if head, err := r.v.backend.Head(r.ctx); err == nil {
				after = head.Revision
				r.reload()
			}
			continue
		}
		for e := range events {
			after = e.Revision
			for _, key := range e.Keys {
				if strings.HasPrefix(key, keyFileFamily) || strings.HasPrefix(key, keyInfoFamily) {
					r.reload()
					break
				}
			}
		}
	}
}

// reload loads the keys until it succeeds: until then this host may serve with a key
// that was taken from it, or lack one that it was given.
func (r *rotator) reload() {
	for wait := firstReload; ; wait = min(2*wait, maxReload) {
		err := r.v.keys.load(r.ctx, r.v)
		if err == nil {
			err = r.v.keys.current().unanswered
		}
		if err == nil || r.ctx.Err() != nil {
			return
		}
		r.v.log.Error("the keys have changed and could not all be read; it is tried again", "after", wait, "err", err)
		r.pause(wait)
	}
}

// errStuck: there are records that no key opens.
var errStuck = errors.New("the rotation cannot end: there are records that no key opens")

// run works on a scope's rotation until it ends, or another process is at it.
func (r *rotator) run(ctx context.Context, scope envs.Scope, progress func(Rotation)) error {
	// Records that are changed all the time are sealed anew a few at once: a commit of
	// many would always find one of them changed.
	room := stepChanges
	for first := true; ; first = false {
		var d rotationDoc
		at, err := r.v.document(ctx, rotationKey(segment(scope)), &d)
		if errors.Is(err, backends.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		if first && len(d.Damaged) > 0 {
			d.After, d.Done, d.Damaged = "", 0, nil // they may have been mended
		}
		if !r.free(d) {
			return nil
		}
		done, err := r.step(ctx, scope, &d, at, room)
		switch {
		case errors.Is(err, backends.ErrConflict):
			room = max(1, room/4)
			r.v.noticeRotation(ctx, scope)
			continue // someone else was faster: read again
		case err != nil:
			return err
		case done && len(d.Damaged) > 0:
			r.v.log.Error("a rotation cannot end, and the old key is kept: restore these records, or delete and purge their credentials; then start it again",
				"scope", segment(scope), "records", d.Damaged)
			return fmt.Errorf("%w: %s", errStuck, strings.Join(d.Damaged, ", "))
		}
		room = min(stepChanges, 2*room)
		if progress != nil {
			progress(d.rotation(Rotation{Scope: scope, Key: d.To}))
		}
		if done {
			return nil
		}
	}
}

// step takes a rotation one commit further, and reports whether nothing is left to do.
func (r *rotator) step(ctx context.Context, scope envs.Scope, d *rotationDoc, at Revision, room int) (bool, error) {
	if d.Total == 0 {
		total, err := r.total(ctx, scope)
		if err != nil {
			return false, err
		}
		d.Total = max(total, 1)
	}
	s := &rotationStep{r: r, scope: scope, doc: d, room: room}
	if err := s.collect(ctx); err != nil {
		return false, err
	}
	if s.last && len(s.changes) == 0 && len(d.Damaged) == 0 {
		return true, r.v.finish(ctx, scope, *d, at)
	}
	d.Lease = &leaseDoc{By: r.owner, Until: r.v.now().Add(rotationLease)}
	put, err := r.v.put(rotationKey(segment(scope)), at, *d)
	if err != nil {
		return false, err
	}
	_, err = r.v.commit(ctx, append(s.changes, put))
	return s.last && len(s.changes) == 0, err
}

// total counts the credentials of a scope.
func (r *rotator) total(ctx context.Context, scope envs.Scope) (n int, err error) {
	err = each(ctx, r.v.backend, credFamily, func(rec backends.Record) error {
		slot, err := r.v.slotOf(ctx, rec)
		if err == nil && slot.Scope == scope {
			n++
		}
		return nil // what fails its check is met again by the steps
	})
	return n, err
}

// slotOf returns the slot of a record below cred/.
func (v *Vault) slotOf(ctx context.Context, rec backends.Record) (Slot, error) {
	var d credDoc
	if err := v.decode(ctx, rec, &d); err != nil {
		return Slot{}, err
	}
	switch {
	case d.Live != nil:
		return d.Live.slot(), nil
	case d.Deleted != nil:
		return d.Deleted.credential(rec.Revision).Slot, nil
	}
	return Slot{}, v.integrityError(ctx, errors.New(rec.Key+" leads nowhere"))
}

// rotationStep is what one commit of a rotation seals anew.
type rotationStep struct {
	r       *rotator
	scope   envs.Scope
	doc     *rotationDoc
	changes []backends.Change
	room    int // for so many changes
	size    int
	last    bool // there is nothing after it
}

// collect fills the step from where the rotation is.
func (s *rotationStep) collect(ctx context.Context) error {
	for {
		page, err := s.r.v.backend.List(ctx, credFamily, s.doc.After, stepPage)
		if err != nil {
			return storageError(err)
		}
		for _, rec := range page {
			if full, err := s.add(ctx, rec); err != nil || full {
				return err
			}
			s.doc.After = rec.Key
		}
		if len(page) < stepPage {
			s.last = true
			return nil
		}
	}
}

// add seals the records of one credential anew, deleted or not. It reports that the step is full
// when there is no room for all of them.
func (s *rotationStep) add(ctx context.Context, rec backends.Record) (full bool, err error) {
	v := s.r.v
	slot, err := v.slotOf(ctx, rec)
	if KindOf(err) == Integrity && err != nil {
		s.damaged(rec.Key)
		return false, nil
	}
	if err != nil || slot.Scope != s.scope {
		return false, err
	}
	org, id, _ := strings.Cut(strings.TrimPrefix(rec.Key, credFamily), "/")
	files, err := v.backend.List(ctx, "record/"+org+"/"+id+"/", "", backends.MaxPage)
	if err != nil {
		return false, storageError(err)
	}
	newest, err := v.keys.newest(s.scope)
	if err != nil {
		return false, err
	}
	if newest.number != s.doc.To {
		return false, backends.ErrConflict
	}
	for _, file := range files {
		if newest.Fits(file.Value) {
			continue
		}
		if len(s.changes) >= s.room || s.size >= stepBytes {
			return true, nil
		}
		if err := s.reseal(ctx, newest, file, slot); err != nil {
			return false, err
		}
	}
	s.doc.Done++
	return false, nil
}

// reseal seals one record anew.
func (s *rotationStep) reseal(ctx context.Context, newest scopeKey, file backends.Record, slot Slot) error {
	parts := strings.Split(file.Key, "/")
	var version uint64
	if _, err := fmt.Sscanf(parts[3], "%d", &version); err != nil {
		s.damaged(file.Key)
		return nil
	}
	place := slot.place(Org{ID: parts[1]}, ID(parts[2]), version)
	fields, err := s.r.v.keys.open(s.scope, file.Value, place)
	if errors.Is(err, seal.ErrIntegrity) {
		// A rename may have moved it since the slot was read.
		if again, getErr := s.r.v.backend.Get(ctx, file.Key); errors.Is(getErr, backends.ErrNotFound) || getErr == nil && again.Revision != file.Revision {
			return backends.ErrConflict
		}
		s.damaged(file.Key)
		return nil
	}
	if err != nil {
		return err
	}
	sealed, err := newest.Seal(place, fields)
	if err != nil {
		return err
	}
	s.changes = append(s.changes, backends.Put(file.Key, file.Revision, sealed))
	s.size += len(sealed)
	s.doc.Records++
	return nil
}

// damaged notes a record that no key opens.
func (s *rotationStep) damaged(key string) {
	if len(s.doc.Damaged) < maxDamaged {
		s.doc.Damaged = append(s.doc.Damaged, key)
	}
}
