package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"filippo.io/age"
	"github.com/google/uuid"

	"github.com/sidevault/sidevault/vault/seal"
)

// What a data directory holds.
const (
	defaultDataDir = "/var/lib/sidevault"
	vaultFile      = "vault.db"
	identityFile   = "identity.txt"
	trustFile      = "vault.pub"
	adminKeyFile   = "admin.key" // of a development vault
)

// defaultOrg is the org of a vault that is made without naming one.
const defaultOrg = "default"

// checkDataDir refuses a directory that would not keep a vault to its owner.
func checkDataDir(dir string) error {
	info, err := os.Lstat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return failf(exitError, "data directory %s does not exist", dir).hinted("sidevault init --data-dir %s", quoted(dir))
	case err != nil:
		return failf(exitError, "data directory").because(err)
	case info.Mode()&fs.ModeSymlink != 0:
		return failf(exitError, "data directory %s is a symbolic link", dir).hinted("give the path that it points to")
	case !info.IsDir():
		return failf(exitError, "%s is not a directory", dir).hinted("name a directory with --data-dir")
	case info.Mode().Perm()&0o077 != 0:
		return failf(exitError, "data directory %s is accessible to others (mode %04o)", dir, info.Mode().Perm()).
			hinted("chmod 700 %s", quoted(dir))
	}
	return nil
}

// readPrivate reads a small file that must be its owner's alone.
func readPrivate(what, path string, limit int64) ([]byte, error) {
	// Without NONBLOCK a pipe that nobody writes to would be waited for.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, err
	case errors.Is(err, syscall.ELOOP):
		return nil, failf(exitError, "%s %s is a symbolic link", what, path).hinted("give the path that it points to")
	case err != nil:
		return nil, failf(exitError, "%s", what).because(err)
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, failf(exitError, "%s", what).because(err)
	case !info.Mode().IsRegular():
		return nil, failf(exitError, "%s %s is not a regular file", what, path)
	case info.Mode().Perm()&readableByOthers(path) != 0:
		return nil, failf(exitError, "%s %s is accessible to others (mode %04o)", what, path, info.Mode().Perm()).
			hinted("chmod 600 %s", quoted(path))
	}
	data, err := readLimited(f, limit)
	if err != nil {
		return nil, failf(exitError, "%s", what).because(err)
	}
	return data, nil
}

// readableByOthers returns the permissions that a private file may not have. What
// systemd hands over (LoadCredential=) is in a directory that nobody else may enter,
// and its entry for the user in the access control list shows as the group's.
func readableByOthers(path string) fs.FileMode {
	if dir := os.Getenv(credentialsVariable); dir != "" && filepath.Dir(path) == filepath.Clean(dir) {
		return 0o037
	}
	return 0o077
}

// missing is the failure of a file that is not there.
func missing(format string, args ...any) *failure {
	f := failf(exitError, format, args...)
	f.err = fs.ErrNotExist
	return f
}

const maxIdentityFile = 64 << 10

// readIdentity returns the root identities in a file.
func readIdentity(path string, ask seal.Prompts) ([]age.Identity, error) {
	const what = "identity file"
	data, err := readPrivate(what, path, maxIdentityFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, missing("%s %s does not exist", what, path).
			hinted("restore it from its backup, or name another with --identity; without it the vault cannot be opened")
	}
	if err != nil {
		return nil, err
	}
	defer clear(data)
	ids, err := seal.ReadIdentities(data, ask)
	if _, said := errors.AsType[*failure](err); said {
		return nil, err
	}
	if errors.Is(err, seal.ErrPassphrase) {
		return nil, failf(exitDenied, "%s %s", what, path).because(err).hinted("nothing was changed; try again")
	}
	if err != nil {
		return nil, failf(exitError, "%s %s", what, path).because(err).hinted("name an age identity file with --identity")
	}
	return ids, nil
}

// The trust anchor ties this host to one vault, whoever can write the storage.
//
//	# comment
//	VAULT-UUID CONTROL-RECIPIENT

// trustAnchor is what vault.pub holds.
type trustAnchor struct{ vaultID, recipient string }

func (a trustAnchor) String() string {
	return fmt.Sprintf("# The vault that this host trusts: its ID and the public half of its control key. Not secret; keep it with the identity.\n%s %s\n",
		a.vaultID, a.recipient)
}

func readTrust(path string) (trustAnchor, error) {
	const what = "trust anchor"
	data, err := readPrivate(what, path, maxIdentityFile)
	if errors.Is(err, fs.ErrNotExist) {
		return trustAnchor{}, missing("%s %s does not exist", what, path).
			hinted("restore it from the backup of the vault: it says which vault this host trusts")
	}
	if err != nil {
		return trustAnchor{}, err
	}
	for line := range strings.Lines(string(data)) {
		f := strings.Fields(line)
		if len(f) == 0 || strings.HasPrefix(f[0], "#") {
			continue
		}
		if len(f) == 2 && uuid.Validate(f[0]) == nil {
			if _, err := seal.ParseRecipient(f[1]); err == nil {
				return trustAnchor{vaultID: f[0], recipient: f[1]}, nil
			}
		}
		break
	}
	return trustAnchor{}, failf(exitError, "%s %s does not hold a vault's ID and recipient", what, path).
		hinted("restore it from the backup of the vault")
}

// writePrivate creates a file for its owner alone, and returns when it is on the
// disk. It never replaces one, and leaves none behind when it fails.
func writePrivate(path string, data []byte) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(path))
		}
	}()
	_, err = f.Write(data)
	return errors.Join(err, f.Sync(), f.Close())
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// quoted returns a path as a POSIX shell takes it.
func quoted(s string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-+:@%,=", r)
	}
	if s != "" && strings.IndexFunc(s, func(r rune) bool { return !plain(r) }) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// lockDir keeps other processes that lock the directory out until release, or
// until this one dies.
func lockDir(dir string) (release func() error, err error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(d.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d.Close, nil
}
