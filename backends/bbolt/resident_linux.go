package bbolt

import "golang.org/x/sys/unix"

// unmapPages lets go of the pages that are mapped there (madvise(2), mlock(2)). Where
// the process keeps its memory out of swap they are locked first of all; a file's pages
// never go there. It is advice: what the system does not take is still right.
func unmapPages(at, size uintptr) {
	_, _, _ = unix.Syscall(unix.SYS_MUNLOCK, at, size, 0)
	_, _, _ = unix.Syscall(unix.SYS_MADVISE, at, size, unix.MADV_DONTNEED)
}
