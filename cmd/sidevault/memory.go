package main

import (
	"os"
	"runtime/debug"
)

// besidesCache is what the Go runtime may take beside what is kept of reads. The
// program's own pages and those of a storage's file (see backends/bbolt) come on top: in
// all a sidecar has at most cache-size and 64 MiB in memory.
const besidesCache = 24 << 20

// garbagePercent is how much garbage may add to what is in use before it is collected.
// Half of the runtime's own default: a sidecar is to be small next to what it serves, and
// most of what it allocates is the buffers of decryptions, by the burst.
const garbagePercent = 50

// limitMemory has the runtime collect garbage as often as a small process takes, and
// more often before it has more than it may. That is no wall: what is in use stays. Who
// sets the runtime's own variables knows better.
func limitMemory(cfg settings) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(garbagePercent)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(int64(cfg.CacheSize) + besidesCache)
	}
}

// cacheSizes splits cache-size in halves: of what storage has, records as it returned them
// and documents as they were decoded; and the credentials that were decrypted, sealed anew.
func (c settings) cacheSizes() (stored, credentials int) { return c.CacheSize / 2, c.CacheSize / 2 }
