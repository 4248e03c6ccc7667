package main

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// Defaults of cache-size. On a file only documents are kept beside the credentials.
const (
	fileCacheSize   = 32 << 20
	sharedCacheSize = 3 * fileCacheSize
)

// besidesCache is what the Go runtime may take beside what is kept of reads. The
// program's own pages and those of a storage's file (see backends/bbolt) come on top: in
// all a sidecar has at most cache-size and 64 MiB in memory.
const besidesCache = 22 << 20

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
		keepRoom(int64(cfg.CacheSize) + besidesCache)
	}
}

// keepRoom limits the memory of the runtime to base, or to more while more is in use:
// below a limit that is in use the runtime would collect without a pause, and answer
// nobody meanwhile. It looks again after each collection, until the process ends.
func keepRoom(base int64) {
	debug.SetMemoryLimit(base)
	inUse := newMemoryInUse()
	var look func()
	look = func() {
		debug.SetMemoryLimit(roomAbove(base, inUse.read()))
		afterCollection(look)
	}
	afterCollection(look)
}

// afterCollection calls f once, soon after the next collection of garbage.
func afterCollection(f func()) {
	type garbage struct{ _ [2]*byte } // what has no pointers shares its memory with other things
	runtime.AddCleanup(new(garbage), func(f func()) { f() }, f)
}

// memoryInUse is what the runtime says of its memory.
type memoryInUse []metrics.Sample

const (
	liveBytes = iota // what the last collection left
	totalBytes
	releasedBytes
	freeBytes
	objectBytes // what was left, and what has been allocated since
)

func newMemoryInUse() memoryInUse {
	return memoryInUse{
		liveBytes:     {Name: "/gc/heap/live:bytes"},
		totalBytes:    {Name: "/memory/classes/total:bytes"},
		releasedBytes: {Name: "/memory/classes/heap/released:bytes"},
		freeBytes:     {Name: "/memory/classes/heap/free:bytes"},
		objectBytes:   {Name: "/memory/classes/heap/objects:bytes"},
	}
}

func (m memoryInUse) read() int64 {
	metrics.Read(m)
	bytes := func(i int) int64 { return int64(m[i].Value.Uint64()) }
	besidesHeap := bytes(totalBytes) - bytes(releasedBytes) - bytes(freeBytes) - bytes(objectBytes)
	return besidesHeap + bytes(liveBytes)
}

// leastRoom is what is left for garbage when the caches are full.
const leastRoom = 6 << 20

// roomAbove is base while there is that room, so that the caches alone never take more.
// Of what crowds of clients make the process hold beyond, half comes on top, and
// collecting costs no more than what it is for.
func roomAbove(base, inUse int64) int64 {
	return base + max(0, inUse-(base-leastRoom))*3/2
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
