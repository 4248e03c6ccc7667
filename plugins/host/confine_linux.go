package host

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"syscall"

	"github.com/landlock-lsm/go-landlock/landlock"
	ll "github.com/landlock-lsm/go-landlock/landlock/syscall"
	"golang.org/x/sys/unix"
)

// canConfine reports whether the kernel has Landlock.
func canConfine() bool {
	version, err := ll.LandlockGetABIVersion()
	return err == nil && version >= 1
}

// confine turns this process into the plugin. What it cannot do, it tells the host
// through the status pipe, which is closed unused when the plugin begins.
func confine() int {
	status := os.NewFile(statusFD, "status")
	err := becomePlugin()
	fmt.Fprintf(status, "%v", err)
	return exitNotRun
}

func becomePlugin() error {
	// Descriptors that the sidecar itself inherited could have come all the way here.
	if err := unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return fmt.Errorf("cannot be given closed descriptors: %w", err)
	}
	var s spec
	if err := json.NewDecoder(os.NewFile(lifeFD, "instructions")).Decode(&s); err != nil {
		return errors.New("got no instructions: the sidecar is gone")
	}
	if err := os.Chdir(s.Dir); err != nil {
		return fmt.Errorf("cannot enter its working directory: %w", err)
	}
	syscall.Umask(0o077)
	if err := limit(); err != nil {
		return fmt.Errorf("cannot be given limits: %w", err)
	}
	if s.Confine {
		if err := restrict(s); err != nil {
			return fmt.Errorf("cannot be confined: %w", err)
		}
	}
	if err := dropPrivileges(s); err != nil {
		return fmt.Errorf("cannot be stripped of privileges: %w", err)
	}
	// Set last: changing the user resets it.
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return fmt.Errorf("cannot be tied to its supervisor: %w", err)
	}
	if os.Getppid() != s.Parent {
		return errors.New("has lost its supervisor")
	}
	err := syscall.Exec(s.Path, append([]string{s.Path}, s.Args...), s.Env)
	return notRun(s, err)
}

func notRun(s spec, err error) error {
	switch {
	case errors.Is(err, syscall.ENOEXEC):
		return fmt.Errorf("cannot be run: %s is neither a program for this machine nor a script with an interpreter", s.Path)
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("cannot be run: the interpreter or loader that %s names is missing", s.Path)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("cannot be run: its user or the sandbox does not let it run %s or the interpreter that it names; list the interpreter's path under read", s.Path)
	}
	return fmt.Errorf("cannot be run: %w", err)
}

func limit() error {
	// When memory is short, the plugin is to go, and not who watches over it.
	os.WriteFile("/proc/self/oom_score_adj", []byte("500"), 0)
	var errs []error
	for resource, most := range map[int]uint64{unix.RLIMIT_CORE: 0, unix.RLIMIT_NOFILE: 1024, unix.RLIMIT_FSIZE: 64 << 20} {
		var now unix.Rlimit
		errs = append(errs, unix.Getrlimit(resource, &now))
		most = min(most, now.Max)
		errs = append(errs, unix.Setrlimit(resource, &unix.Rlimit{Cur: most, Max: most}))
	}
	return errors.Join(errs...)
}

// dropPrivileges leaves no way up: neither capabilities nor set-user-ID programs.
func dropPrivileges(s spec) error {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	if s.Strip && os.Geteuid() == 0 {
		for c := uintptr(0); ; c++ {
			if err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0); errors.Is(err, unix.EINVAL) {
				break // past the last one that this kernel knows
			} else if err != nil && !errors.Is(err, unix.EPERM) {
				return err
			}
		}
	}
	if s.User.Set {
		if err := errors.Join(syscall.Setgroups(s.User.Groups), syscall.Setgid(s.User.GID), syscall.Setuid(s.User.UID)); err != nil {
			return err
		}
	}
	if !s.Strip {
		return nil
	}
	unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) // unknown before Linux 4.3
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	return unix.Capset(&header, &none[0])
}

// What every program may read and run: where the system keeps programs and libraries.
// Not /opt, /home or /var, where the sidecar's own files may be.
var systemDirs = []string{"/usr", "/lib", "/lib32", "/lib64", "/libx32", "/bin", "/sbin"}

// What every program may read: what resolving names, TLS, users, time zones, the
// loader and the interpreters of Python and Node.js need. Not all of /etc, which has
// keys and passwords.
var systemFiles = []string{
	"/etc/resolv.conf", "/etc/hosts", "/etc/host.conf", "/etc/nsswitch.conf", "/etc/gai.conf", "/etc/services", "/etc/protocols",
	"/run/systemd/resolve", "/run/resolvconf", "/run/NetworkManager",
	"/etc/ssl/certs", "/etc/ssl/cert.pem", "/etc/ssl/openssl.cnf", "/etc/ca-certificates", "/etc/crypto-policies",
	"/etc/pki/tls/certs", "/etc/pki/tls/cert.pem", "/etc/pki/tls/openssl.cnf", "/etc/pki/ca-trust/extracted",
	"/etc/passwd", "/etc/group", "/etc/localtime", "/etc/timezone", "/etc/locale.alias", "/etc/os-release", "/etc/mime.types",
	"/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/ld.so.preload", "/etc/ld-musl-x86_64.path", "/etc/ld-musl-aarch64.path",
	"/etc/alternatives", "/etc/python3",
	"/dev/urandom", "/dev/random",
	"/proc/self", "/proc/meminfo", "/proc/cpuinfo", "/proc/stat", "/proc/loadavg", "/proc/uptime", "/proc/version", "/proc/filesystems",
	"/proc/sys/kernel", "/proc/sys/vm", "/proc/sys/net/core/somaxconn",
	"/sys/devices/system/cpu", "/sys/fs/cgroup", "/sys/kernel/mm/transparent_hugepage",
}

// restrict puts the process into a Landlock domain of its own. Network is not
// restricted: a validator asks its provider. Signals and abstract sockets are, where
// the kernel can (ABI 6); sockets in the file system from ABI 9.
func restrict(s spec) error {
	const (
		readFile = landlock.AccessFSSet(ll.AccessFSReadFile)
		readDir  = readFile | landlock.AccessFSSet(ll.AccessFSReadDir)
		write    = readDir | ll.AccessFSWriteFile | ll.AccessFSTruncate | ll.AccessFSRemoveDir | ll.AccessFSRemoveFile |
			ll.AccessFSMakeDir | ll.AccessFSMakeReg | ll.AccessFSMakeSock | ll.AccessFSMakeFifo | ll.AccessFSMakeSym
	)
	rules := []landlock.Rule{
		landlock.RODirs(systemDirs...).IgnoreIfMissing(),
		landlock.RWFiles("/dev/null", "/dev/zero").IgnoreIfMissing(),
		landlock.PathAccess(write, s.Dir),
		landlock.PathAccess(ll.AccessFSReadDir, s.List...),
	}
	for _, path := range systemFiles {
		access := readFile
		if info, err := os.Stat(path); err != nil {
			continue // not on this system
		} else if info.IsDir() {
			access = readDir
		}
		rules = append(rules, landlock.PathAccess(access, path).IgnoreIfMissing())
	}
	for _, path := range s.Read {
		info, err := os.Stat(path)
		switch {
		case err != nil:
			return fmt.Errorf("there is no %s to be read", path)
		case info.IsDir():
			rules = append(rules, landlock.RODirs(path))
		default:
			rules = append(rules, landlock.ROFiles(path))
		}
	}
	config, err := landlock.NewConfig(landlock.V11.HandledAccessFS, landlock.V11.Scoped)
	if err != nil {
		return err
	}
	return config.BestEffort().Restrict(rules...)
}
