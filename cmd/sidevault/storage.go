package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/sidevault/sidevault/backends"
	"github.com/sidevault/sidevault/backends/open"
	"github.com/sidevault/sidevault/vault/secret"
)

const (
	backendKey     = "backend"
	backendFileKey = "backend-file"
)

// storageKeys are the settings of the commands that open the storage themselves.
func storageKeys() []string { return []string{"data-dir", backendKey, backendFileKey, "identity"} }

// namesStorage reports whether the flags name a storage to work on, and no sidecar.
func namesStorage(flags *pflag.FlagSet) bool {
	return flags.Changed("data-dir") || flags.Changed(backendKey) || flags.Changed(backendFileKey)
}

// storageURL says where a vault is stored. The URL may hold a password; String is
// what may be shown.
type storageURL struct {
	scheme string
	path   string // of bbolt's file
	url    secret.Value
}

func (u storageURL) String() string {
	if u.path != "" {
		return open.Bbolt + "://" + u.path
	}
	return open.Redact(u.url.Reveal())
}

// shared reports whether other hosts may use the storage at the same time.
func (u storageURL) shared() bool { return open.Shared(u.scheme) }

// fileStorage is the storage in a file of bbolt's.
func fileStorage(path string) storageURL {
	u := url.URL{Scheme: open.Bbolt, Path: path}
	return storageURL{scheme: open.Bbolt, path: path, url: secret.New(u.String())}
}

func parseStorage(s string) (storageURL, error) {
	if s == "" {
		return storageURL{}, nil
	}
	scheme, err := open.Scheme(s)
	if err != nil {
		return storageURL{}, err
	}
	u := storageURL{scheme: scheme, url: secret.New(s)}
	if scheme == open.Bbolt {
		u.path, err = open.Path(s)
	}
	return u, err
}

// holdsPassword reports whether the URL holds something that is not to be shown.
func holdsPassword(u storageURL) bool {
	return u.shared() && open.Redact(u.url.Reveal()) != u.url.Reveal()
}

const maxBackendFile = 64 << 10

// readBackendFile reads a URL from a file that must be its owner's alone.
func readBackendFile(path string) (string, error) {
	data, err := readPrivate("the file of the storage's URL", path, maxBackendFile)
	if err != nil {
		return "", err
	}
	defer clear(data)
	line := strings.TrimSpace(string(data))
	if line == "" || strings.ContainsAny(line, "\r\n") {
		return "", fmt.Errorf("%s does not hold one line, the URL of the storage", path)
	}
	return line, nil
}

func applyBackendFile(c *settings, v []string) error {
	if v[0] == "" {
		return nil
	}
	if c.Storage.scheme != "" {
		return errors.New("backend is given too: give one of the two")
	}
	line, err := readBackendFile(v[0])
	if err != nil {
		return err
	}
	c.backendFile = v[0]
	c.Storage, err = parseStorage(line)
	return err
}

// keepSecret refuses a password where others can see it: every user sees the command
// lines of all processes.
func (c settings) keepSecret(flags *pflag.FlagSet, sh *shell, file configFile) error {
	if c.given[backendFileKey] || !holdsPassword(c.Storage) {
		return nil
	}
	if f := flags.Lookup(backendKey); f != nil && f.Changed {
		return passwordOnCommandLine("--"+backendKey, "--"+backendFileKey)
	}
	if sh.getenv(variablePrefix+"BACKEND") != "" {
		return nil
	}
	if others := file.mode.Perm(); others&0o077 != 0 {
		return usagef("%s: backend: the URL holds a password, and the file is accessible to others (mode %04o)", file.places[backendKey], others).
			hinted("chmod 600 %s, or put the URL into a file of mode 0600 and name it with %s", quoted(c.file), backendFileKey)
	}
	return nil
}

func passwordOnCommandLine(flag, instead string) error {
	return usagef("%s: the URL holds a password, or what may be one, and every user sees command lines", flag).
		hinted("put the URL into a file of mode 0600 and name it with %s FILE", instead)
}

// openStorage opens a storage. Its errors say which, and what to do.
func openStorage(ctx context.Context, u storageURL, o open.Options) (backends.Backend, error) {
	b, err := open.Open(ctx, u.url.Reveal(), o)
	switch {
	case err == nil:
		return b, nil
	case u.shared() && errors.Is(err, backends.ErrUnavailable):
		return nil, failf(exitUnavailable, "%s", err)
	}
	return nil, failf(exitError, "%s", err)
}

// Bounds of the cache's settings.
const (
	minCacheSize = 1 << 20
	maxCacheSize = 64 << 30
	maxMaxStale  = 24 * time.Hour
)

func applyCacheSize(c *settings, v []string) error {
	if v[0] == "" {
		return nil
	}
	n, err := parseBytes(v[0])
	if err != nil || n < minCacheSize || n > maxCacheSize {
		return fmt.Errorf("%q is not a number of bytes from 1MiB to 64GiB, as in 64MiB", v[0])
	}
	c.CacheSize = int(n)
	return nil
}

// parseBytes reads a whole number of bytes, KiB, MiB, GiB, kB, MB or GB.
func parseBytes(s string) (int64, error) {
	factor := int64(1)
	for _, unit := range []struct {
		name   string
		factor int64
	}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"kB", 1e3}, {"MB", 1e6}, {"GB", 1e9}} {
		if number, ok := strings.CutSuffix(s, unit.name); ok {
			s, factor = strings.TrimSpace(number), unit.factor
			break
		}
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err == nil && (n < 0 || n > maxCacheSize/factor) {
		err = strconv.ErrRange
	}
	return n * factor, err
}

func applyMaxStale(c *settings, v []string) error {
	d, err := time.ParseDuration(v[0])
	if err != nil || d < 0 || d > maxMaxStale {
		return fmt.Errorf("%q is not a duration from 0 to 24h", v[0])
	}
	c.MaxStale = d
	return nil
}
