package main

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// memoryPlaces are the directories that may be in memory, the most private one first.
func memoryPlaces(sh *shell) []string {
	list := []string{fmt.Sprintf("/run/user/%d", os.Geteuid()), "/dev/shm"}
	if dir := sh.getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(dir) {
		return append([]string{dir}, list...)
	}
	return list
}

func inMemory(dir string) bool {
	var s unix.Statfs_t
	err := unix.Statfs(dir, &s)
	kind := uint32(s.Type) // its width differs between machines
	return err == nil && (kind == unix.TMPFS_MAGIC || kind == unix.RAMFS_MAGIC)
}
