package bbolt

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"

	bolt "go.etcd.io/bbolt"

	"github.com/sidevault/sidevault/backends"
)

// ballastStep is how much room is made each time the disk is full.
const ballastStep = 512 << 10

// fillDisk commits on a small file system until it is full, checks that refused
// commits left nothing, makes room, and commits again through the same handle.
func fillDisk(dir string) error {
	if err := mountSmall(dir); err != nil {
		return fmt.Errorf("cannot mount: %w", err)
	}
	path := filepath.Join(dir, "vault.db")
	ballast := filepath.Join(dir, "ballast")
	if err := errors.Join(Create(path), os.WriteFile(ballast, make([]byte, 3*ballastStep), 0o600)); err != nil {
		return err
	}
	b, err := Open(path, nil)
	if err != nil {
		return err
	}
	for round := range 3 {
		makeRoom := func() error { return os.Truncate(ballast, int64(2-round)*ballastStep) }
		if err := fillAndRecover(b, fmt.Sprint(round), makeRoom); err != nil {
			return fmt.Errorf("round %d: %w", round, err)
		}
	}
	if err := b.Close(); err != nil {
		return err
	}
	return checkFull(path)
}

func mountSmall(dir string) error {
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return err
	}
	return syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=4m,mode=0700")
}

func fillAndRecover(b *Backend, round string, makeRoom func() error) error {
	ctx := context.Background()
	stored, refused, err := fillUp(b, round)
	if err != nil {
		return err
	}
	for key, value := range stored {
		if r, err := b.Get(ctx, key); err != nil || len(r.Value) != value {
			return fmt.Errorf("acknowledged %s: %d bytes, %v", key, len(r.Value), err)
		}
	}
	for _, key := range refused {
		if _, err := b.Get(ctx, key); !errors.Is(err, backends.ErrNotFound) {
			return fmt.Errorf("refused %s: %v", key, err)
		}
	}
	if err := makeRoom(); err != nil {
		return err
	}
	batch := put("room/"+round, 0, string(make([]byte, 20_000)))
	batch.Entries = [][]byte{[]byte("room")}
	if _, err := b.Commit(ctx, batch); err != nil {
		return fmt.Errorf("with room again: %w", err)
	}
	for key := range stored {
		r, err := b.Get(ctx, key)
		if err != nil {
			return err
		}
		if _, err := b.Commit(ctx, backends.Batch{Changes: []backends.Change{backends.Delete(key, r.Revision)}}); err != nil {
			return fmt.Errorf("making room: %w", err)
		}
	}
	return nil
}

// fillUp commits from several goroutines until each was refused some times.
func fillUp(b *Backend, round string) (stored map[string]int, refused []string, err error) {
	var mu sync.Mutex
	var writers sync.WaitGroup
	var wrong atomic.Pointer[error]
	stored = map[string]int{}
	for i := range 4 {
		writers.Go(func() {
			for n, failed := 0, 0; failed < 5 && n < 2000; n++ {
				key := fmt.Sprintf("fill/%s/%d/%d", round, i, n)
				batch := put(key, 0, string(make([]byte, 1000+n%7*3000)))
				batch.Entries = [][]byte{[]byte(key)}
				_, err := b.Commit(context.Background(), batch)
				if err != nil && (!errors.Is(err, backends.ErrUnavailable) || !errors.Is(err, syscall.ENOSPC)) {
					wrong.Store(&err)
					return
				}
				mu.Lock()
				if err == nil {
					stored[key] = len(batch.Changes[0].Value)
				} else {
					failed++
					refused = append(refused, key)
				}
				mu.Unlock()
			}
		})
	}
	writers.Wait()
	if err := wrong.Load(); err != nil {
		return nil, nil, *err
	}
	if len(refused) == 0 || len(stored) == 0 {
		return nil, nil, fmt.Errorf("%d stored, %d refused", len(stored), len(refused))
	}
	fmt.Printf("round %s: %d stored, %d refused\n", round, len(stored), len(refused))
	return stored, refused, nil
}

func checkFull(path string) error {
	db, err := bolt.Open(path, 0, &bolt.Options{ReadOnly: true, PreLoadFreelist: true})
	if err != nil {
		return err
	}
	defer db.Close()
	return db.View(func(tx *bolt.Tx) error {
		for err := range tx.Check() {
			return err
		}
		s, err := load(tx)
		if err != nil {
			return err
		}
		return s.checkHead()
	})
}
