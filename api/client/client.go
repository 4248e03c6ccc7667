// Package client talks to a running sidecar over its HTTP API, for programs
// written in Go and for Sidevault's own command line.
//
// It refuses to follow redirects, to send a token over a network in clear, and
// to read answers without bound. It keeps no state besides connections: nothing
// is cached, and a secret is a [secret.Value] from the moment it is read.
package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"github.com/sidevault/sidevault/vault/secret"
)

// DefaultAddress is where a sidecar listens unless it is told otherwise.
const DefaultAddress = "http://127.0.0.1:8271"

const (
	defaultTimeout = 30 * time.Second
	defaultRetries = 2
	unixPrefix     = "unix://"
)

// Config is what a [Client] needs.
type Config struct {
	// Address of the sidecar: http://host:port (loopback only),
	// https://host:port, or unix:///path.sock.
	Address string
	// Token is the API key. It may be empty for Health and Ready.
	Token secret.Value
	Options
}

// Options are the optional parts of a [Config].
type Options struct {
	UserAgent string        // default: Go's
	Timeout   time.Duration // of one call, retries included; default 30 s
	// Retries is how often a call is repeated where that is safe; default 2,
	// negative for never. See [Client].
	Retries int
	TLS     *tls.Config // of https addresses; default: the system's roots
}

// Client calls one sidecar. Its methods may be called concurrently.
//
// Each method returns what the API answered, an [*Error] when the sidecar
// refused, or an [*UnreachableError] when it could not be asked. A call is
// repeated when the connection was refused, since nothing was sent; one that only
// reads also when the sidecar answers 503 with a Retry-After of a few seconds.
type Client struct {
	http    *http.Client
	base    string // of URLs
	address string // as it was given
	token   secret.Value
	agent   string
	timeout time.Duration
	retries int
}

// New returns a client. It does not connect.
func New(cfg Config) (*Client, error) {
	c := &Client{
		address: cfg.Address, token: cfg.Token, agent: cfg.UserAgent, timeout: cfg.Timeout, retries: cfg.Retries,
	}
	if c.timeout == 0 {
		c.timeout = defaultTimeout
	}
	if c.retries == 0 {
		c.retries = defaultRetries
	}
	if !sendable(cfg.Token.Reveal()) {
		return nil, errors.New("the token holds a character that no API key has: it is one line, without spaces")
	}
	transport := &http.Transport{
		TLSClientConfig: cfg.TLS, ForceAttemptHTTP2: true, MaxIdleConnsPerHost: 16, IdleConnTimeout: time.Minute,
		MaxResponseHeaderBytes: maxHeader,
	}
	var err error
	if c.base, err = dial(transport, cfg.Address); err != nil {
		return nil, err
	}
	c.http = &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return c, nil
}

// Close closes the idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// sendable reports whether a token fits into a header as it is.
func sendable(token string) bool {
	return !strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' })
}

// dial checks the address, makes the transport connect to it, and returns what
// URLs begin with.
func dial(t *http.Transport, address string) (base string, err error) {
	if path, ok := strings.CutPrefix(address, unixPrefix); ok {
		if !filepath.IsAbs(path) {
			return "", fmt.Errorf("the address %q has no absolute path, as in unix:///run/sidevault/sidevault.sock", address)
		}
		t.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		}
		return "http://localhost", nil
	}
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || strings.Trim(u.Path, "/") != "" {
		return "", errors.New("the address is not http://host:port, https://host:port or unix:///path.sock")
	}
	switch {
	case u.Scheme == "https", u.Scheme == "http" && loopback(u.Hostname()):
		return u.Scheme + "://" + u.Host, nil
	case u.Scheme == "http":
		return "", fmt.Errorf("the address %s would send secrets over the network in clear: use https://", address)
	}
	return "", fmt.Errorf("the address %s is neither http, https nor unix", address)
}

func loopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.IsLoopback()
}
