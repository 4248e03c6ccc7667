package testserver

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// awaitStopped waits until no thread of a process that was sent SIGSTOP runs any more:
// until then it can answer.
func awaitStopped(pid int) {
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline) && !stopped(pid); {
		time.Sleep(time.Millisecond)
	}
}

func stopped(pid int) bool {
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	for _, path := range threads {
		stat, err := os.ReadFile(path)
		_, state, named := bytes.Cut(stat, []byte(") ")) // the name before it can hold anything
		if err == nil && named && !bytes.HasPrefix(state, []byte("T")) {
			return false
		}
	}
	return true
}
