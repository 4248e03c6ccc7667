package bbolt

import bolt "go.etcd.io/bbolt"

// Reads go through a mapping of the file, and the system counts what they have touched
// as memory of this process until it needs the memory for others. It maps faultAround
// of what is touched, so reads here and there in a large file would soon have all of it
// counted. After so many of them as can have touched mostMapped the mapping is let go
// of: the pages stay in the system's cache, from where the next read maps them again.
const (
	mostMapped  = 16 << 20
	faultAround = 64 << 10
	perFault    = 16 // items that lie side by side within one
)

// touched counts reads of different places.
func (b *Backend) touched(places int) {
	if b.faults.Add(int64(places)) < mostMapped/faultAround {
		return
	}
	b.faults.Store(0)
	if b.unwritable.Load() != nil || b.unusable.Load() != nil || b.doubt.Load() != nil {
		return // bbolt's own locks may be held for good, or its file be closed
	}
	// While a transaction is open the mapping stays where it is.
	_ = b.read(bucketMeta, func(meta *bolt.Bucket) error {
		if size := meta.Tx().Size(); size > mostMapped {
			unmapPages(b.db.Info().Data, uintptr(size))
		}
		return nil
	})
}
