package main

import (
	"os"
	"runtime/debug"
)

// Defaults of cache-size. On a file only documents are kept beside the credentials.
const (
	fileCacheSize   = 32 << 20
	sharedCacheSize = 3 * fileCacheSize
)

// besidesCache is what the Go runtime may take beside what is kept of reads. The
// program's own pages and those of a storage's file (see backends/bbolt) come on top: in
// all a sidecar has at most cache-size and 64 MiB in memory.
const besidesCache = 30 << 20

// How much garbage may add to what is in use before it is collected, in percent. What
// starting leaves would stay in memory for good, so it is to be little. Serving has
// little in use and allocates a lot by the burst: it is the limit that bounds it.
const (
	startGarbage = 50
	serveGarbage = 100
)

// limitMemory has the runtime collect garbage before it takes more than it may, which is
// no wall: what is in use stays. Who sets the runtime's own variable knows better.
func limitMemory(cfg settings) {
	collectAt(startGarbage)
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(int64(cfg.CacheSize) + besidesCache)
	}
}

// settleMemory is for when a sidecar has started.
func settleMemory() {
	collectAt(serveGarbage)
	forgetStart()
}

func collectAt(percent int) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(percent)
	}
}

// cacheSizes splits cache-size: two thirds for what storage has, records as it returned them
// and documents as they were decoded; a third for the credentials that were decrypted,
// sealed anew, which take less.
func (c settings) cacheSizes() (stored, credentials int) {
	credentials = c.CacheSize / 3
	return c.CacheSize - credentials, credentials
}
