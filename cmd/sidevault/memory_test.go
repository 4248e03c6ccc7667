package main

import (
	"runtime"
	"runtime/debug"
	"testing"
	"time"
)

// The whole of cache-size is used, and no more.
func TestCacheSizes(t *testing.T) {
	cfg, err := load(t, nil, "--cache-size", "10MiB")
	if err != nil {
		t.Fatal(err)
	}
	if stored, credentials := cfg.cacheSizes(); stored+credentials != 10<<20 || min(stored, credentials) == 0 {
		t.Errorf("%d bytes for what storage has, %d for credentials", stored, credentials)
	}
}

// The limit of memory leaves room above what is in use, and comes down with it. It stays
// with the process, which the other tests do not notice.
func TestKeepRoom(t *testing.T) {
	const base, used = 256 << 20, 320 << 20
	keepRoom(base)
	settled := func(what string, is func(limit int64) bool) {
		t.Helper()
		for deadline := time.Now().Add(30 * time.Second); !is(debug.SetMemoryLimit(-1)); runtime.GC() {
			if time.Now().After(deadline) {
				t.Fatalf("%s: the limit is %d MiB", what, debug.SetMemoryLimit(-1)>>20)
			}
		}
	}
	held := make([]byte, used)
	settled("a limit with room above what is in use", func(limit int64) bool { return limit > used+(used-base)/2 && limit < used*2 })
	runtime.KeepAlive(held)
	settled("the limit for what is little", func(limit int64) bool { return limit == base })
}
