package main

import "testing"

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
