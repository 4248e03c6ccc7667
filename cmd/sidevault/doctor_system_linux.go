package main

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// examineMemory looks whether the sidecar's memory can reach a disk: through swap, or as
// a core dump.
func (d *doctor) examineMemory() {
	const check = "memory"
	swaps, err := os.ReadFile("/proc/swaps")
	swap := err == nil && strings.Count(strings.TrimSpace(string(swaps)), "\n") > 0
	pid := holder(d.cfg.Storage.path)
	if pid == 0 {
		severity, text := severityUnseen, "no sidecar was found that has the vault's file open; this host has no swap"
		if swap {
			text = "no sidecar was found that has the vault's file open; this host has swap"
		}
		d.say(severity, check, "look where the sidecar runs; LimitMEMLOCK=infinity in its unit keeps it out of swap", "%s", text)
		return
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		d.fault(check, err)
		return
	}
	locked, swapped := kilobytes(status, "VmLck"), kilobytes(status, "VmSwap")
	const cure = "LimitMEMLOCK=infinity in the sidecar's unit, or CAP_IPC_LOCK, and restart it"
	switch {
	case swapped > 0:
		d.say(severityWarning, check, cure, "%d KiB of the sidecar (process %d) are in swap", swapped, pid)
	case locked == 0 && swap:
		d.say(severityWarning, check, cure, "the sidecar's memory (process %d) is not locked, and this host has swap", pid)
	case locked == 0:
		d.say(severityInfo, check, cure, "the sidecar's memory (process %d) is not locked; this host has no swap", pid)
	default:
		d.say(severityOK, check, "", "the sidecar's memory is locked")
	}
	d.examineCores(pid)
}

var coreRE = regexp.MustCompile(`(?m)^Max core file size\s+(\S+)\s+(\S+)`)

func (d *doctor) examineCores(pid int) {
	limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", pid))
	if err != nil {
		d.fault("core dumps", err)
		return
	}
	if m := coreRE.FindSubmatch(limits); m == nil || string(m[1]) != "0" || string(m[2]) != "0" {
		d.say(severityWarning, "core dumps", "LimitCORE=0 in the sidecar's unit, and restart it", "the sidecar (process %d) may leave core dumps", pid)
		return
	}
	d.say(severityOK, "core dumps", "", "the sidecar leaves none")
}

func kilobytes(status []byte, name string) int {
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, name+":"); ok {
			n, _ := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(rest), " kB"))
			return n
		}
	}
	return 0
}

// holder returns the process that has a file locked, 0 when none is seen. The system
// tells locks by the file's number:
//
//	1: FLOCK  ADVISORY  WRITE 4711 fe:00:1234567 0 EOF
func holder(path string) (pid int) {
	info, err := os.Stat(path)
	if err != nil {
		return 0
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	locks, err := os.ReadFile("/proc/locks")
	if !ok || err != nil {
		return 0
	}
	file := fmt.Sprintf("%02x:%02x:%d", unix.Major(stat.Dev), unix.Minor(stat.Dev), stat.Ino)
	for line := range strings.Lines(string(locks)) {
		if f := strings.Fields(line); len(f) > 5 && f[1] == "FLOCK" && f[5] == file {
			pid, _ = strconv.Atoi(f[4])
			return max(pid, 0)
		}
	}
	return 0
}

// examineClock asks the system whether somebody keeps its clock right.
func (d *doctor) examineClock() {
	const check = "clock"
	var t unix.Timex
	if _, err := unix.Adjtimex(&t); err != nil {
		d.fault(check, err)
		return
	}
	if t.Status&unix.STA_UNSYNC == 0 {
		d.say(severityOK, check, "", "the system says that it is synchronised")
		return
	}
	// Expiry, tokens and audit entries go by it; hosts that share a vault compare theirs.
	severity := severityInfo
	if d.cfg.JWT.Issuer != "" || d.cfg.Storage.shared() {
		severity = severityWarning
	}
	d.say(severity, check, "timedatectl set-ntp true, or the time service of this system", "nobody synchronises this host's clock, as far as the system knows")
}
