//go:build !linux

package bbolt

// unmapPages leaves it to the system.
func unmapPages(_, _ uintptr) {}
