package main

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// lockMemory keeps this process's memory out of swap: every page from the moment that
// it is first used. It does so only where no limit applies: with one, the runtime's
// own requests for memory would fail once it is reached, and the process with them. It
// returns why memory is not locked, "" when it is.
func lockMemory() (why string) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit); err != nil {
		return fmt.Sprintf("read the limit: %s", err)
	}
	if limit.Cur != unix.RLIM_INFINITY && !mayLock() {
		return fmt.Sprintf("the limit is %d KiB: LimitMEMLOCK=infinity, ulimit -l unlimited or CAP_IPC_LOCK lifts it", limit.Cur>>10)
	}
	if err := unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE | unix.MCL_ONFAULT); err != nil {
		return fmt.Sprintf("lock the memory: %s", err)
	}
	return ""
}

// mayLock reports whether the process has the capability that knows no limit.
func mayLock() bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	return unix.Capget(&header, &data[0]) == nil && data[0].Effective&(1<<unix.CAP_IPC_LOCK) != 0
}
