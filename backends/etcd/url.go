package etcd

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	scheme        = "etcd://"
	defaultPort   = "2379"
	defaultPrefix = "/sidevault"
	maxPrefix     = 128 // what the largest batch leaves room for in a request
	maxPassword   = 4096
)

// password is a string that package fmt prints the address of, also inside a struct.
type password struct{ text *string }

func (p password) reveal() string {
	if p.text == nil {
		return ""
	}
	return *p.text
}

// target is what a URL says. Its errors quote the URL nowhere, since it may hold a
// password.
type target struct {
	hosts       []string // host:port
	prefix      layout
	user        string
	password    password
	tls         bool
	ca          string
	cert, key   string
	dialTimeout time.Duration
}

// parse reads etcd://USER:PASSWORD@HOST:PORT,HOST:PORT/PREFIX?PARAMETERS by hand:
// package url takes no list of hosts.
func parse(s string) (target, error) {
	rest, ok := strings.CutPrefix(s, scheme)
	if !ok {
		return target{}, errors.New("it does not begin with " + scheme)
	}
	t := target{prefix: defaultPrefix}
	rest, query, _ := strings.Cut(rest, "?")
	authority, folder, _ := strings.Cut(rest, "/")
	if i := strings.LastIndexByte(authority, '@'); i >= 0 {
		if err := t.parseUser(authority[:i]); err != nil {
			return target{}, err
		}
		authority = authority[i+1:]
	}
	if folder != "" {
		t.prefix = layout("/" + strings.TrimSuffix(folder, "/"))
	}
	if !validPrefix(string(t.prefix)) {
		return target{}, fmt.Errorf("the prefix is not 1 to %d of A-Z a-z 0-9 . _ - and / between them", maxPrefix)
	}
	for host := range strings.SplitSeq(authority, ",") {
		if err := t.addHost(host); err != nil {
			return target{}, err
		}
	}
	return t, t.parseQuery(query)
}

func (t *target) parseUser(info string) error {
	name, secret, _ := strings.Cut(info, ":")
	user, err := url.PathUnescape(name)
	if err != nil || user == "" {
		return errors.New("the user before the @ is empty or not percent-encoded")
	}
	pass, err := url.PathUnescape(secret)
	if err != nil {
		return errors.New("the password is not percent-encoded: write % as %25, @ as %40")
	}
	t.user, t.password = user, password{&pass}
	return nil
}

func (t *target) addHost(s string) error {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		host, port = strings.TrimSuffix(strings.TrimPrefix(s, "["), "]"), defaultPort
	}
	if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 || host == "" || strings.ContainsAny(host, "@/[] %") {
		return errors.New("a host is not HOST or HOST:PORT, as in etcd://h1:2379,h2:2379/prefix")
	}
	t.hosts = append(t.hosts, net.JoinHostPort(host, port))
	return nil
}

func validPrefix(prefix string) bool {
	foreign := func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._-/", r))
	}
	return len(prefix) > 1 && len(prefix) <= maxPrefix && !strings.ContainsFunc(prefix, foreign) && path.Clean(prefix) == prefix
}

func (t *target) parseQuery(query string) error {
	values, err := url.ParseQuery(query)
	if err != nil {
		return errors.New("the parameters after the ? are not percent-encoded")
	}
	for name, v := range values {
		if len(v) != 1 {
			return fmt.Errorf("the parameter %s is given twice", name)
		}
		if err := t.parameter(name, v[0]); err != nil {
			return err
		}
	}
	if (t.cert == "") != (t.key == "") {
		return errors.New("cert= and key= go together")
	}
	if t.password.reveal() != "" && t.user == "" || t.user != "" && t.password.reveal() == "" && t.cert == "" {
		return errors.New("a user needs a password and a password a user: name a file with the password in password-file=")
	}
	if given := values.Get("tls"); given == "false" && t.tls {
		return errors.New("tls=false does not go with ca=, cert= and key=")
	}
	return nil
}

func (t *target) parameter(name, value string) error {
	var err error
	switch name {
	case "tls":
		on, err := strconv.ParseBool(value)
		if err != nil {
			return errors.New("tls= is neither true nor false")
		}
		t.tls = t.tls || on
	case "ca":
		t.ca, t.tls = value, true
	case "cert":
		t.cert, t.tls = value, true
	case "key":
		t.key, t.tls = value, true
	case "dial-timeout":
		if t.dialTimeout, err = time.ParseDuration(value); err != nil || t.dialTimeout <= 0 {
			return errors.New("dial-timeout= is no duration, as in 2s")
		}
	case "password-file":
		return t.readPassword(value)
	default:
		known := []string{"tls", "ca", "cert", "key", "dial-timeout", "password-file"}
		slices.Sort(known)
		return fmt.Errorf("there is no parameter %q: the known ones are %s", name, strings.Join(known, ", "))
	}
	return nil
}

func (t *target) readPassword(file string) error {
	if t.password.reveal() != "" {
		return errors.New("the password is given in the URL and in a file")
	}
	info, err := os.Stat(file)
	switch {
	case err != nil:
		return fmt.Errorf("password-file: %w", err)
	case !info.Mode().IsRegular() || info.Size() > maxPassword:
		return fmt.Errorf("password-file: %s is no small regular file", file)
	case info.Mode().Perm()&0o077 != 0:
		return fmt.Errorf("password-file: %s is accessible to others (mode %04o): chmod 600 it", file, info.Mode().Perm())
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("password-file: %w", err)
	}
	pass := strings.TrimRight(string(text), "\r\n")
	t.password = password{&pass}
	if pass == "" {
		return fmt.Errorf("password-file: %s is empty", file)
	}
	return nil
}
