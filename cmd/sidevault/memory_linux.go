package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// forgetStart lets go of the pages of the program's code and constants, most of which
// only starting needed: they stay in the system's cache, and what is used on is mapped
// again from there. There is nothing in them to be kept out of swap, where they never go.
func forgetStart() {
	program, err := os.Executable()
	if err != nil {
		return
	}
	smaps, err := os.Open("/proc/self/smaps")
	if err != nil {
		return
	}
	defer smaps.Close()
	for _, m := range unchanged(smaps, program) {
		_, _, _ = unix.Syscall(unix.SYS_MUNLOCK, m.from, m.to-m.from, 0)
		_, _, _ = unix.Syscall(unix.SYS_MADVISE, m.from, m.to-m.from, unix.MADV_DONTNEED)
	}
}

// mapping is a range of addresses.
type mapping struct{ from, to uintptr }

// unchanged returns where a file is mapped that can be read from it again (proc(5):
// smaps): for reading alone, and without a page that was written to before.
func unchanged(smaps io.Reader, file string) (list []mapping) {
	var m mapping
	ours := false
	for lines := bufio.NewScanner(smaps); lines.Scan(); {
		var mode, name string
		var kib int
		line := lines.Text()
		if n, _ := fmt.Sscanf(line, "%x-%x %s", &m.from, &m.to, &mode); n == 3 {
			ours = strings.HasSuffix(line, " "+file) && (mode == "r-xp" || mode == "r--p")
			if ours {
				list = append(list, m)
			}
			continue
		}
		if _, err := fmt.Sscanf(line, "%s %d kB", &name, &kib); err == nil && ours && kib > 0 && (name == "Anonymous:" || name == "Swap:") {
			list, ours = list[:len(list)-1], false
		}
	}
	return list
}
