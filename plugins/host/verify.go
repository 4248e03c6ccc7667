package host

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// fault is what keeps a program from being started until a person mends it. Its
// text begins with a verb, as vault.PluginError.Reason does.
type fault string

// Error returns the text.
func (f fault) Error() string { return string(f) }

func faultf(format string, args ...any) error { return fault(fmt.Sprintf(format, args...)) }

// sums remembers the checksums of files for as long as they look the same.
type sums map[string]struct {
	look string
	sum  string
}

// verify checks the program and its files, and returns the program's SHA-256 as far
// as it could be read. Known sums are used where the file looks as it did; nil: every
// file is read.
func (p *Program) verify(known sums) (sum string, err error) {
	info, err := checkFile(p.Path)
	if err != nil {
		return "", err
	}
	if info.Mode().Perm()&0o111 == 0 {
		return "", faultf("is not executable: chmod +x %s", p.Path)
	}
	sum, err = checkSum(p.Path, info, p.SHA256, known)
	if err != nil {
		return sum, err
	}
	for _, path := range slices.Sorted(maps.Keys(p.Files)) {
		info, err := checkFile(path)
		if err != nil {
			return sum, err
		}
		if _, err := checkSum(path, info, p.Files[path], known); err != nil {
			return sum, err
		}
	}
	return sum, nil
}

// checkFile demands a regular file that nobody but root and the sidecar's user can
// change or replace.
func checkFile(path string) (fs.FileInfo, error) {
	real, err := filepath.EvalSymlinks(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, faultf("is missing: %s", path)
	}
	if err != nil {
		return nil, faultf("cannot be read: %s", path)
	}
	info, err := os.Lstat(real)
	if err != nil {
		return nil, faultf("is missing: %s", path)
	}
	if !info.Mode().IsRegular() {
		return nil, faultf("is not a regular file: %s", path)
	}
	if err := checkOwner(real, info); err != nil {
		return nil, err
	}
	for _, p := range []string{path, real} {
		if err := checkParents(p); err != nil {
			return nil, err
		}
	}
	return info, nil
}

func checkParents(path string) error {
	for dir := filepath.Dir(path); ; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err != nil {
			return faultf("cannot be read: %s", dir)
		}
		if err := checkOwner(dir, info); err != nil {
			return err
		}
		if dir == filepath.Dir(dir) {
			return nil
		}
	}
}

func checkOwner(path string, info fs.FileInfo) error {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return faultf("has an owner that this system does not tell: %s", path)
	}
	if stat.Uid != 0 && int(stat.Uid) != os.Geteuid() {
		return faultf("can be changed by other users: %s belongs to user %d, not to root or to the sidecar's user", path, stat.Uid)
	}
	sticky := info.IsDir() && info.Mode()&fs.ModeSticky != 0
	if info.Mode().Perm()&0o022 != 0 && !sticky {
		return faultf("can be changed by other users: chmod go-w %s", path)
	}
	return nil
}

func checkSum(path string, info fs.FileInfo, want string, known sums) (string, error) {
	stat := info.Sys().(*syscall.Stat_t) // checkOwner has seen it
	look := fmt.Sprint(info.Size(), info.ModTime().UnixNano(), stat.Dev, stat.Ino)
	got := known[path].sum
	if known == nil || known[path].look != look {
		var err error
		if got, err = fileSum(path); err != nil {
			return "", faultf("cannot be read: %s", path)
		}
	}
	if known != nil {
		entry := known[path]
		entry.look, entry.sum = look, got
		known[path] = entry
	}
	if want != "" && !strings.EqualFold(got, want) {
		return got, faultf("has another checksum than the configured one: %s has sha256 %s, not %s", path, got, want)
	}
	return got, nil
}

func fileSum(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// identity is the user that a program runs as; the zero identity is the sidecar's.
type identity struct {
	Set    bool
	UID    int
	GID    int
	Groups []int
}

// identity looks the program's user up.
func (p *Program) identity() (identity, error) {
	if p.User == "" {
		return identity{}, nil
	}
	u, err := user.Lookup(p.User)
	if err != nil {
		return identity{}, faultf("runs as the user %s, who does not exist on this host", p.User)
	}
	id := identity{Set: true}
	if id.UID, err = strconv.Atoi(u.Uid); err != nil {
		return identity{}, faultf("runs as the user %s, whose ID is not a number", p.User)
	}
	if id.GID, err = strconv.Atoi(u.Gid); err != nil {
		return identity{}, faultf("runs as the user %s, whose group is not a number", p.User)
	}
	if id.UID == os.Geteuid() {
		return identity{}, nil
	}
	if os.Geteuid() != 0 || runtime.GOOS != "linux" {
		return identity{}, faultf("runs as the user %s, which takes a sidecar that runs as root on Linux", p.User)
	}
	id.Groups = []int{id.GID}
	return id, nil
}

// reach demands that the user can get to a directory.
func (id identity) reach(dir string) error {
	for ; id.Set && dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err != nil {
			return faultf("has no working directory: %s is missing", dir)
		}
		stat, ok := info.Sys().(*syscall.Stat_t)
		through := fs.FileMode(0o001)
		switch {
		case ok && int(stat.Uid) == id.UID:
			through = 0o100
		case ok && int(stat.Gid) == id.GID:
			through = 0o010
		}
		if info.Mode()&through == 0 {
			return faultf("runs as user %d, who cannot enter %s: chmod +x it for that user, or set another directory for plugins", id.UID, dir)
		}
	}
	return nil
}

// sumCache serves States, which must not read every file at every call.
type sumCache struct {
	mu    sync.Mutex
	known sums
	at    time.Time
	sum   string
	err   error
}

// look returns what inspect does, and how that program's file looks.
func (c *sumCache) look(p *program) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.known == nil {
		c.known = sums{}
	}
	if time.Since(c.at) >= p.host.tun.recheck {
		c.sum, _, c.err = p.inspect(c.known)
		c.at = time.Now()
	}
	return c.sum, c.err
}

// forget makes the next look a fresh one.
func (c *sumCache) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.known, c.at = nil, time.Time{}
}
