package acceptance

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/sidevault/sidevault/tools/acceptance/sidecar"
)

// inNamespace is set in a process that has namespaces of its own.
const inNamespace = "SIDEVAULT_TEST_NAMESPACE"

// onSmallDisk runs a test with a file system of its own that holds size bytes, in
// a mount namespace that ends with the test. It takes root, or user namespaces;
// without both the test is skipped.
func onSmallDisk(t *testing.T, size int, test func(dir string)) {
	t.Helper()
	if os.Geteuid() != 0 && os.Getenv(inNamespace) == "" {
		asRoot(t)
		return
	}
	// The thread has the namespace, and ends with the goroutine that keeps it;
	// so do the processes that it starts.
	runtime.LockOSThread()
	if err := syscall.Unshare(syscall.CLONE_FS | syscall.CLONE_NEWNS); err != nil {
		t.Skipf("no mount namespace: %v", err)
	}
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		t.Skipf("no private mounts: %v", err)
	}
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d,mode=0700", size)); err != nil {
		t.Skipf("no tmpfs: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	test(dir)
}

// asRoot runs the test again as the root of a user namespace.
func asRoot(t *testing.T) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), inNamespace+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}},
	}
	out, err := cmd.CombinedOutput()
	if _, ran := errors.AsType[*exec.ExitError](err); err != nil && !ran {
		t.Skipf("no user namespace: %v", err)
	}
	if err != nil {
		t.Errorf("%v:\n%s", err, out)
	}
	if strings.Contains(string(out), "--- SKIP") {
		t.Skipf("in a user namespace:\n%s", out)
	}
}

// vaultIn makes a vault and moves it to a directory.
func vaultIn(t *testing.T, dir string) *sidecar.Vault {
	t.Helper()
	v := binary.Init(t)
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"identity.txt", "vault.pub", "vault.db"} {
		content, err := os.ReadFile(v.File(name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	v.Dir = dir
	return v
}

const (
	smallDisk = 2 << 20
	ballast   = smallDisk * 3 / 4
)

var padding = strings.Repeat("x", 8000)

func TestFullDisk(t *testing.T) {
	t.Parallel()
	onSmallDisk(t, smallDisk, func(dir string) {
		filler := filepath.Join(dir, "ballast")
		if err := os.WriteFile(filler, make([]byte, ballast), 0o600); err != nil {
			t.Fatal(err)
		}
		s := vaultIn(t, filepath.Join(dir, "data")).Start(t)
		f := fillDisk(t, s.Admin())
		f.wantsKept(t, s.Admin())
		f.fill(t, s.Admin())
		if !strings.Contains(s.Log(), "no space left on device") {
			t.Error("the log does not say that the disk is full")
		}
		if err := os.Remove(filler); err != nil {
			t.Fatal(err)
		}
		setNamed(s.Admin(), f.refused, "with room again").Wants(http.StatusCreated)
		f.kept[f.refused] = "with room again"
		f.wantsKept(t, s.Admin())
		s.Stop()
		if o := verifyOffline(t, s.Vault); o.Code != 0 {
			t.Errorf("audit verify ended with %d: %s%s", o.Code, o.Stdout, o.Stderr)
		}
		f.wantsKept(t, s.Vault.Start(t).Admin())
	})
}

// filled is what was acknowledged before a disk was full, by the slot's name, and
// the name that was refused last.
type filled struct {
	kept    map[string]string
	refused string
	n       int // names that were tried
}

func named(path, name string) string { return path + "&name=" + name }

func setNamed(c *sidecar.Client, name, secret string) *sidecar.Answer {
	return c.Put(named(slot("sftp", "production"), name), value(secret))
}

// fillDisk sets credentials until one is refused.
func fillDisk(t *testing.T, c *sidecar.Client) filled {
	t.Helper()
	f := filled{kept: map[string]string{}}
	f.fill(t, c)
	return f
}

// fill sets credentials until one is refused, with what to do, and leaves nothing. One
// refusal does not mean that the next set is refused, too: whether it fits depends on
// the pages that the last commits have left free, and on those that refused ones had
// taken from the disk already and that stay the file's.
func (f *filled) fill(t *testing.T, c *sidecar.Client) {
	t.Helper()
	for range smallDisk / len(padding) {
		name := fmt.Sprintf("n%d", f.n)
		f.n++
		answer := setNamed(c, name, name+padding)
		if answer.Status == http.StatusCreated {
			f.kept[name] = name + padding
			continue
		}
		failure := answer.Fails(http.StatusServiceUnavailable, "BACKEND_UNAVAILABLE")
		if !strings.Contains(failure.Error.Details, "nothing was changed") || answer.Header.Get("Retry-After") == "" {
			t.Errorf("the refusal does not say that nothing was changed and when to try again: %+v", failure.Error)
		}
		c.Get(named(resolve("sftp", "production"), name)).Fails(http.StatusNotFound, "CREDENTIAL_NOT_FOUND")
		f.refused = name
		return
	}
	t.Fatal("the disk does not get full")
}

// wantsKept fails the test unless all that was acknowledged is served.
func (f filled) wantsKept(t *testing.T, c *sidecar.Client) {
	t.Helper()
	if len(f.kept) < 10 {
		t.Fatalf("only %d sets before the disk was full", len(f.kept))
	}
	for name, secret := range f.kept {
		wantsSecret(t, c, named(resolve("sftp", "production"), name), secret, "production")
	}
}

func TestReadOnlyFileSystem(t *testing.T) {
	t.Parallel()
	onSmallDisk(t, smallDisk, func(dir string) {
		v := vaultIn(t, filepath.Join(dir, "data"))
		if err := syscall.Mount("", dir, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
			t.Fatal(err)
		}
		o := binary.Run(t, "", nil, "serve", "--data-dir", v.Dir, "--listen", "127.0.0.1:0", "--environments", sidecar.Environments)
		said := strings.Split(strings.TrimSpace(o.Stderr), "\n")
		if o.Code == 0 || len(said) > 2 || !strings.HasPrefix(said[0], "sidevault: ") || !strings.Contains(o.Stderr, "read-only") {
			t.Errorf("serve ended with %d and says, not in one line and a hint, that the file system is read-only:\n%s", o.Code, o.Stderr)
		}
	})
}
