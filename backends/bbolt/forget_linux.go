package bbolt

import (
	"os"

	"golang.org/x/sys/unix"
)

// forget has the system drop what it keeps of the file in memory, so that it is read
// from the disk. It is a request, which may be in vain.
func forget(f *os.File) { _ = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED) }
