package bbolt

import (
	"bytes"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// mappedFiles is how much of files, the program's own among them, this process has in
// memory, in bytes (proc(5): statm); 0 when that is not known.
func mappedFiles() int64 {
	text, err := os.ReadFile("/proc/self/statm")
	fields := bytes.Fields(text)
	if err != nil || len(fields) < 3 {
		return 0
	}
	pages, err := strconv.ParseInt(string(fields[2]), 10, 64)
	if err != nil {
		return 0
	}
	return pages * int64(os.Getpagesize())
}

// unmapPages lets go of the pages that are mapped there (madvise(2), mlock(2)). Where
// the process keeps its memory out of swap they are locked first of all; a file's pages
// never go there. It is advice: what the system does not take is still right.
func unmapPages(at, size uintptr) {
	_, _, _ = unix.Syscall(unix.SYS_MUNLOCK, at, size, 0)
	_, _, _ = unix.Syscall(unix.SYS_MADVISE, at, size, unix.MADV_DONTNEED)
}
