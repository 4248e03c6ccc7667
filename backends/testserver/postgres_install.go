package testserver

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
)

// postgresPrograms finds the directory of the server's programs, and installs them
// when that is possible.
func postgresPrograms() (string, error) {
	if dir, ok := findPostgres(); ok {
		return dir, nil
	}
	const advice = "initdb and postgres are neither on PATH nor under /usr/lib/postgresql: install PostgreSQL 14 or newer (apt-get install postgresql)"
	apt, err := exec.LookPath("apt-get")
	if os.Getuid() != 0 || err != nil {
		return "", errors.New(advice)
	}
	fmt.Fprintln(os.Stderr, "PostgreSQL is missing: running apt-get install -y postgresql")
	install := exec.Command(apt, "install", "-y", "--no-install-recommends", "postgresql")
	install.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
	if out, err := install.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%s: %w: %s", advice, err, out[max(0, len(out)-500):])
	}
	dir, ok := findPostgres()
	if !ok {
		return "", errors.New(advice)
	}
	return dir, nil
}

func findPostgres() (string, bool) {
	dirs := append(filepath.SplitList(os.Getenv("PATH")), "/usr/local/bin")
	installed, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	slices.Reverse(installed)
	for _, dir := range append(dirs, installed...) {
		if executable(filepath.Join(dir, "initdb")) && executable(filepath.Join(dir, "postgres")) {
			return dir, true
		}
	}
	return "", false
}

// giveAway gives the server's directory to the user that runs it: root's server
// runs as postgres or nobody.
func (s *PostgresServer) giveAway() error {
	if os.Getuid() != 0 {
		return nil
	}
	account, err := user.Lookup("postgres")
	if err != nil {
		account, err = user.Lookup("nobody")
	}
	if err != nil {
		return fmt.Errorf("PostgreSQL does not run as root, and there is no user postgres or nobody: %w", err)
	}
	uid, errUID := strconv.Atoi(account.Uid)
	gid, errGID := strconv.Atoi(account.Gid)
	if err := errors.Join(errUID, errGID); err != nil {
		return err
	}
	s.as = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	return filepath.WalkDir(s.dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, uid, gid)
	})
}
