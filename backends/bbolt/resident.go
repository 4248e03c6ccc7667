package bbolt

import bolt "go.etcd.io/bbolt"

// Reads go through a mapping of the file, and the system counts what they have touched
// as memory of this process until it needs the memory for others. It maps 64 KiB
// of what is touched, so reads here and there in a large file would soon have all of it
// counted. Beyond mostMapped the mapping is let go of: the pages stay in the system's
// cache, from where the next read maps them again.
const (
	mostMapped = 8 << 20
	perFault   = 16 // items that lie side by side within 64 KiB

	// lookAfter is how many places are read between two looks at what is mapped.
	lookAfter = 24
)

// touched counts reads of different places.
func (b *Backend) touched(places int) {
	if b.places.Add(int64(places)) < lookAfter {
		return
	}
	b.places.Store(0)
	if b.unwritable.Load() != nil || b.unusable.Load() != nil || b.doubt.Load() != nil {
		return // bbolt's own locks may be held for good, or its file be closed
	}
	mapped := mappedFiles()
	least := min(mapped, b.least.Load()) // the program's own pages can be fewer than they were
	b.least.Store(least)
	if mapped-least < mostMapped {
		return
	}
	// While a transaction is open the mapping stays where it is.
	_ = b.read(bucketMeta, func(meta *bolt.Bucket) error {
		unmapPages(b.db.Info().Data, uintptr(meta.Tx().Size()))
		return nil
	})
	b.least.Store(mappedFiles())
}
