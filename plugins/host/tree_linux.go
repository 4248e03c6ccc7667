package host

import (
	"bytes"
	"os"
	"strconv"
	"syscall"
)

// parentOf reads a process's parent from /proc/PID/stat (proc_pid_stat(5)).
func parentOf(pid int) (ppid int, zombie, ok bool) {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, false, false
	}
	// The name in parentheses is the process's choice, and may contain any byte.
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 2 {
		return 0, false, false
	}
	ppid, err = strconv.Atoi(string(fields[1]))
	return ppid, fields[0][0] == 'Z' || fields[0][0] == 'X', err == nil
}

// children returns the children of this process, also dead ones, where the kernel
// lists them (CONFIG_PROC_CHILDREN).
func children() []int {
	var pids []int
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return nil
	}
	for _, task := range tasks {
		list, _ := os.ReadFile("/proc/self/task/" + task.Name() + "/children")
		for _, name := range bytes.Fields(list) {
			if pid, err := strconv.Atoi(string(name)); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// descendants returns the living descendants of a process.
func descendants(of int) []int {
	proc, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer proc.Close()
	names, _ := proc.Readdirnames(-1)
	children := map[int][]int{}
	zombies := map[int]bool{}
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		if ppid, zombie, ok := parentOf(pid); ok {
			children[ppid] = append(children[ppid], pid)
			zombies[pid] = zombie
		}
	}
	var found []int
	for queue := children[of]; len(queue) > 0; queue = queue[1:] {
		if pid := queue[0]; !zombies[pid] {
			found = append(found, pid)
		}
		queue = append(queue, children[queue[0]]...)
	}
	return found
}

// descends reports whether a process is one of those or below one of them.
func descends(pid int, of map[int]bool) bool {
	if pid <= 0 || len(of) == 0 {
		return false
	}
	// A pid that was used again while this runs could make a circle.
	for range 1000 {
		if of[pid] {
			return true
		}
		if pid <= 1 || pid == os.Getpid() {
			return false
		}
		ppid, _, ok := parentOf(pid)
		if !ok {
			// Gone, or another user's where /proc hides those.
			return syscall.Kill(pid, 0) == syscall.ESRCH
		}
		pid = ppid
	}
	return true
}
