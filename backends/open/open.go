// Package open turns the URL of a storage into the backend that it names. It is the
// one place that knows all engines; it adds nothing to them.
//
//	bbolt:///var/lib/sidevault/vault.db        one file, one process
//	postgres://USER@HOST/DATABASE?PARAMETERS   see package postgres; postgresql:// too
//	etcd://H1:2379,H2:2379/PREFIX?PARAMETERS   see package etcd
//	memory:                                    gone with the process
package open

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"path/filepath"
	"strings"

	"github.com/sidevault/sidevault/backends"
	"github.com/sidevault/sidevault/backends/bbolt"
	"github.com/sidevault/sidevault/backends/etcd"
	"github.com/sidevault/sidevault/backends/memory"
	"github.com/sidevault/sidevault/backends/postgres"
)

// The schemes of the URLs.
const (
	Bbolt    = "bbolt"
	Postgres = "postgres"
	Etcd     = "etcd"
	Memory   = "memory"
)

// Options are what a URL does not say. The zero value is the default.
type Options struct {
	// Create makes a bbolt file that is not there; an existing one is opened.
	// The other engines begin empty storage by themselves.
	Create bool

	// ReadOnly opens a bbolt file for inspection, beside other readers. The other
	// engines have no such mode.
	ReadOnly bool
}

// Open opens the storage that the URL names. Its error is one line, says what to do,
// and holds no password.
func Open(ctx context.Context, url string, o Options) (backends.Backend, error) {
	scheme, err := Scheme(url)
	if err != nil {
		return nil, err
	}
	switch scheme {
	case Bbolt:
		return either(openFile(url, o))
	case Postgres:
		return either(postgres.Open(ctx, url, nil))
	case Etcd:
		return either(etcd.Open(ctx, url, nil))
	}
	return memory.New(), nil
}

// either keeps an engine's nil pointer from becoming a backend that is not nil.
func either[B backends.Backend](b B, err error) (backends.Backend, error) {
	if err != nil {
		return nil, err
	}
	return b, nil
}

// Scheme returns which engine the URL names: one of the constants.
func Scheme(url string) (string, error) {
	scheme, rest, _ := strings.Cut(url, ":")
	switch {
	case scheme == Memory && rest == "":
		return Memory, nil
	case scheme == Memory:
		return "", errors.New("storage in memory has the URL memory: and no more")
	case !strings.HasPrefix(rest, "//"):
		return "", errors.New("the storage is no URL, as in bbolt:///var/lib/sidevault/vault.db")
	case scheme == "postgresql":
		return Postgres, nil
	case scheme == Bbolt || scheme == Postgres || scheme == Etcd:
		return scheme, nil
	}
	return "", fmt.Errorf("there is no storage %.20q: use bbolt://, postgres:// or etcd://", scheme)
}

// Shared tells whether several processes may use the storage at a time.
func Shared(scheme string) bool { return scheme == Postgres || scheme == Etcd }

// Path returns the file of a bbolt URL.
func Path(s string) (string, error) {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != Bbolt || u.Host != "" || u.User != nil || !filepath.IsAbs(u.Path) || u.RawQuery != "" || u.Fragment != "" {
		return "", errors.New("a bbolt URL has an absolute path and no more, as in bbolt:///var/lib/sidevault/vault.db")
	}
	return filepath.Clean(u.Path), nil
}

func openFile(url string, o Options) (*bbolt.Backend, error) {
	path, err := Path(url)
	if err != nil {
		return nil, err
	}
	b, err := bbolt.Open(path, &bbolt.Options{ReadOnly: o.ReadOnly})
	if !o.Create || !errors.Is(err, fs.ErrNotExist) {
		return b, err
	}
	if err := bbolt.Create(path); err != nil {
		return nil, err
	}
	return bbolt.Open(path, nil)
}

const redacted = "<redacted>"

// Redact returns the URL as it may be logged: without its password, and without
// anything of which it is not certain that it holds none.
func Redact(url string) string {
	scheme, rest, ok := strings.Cut(url, "://")
	if !ok || strings.ContainsFunc(scheme, func(r rune) bool { return !letter(r) }) {
		if url == Memory+":" {
			return url
		}
		return redacted
	}
	// A password that is not percent-encoded may hold any of : / ? # @ itself.
	if i := strings.LastIndexByte(rest, '@'); i >= 0 {
		user, _, secret := strings.Cut(rest[:i], ":")
		if strings.ContainsFunc(user, func(r rune) bool { return !letter(r) }) {
			user = redacted
		}
		if secret {
			user += ":" + redacted
		}
		rest = user + "@" + rest[i+1:]
	}
	rest, _, _ = strings.Cut(rest, "#")
	place, query, ok := strings.Cut(rest, "?")
	if !ok {
		return scheme + "://" + place
	}
	params := strings.FieldsFunc(query, func(r rune) bool { return r == '&' || r == ';' })
	for i, p := range params {
		params[i] = redactParameter(p)
	}
	return scheme + "://" + place + "?" + strings.Join(params, "&")
}

// redactParameter keeps the values of parameters that name no secret, or the file of
// one.
func redactParameter(p string) string {
	name, _, given := strings.Cut(p, "=")
	lower := strings.ToLower(name)
	if !given || strings.Contains(name, "%") {
		return redacted
	}
	for _, secret := range []string{"pass", "secret", "token"} {
		if strings.Contains(lower, secret) && !strings.HasSuffix(lower, "file") {
			return name + "=" + redacted
		}
	}
	return p
}

func letter(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._-", r)
}
