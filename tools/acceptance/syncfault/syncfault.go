// Package syncfault lets a test decide what the kernel answers a program that
// synchronizes a file (fsync, fdatasync). It takes Linux and needs no privilege: the
// program is started under a seccomp filter that asks the test about these calls
// (seccomp_unotify(2)). The write that came before has happened; whether the disk has
// it is what such a program cannot know.
//
//	func TestMain(m *testing.M) { syncfault.Become(); ... }
//
//	disk := syncfault.New(t, program)
//	disk.Fail(func() bool { return true })
//	// start disk.Path in the place of program
package syncfault

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	programVariable = "SYNCFAULT_PROGRAM"
	socketVariable  = "SYNCFAULT_SOCKET"
)

// Disk is what programs believe to write to.
type Disk struct {
	// Path is started in the place of the program.
	Path string

	fail   atomic.Pointer[func() bool]
	failed atomic.Int64
}

// New returns a disk that keeps everything.
func New(t testing.TB, program string) *Disk {
	t.Helper()
	dir, err := os.MkdirTemp("", "syncfault-") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "socket")
	d := &Disk{Path: filepath.Join(dir, "program")}
	script := fmt.Sprintf("#!/bin/sh\n%s='%s' %s='%s' exec '%s' \"$@\"\n", programVariable, program, socketVariable, socket, os.Args[0])
	if err := os.WriteFile(d.Path, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go d.serve(l)
	return d
}

// Fail has calls fail with EIO when f says so; nil: none does.
func (d *Disk) Fail(f func() bool) {
	if f == nil {
		d.fail.Store(nil)
		return
	}
	d.fail.Store(&f)
}

// Failed is how many calls have failed.
func (d *Disk) Failed() int { return int(d.failed.Load()) }

func (d *Disk) serve(l *net.UnixListener) {
	for {
		conn, err := l.AcceptUnix()
		if err != nil {
			return
		}
		if fd, err := receive(conn); err == nil {
			go d.answer(fd)
		}
		conn.Close()
	}
}

func receive(conn *net.UnixConn) (int, error) {
	space := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := conn.ReadMsgUnix(make([]byte, 1), space)
	if err != nil {
		return 0, err
	}
	messages, err := unix.ParseSocketControlMessage(space[:n])
	if err != nil {
		return 0, err
	}
	if len(messages) != 1 {
		return 0, fmt.Errorf("%d control messages", len(messages))
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		return 0, err
	}
	return fds[0], nil
}

// The structures and requests of seccomp_unotify(2).
type notification struct {
	id    uint64
	pid   uint32
	flags uint32
	data  [64]byte
}

type response struct {
	id    uint64
	val   int64
	err   int32
	flags uint32
}

const (
	requestReceive = 0xc0502100
	requestSend    = 0xc0182101
	goOn           = 1 // SECCOMP_USER_NOTIF_FLAG_CONTINUE
)

// answer answers a program's calls until it has ended.
func (d *Disk) answer(fd int) {
	defer unix.Close(fd)
	for {
		poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		if _, err := unix.Poll(poll, -1); err == unix.EINTR {
			continue
		}
		if poll[0].Revents&unix.POLLIN == 0 {
			return
		}
		var n notification
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), requestReceive, uintptr(unsafe.Pointer(&n))); errno != 0 {
			continue // the program was killed, or got a signal
		}
		r := response{id: n.id, flags: goOn}
		if f := d.fail.Load(); f != nil && (*f)() {
			d.failed.Add(1)
			r = response{id: n.id, err: -int32(unix.EIO)}
		}
		_, _, _ = unix.Syscall(unix.SYS_IOCTL, uintptr(fd), requestSend, uintptr(unsafe.Pointer(&r)))
	}
}

// Become turns a process that was started through a [Disk] into the program, and returns
// in any other.
func Become() {
	program := os.Getenv(programVariable)
	if program == "" {
		return
	}
	runtime.LockOSThread()
	if err := become(program); err != nil {
		fmt.Fprintln(os.Stderr, "syncfault:", err)
		os.Exit(1)
	}
}

func become(program string) error {
	conn, err := net.Dial("unix", os.Getenv(socketVariable))
	if err != nil {
		return err
	}
	listener, err := filter()
	if err != nil {
		return err
	}
	if _, _, err := conn.(*net.UnixConn).WriteMsgUnix([]byte{0}, unix.UnixRights(listener), nil); err != nil {
		return err
	}
	unix.CloseOnExec(listener)
	for _, name := range []string{programVariable, socketVariable} {
		if err := os.Unsetenv(name); err != nil {
			return err
		}
	}
	return syscall.Exec(program, append([]string{program}, os.Args[1:]...), os.Environ())
}

// filter has this thread, and what it becomes, ask about fsync and fdatasync.
func filter() (listener int, err error) {
	const (
		load, equal, end = 0x20, 0x15, 0x06 // BPF_LD|BPF_W|BPF_ABS, BPF_JMP|BPF_JEQ|BPF_K, BPF_RET|BPF_K
		ask, allow       = 0x7fc00000, 0x7fff0000
		setFilter        = 1
		newListener      = 1 << 3
	)
	program := []unix.SockFilter{
		{Code: load, K: 0}, // the call's number
		{Code: equal, Jt: 1, K: unix.SYS_FSYNC},
		{Code: equal, Jf: 1, K: unix.SYS_FDATASYNC},
		{Code: end, K: ask},
		{Code: end, K: allow},
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return 0, err
	}
	fprog := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	fd, _, errno := unix.Syscall(unix.SYS_SECCOMP, setFilter, newListener, uintptr(unsafe.Pointer(&fprog)))
	if errno != 0 {
		return 0, fmt.Errorf("seccomp: %w", errno)
	}
	return int(fd), nil
}
