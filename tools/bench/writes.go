package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"filippo.io/age"
	bolt "go.etcd.io/bbolt"

	"github.com/sidevault/sidevault/backends"
	"github.com/sidevault/sidevault/backends/bbolt"
	"github.com/sidevault/sidevault/tools/bench/load"
	"github.com/sidevault/sidevault/vault"
	"github.com/sidevault/sidevault/vault/secret"
)

// set compares rotations with what age and bbolt need for the same bytes.
func (b *bench) set(ctx context.Context, connections int) ([]figure, error) {
	bytes, err := b.writtenBySet(ctx)
	if err != nil {
		return nil, err
	}
	raw, err := openRaw(filepath.Join(b.dir, fmt.Sprintf("raw-%d.db", connections)), bytes, b.size.stored)
	if err != nil {
		return nil, err
	}
	defer raw.db.Close()
	s, v, err := b.usual(ctx)
	if err != nil {
		return nil, err
	}
	f := figure{work: "set, " + plural(connections), reference: "one raw bbolt commit", unit: "ms, p50", measure: ratioBeyond(0.4, "ms"), goal: 1.3}
	if connections > 1 {
		f.reference = fmt.Sprintf("%d goroutines: age encryption, grouped raw bbolt commit", connections)
		f.unit, f.measure, f.goal, f.atLeast = "commits/s", ratio(), 0.6, true
	}
	for round := range b.size.rounds + 1 {
		ours, err := b.load(ctx, s.target("tcp", sets(v)), connections)
		if err != nil {
			return nil, err
		}
		theirs, err := raw.run(connections, b.size.round)
		if err != nil {
			return nil, err
		}
		of := milliseconds
		if connections > 1 {
			of = load.Result.PerSecond
		}
		if round > 0 {
			f.ours, f.theirs = append(f.ours, of(ours)), append(f.theirs, of(theirs))
		}
	}
	return []figure{f}, nil
}

// recorder remembers the last batch that was committed.
type recorder struct {
	backends.Backend
	last backends.Batch
}

func (r *recorder) Commit(ctx context.Context, b backends.Batch) (backends.Revision, error) {
	r.last = b
	return r.Backend.Commit(ctx, b)
}

// writtenBySet is the batch that a rotation commits.
func (b *bench) writtenBySet(ctx context.Context) (batch backends.Batch, err error) {
	n := b.size.cold * (b.size.rounds + 1)
	v, err := b.stock(ctx, n, n)
	if err != nil {
		return batch, err
	}
	r := new(recorder)
	err = v.openOn(ctx, func(backend *bbolt.Backend) backends.Backend {
		r.Backend = backend
		return r
	}, func(opened *vault.Vault, _ *bbolt.Backend) error {
		admin, err := opened.Authenticate(ctx, secret.New(v.admin))
		if err != nil {
			return err
		}
		_, err = opened.Set(ctx, admin, v.slot(v.names[0]), input())
		batch = r.last
		return err
	})
	return batch, err
}

// rawStore is a bbolt file that gets the bytes of sets without the vault: for each
// change the key, a revision and the value, for each log entry its number, a hash and
// the body. It holds as many credentials as the vault that it is compared with.
type rawStore struct {
	db       *bolt.DB
	batch    backends.Batch
	stored   int
	to       age.Recipient
	plain    []byte // encrypts to the size of the vault's age file
	next     atomic.Uint64
	queue    chan chan error
	commits  chan struct{} // closed when the committer has ended
	revision [8]byte
}

const (
	rawRecords = "records"
	rawLog     = "log"
)

func openRaw(path string, batch backends.Batch, stored int) (*rawStore, error) {
	db, err := bolt.Open(path, 0o600, &bolt.Options{NoStatistics: true})
	if err != nil {
		return nil, err
	}
	r := &rawStore{db: db, batch: batch, stored: stored}
	err = db.Update(func(tx *bolt.Tx) error {
		for _, bucket := range []string{rawRecords, rawLog} {
			if _, err := tx.CreateBucket([]byte(bucket)); err != nil {
				return err
			}
		}
		for range stored {
			if err := r.put(tx); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		err = r.measurePlain()
	}
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return r, nil
}

// put writes what one set writes, where a set does: the age file as a new record beside
// those of the credential's other versions, the others over what was there.
func (r *rawStore) put(tx *bolt.Tx) error {
	n := r.next.Add(1)
	records, log := tx.Bucket([]byte(rawRecords)), tx.Bucket([]byte(rawLog))
	for i, c := range r.batch.Changes {
		key := fmt.Appendf(nil, "%s/%010d", c.Key, n*7919%uint64(r.stored))
		if i == r.newest() {
			key = fmt.Appendf(key, "/%010d", n)
		}
		if err := records.Put(key, append(r.revision[:], c.Value...)); err != nil {
			return err
		}
	}
	for _, body := range r.batch.Entries {
		seq, err := log.NextSequence()
		if err != nil {
			return err
		}
		if err := log.Put(binary.BigEndian.AppendUint64(nil, seq), append(make([]byte, 32), body...)); err != nil {
			return err
		}
	}
	return nil
}

// newest is the index of the change that is the age file.
func (r *rawStore) newest() int {
	for i, c := range r.batch.Changes {
		if string(c.Value[:min(len(c.Value), 18)]) == "age-encryption.org" {
			return i
		}
	}
	return -1
}

func (r *rawStore) measurePlain() error {
	id, err := age.GenerateX25519Identity()
	if err != nil {
		return err
	}
	if r.to = id.Recipient(); r.newest() < 0 {
		return errors.New("a set commits no age file")
	}
	overhead, err := r.encrypt()
	if err != nil {
		return err
	}
	r.plain = make([]byte, len(r.batch.Changes[r.newest()].Value)-overhead)
	return nil
}

// encrypt makes an age file and returns its size.
func (r *rawStore) encrypt() (int, error) {
	var size counter
	w, err := age.Encrypt(&size, r.to)
	if err != nil {
		return 0, err
	}
	if _, err := w.Write(r.plain); err != nil {
		return 0, err
	}
	err = w.Close()
	return int(size), err
}

type counter int

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}

var _ io.Writer = new(counter)

// run commits from that many goroutines for that long. A lone one commits by itself
// and encrypts nothing.
func (r *rawStore) run(goroutines int, d time.Duration) (load.Result, error) {
	work := func() error { return r.db.Update(r.put) }
	if goroutines > 1 {
		stop := r.startCommitter()
		defer stop()
		work = r.encryptAndCommit
	}
	latencies := make([][]time.Duration, goroutines)
	errs := make([]error, goroutines)
	start := time.Now()
	var wg sync.WaitGroup
	for i := range goroutines {
		wg.Go(func() {
			for at := time.Now(); at.Sub(start) < d; {
				if errs[i] = work(); errs[i] != nil {
					return
				}
				now := time.Now()
				latencies[i] = append(latencies[i], now.Sub(at))
				at = now
			}
		})
	}
	wg.Wait()
	result := load.Result{Elapsed: time.Since(start)}
	var all []time.Duration
	for _, l := range latencies {
		all = append(all, l...)
	}
	result.Requests, result.Latency = len(all), load.Of(all)
	return result, errors.Join(errs...)
}

func (r *rawStore) encryptAndCommit() error {
	if _, err := r.encrypt(); err != nil {
		return err
	}
	done := make(chan error, 1)
	r.queue <- done
	return <-done
}

// startCommitter starts what commits all that waits in one transaction, and never
// waits for more.
func (r *rawStore) startCommitter() (stop func()) {
	r.queue, r.commits = make(chan chan error, 1024), make(chan struct{})
	go func() {
		defer close(r.commits)
		for first := range r.queue {
			group := []chan error{first}
			for len(r.queue) > 0 {
				group = append(group, <-r.queue)
			}
			err := r.db.Update(func(tx *bolt.Tx) error {
				for range group {
					if err := r.put(tx); err != nil {
						return err
					}
				}
				return nil
			})
			for _, done := range group {
				done <- err
			}
		}
	}()
	return func() {
		close(r.queue)
		<-r.commits
	}
}
