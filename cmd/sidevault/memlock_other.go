//go:build !linux

package main

// lockMemory returns why memory is not locked.
func lockMemory() (why string) { return "this system has no way to lock what is used later" }
