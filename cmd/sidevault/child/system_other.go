//go:build !linux

package child

import (
	"os"
	"os/signal"
	"syscall"
)

func dieWithParent(*syscall.SysProcAttr) {}

// withoutStop calls f while SIGTTOU has no effect. Notify undoes what Ignore did, for
// the commands that are started, where Reset would not.
func withoutStop(f func()) {
	signal.Ignore(syscall.SIGTTOU)
	f()
	signal.Notify(make(chan os.Signal, 1), syscall.SIGTTOU)
}
