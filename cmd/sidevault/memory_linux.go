package main

import (
	"bufio"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// forgetStart lets go of the pages of the program's code, most of which only starting
// needed: they stay in the system's cache, and what is used on is mapped again from there.
// Nobody writes to code, so nothing is lost; nor does it hold anything to be kept out of
// swap, where it never goes.
func forgetStart() {
	program, err := os.Executable()
	if err != nil {
		return
	}
	maps, err := os.Open("/proc/self/maps")
	if err != nil {
		return
	}
	defer maps.Close()
	for lines := bufio.NewScanner(maps); lines.Scan(); {
		var from, to uintptr
		var mode string
		line := lines.Text()
		if _, err := fmt.Sscanf(line, "%x-%x %s", &from, &to, &mode); err != nil || mode != "r-xp" || !strings.HasSuffix(line, " "+program) {
			continue
		}
		_, _, _ = unix.Syscall(unix.SYS_MUNLOCK, from, to-from, 0)
		_, _, _ = unix.Syscall(unix.SYS_MADVISE, from, to-from, unix.MADV_DONTNEED)
	}
}
