// Package egress is how the bundled programs speak HTTP to the outside. Its client
// checks the address that a connection really goes to, after the name has been
// resolved, so that no name and no redirect leads into a network that nobody meant. It
// verifies TLS, follows no redirect to another origin, uses no proxy, keeps no
// connection, reads answers up to a limit, and describes failures without quoting the
// URL, which may hold a secret.
package egress

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strconv"
	"syscall"
	"time"
)

// MaxBody is how much of an answer is read, in bytes; of its header too.
const MaxBody = 64 << 10

const maxRedirects = 5

// Rules say where a client may connect to. The zero value permits public addresses.
type Rules struct {
	AllowPrivate bool // private networks and this host too; link-local and reserved ones never
	// LoopbackOnly permits this host alone: for what is not encrypted.
	LoopbackOnly bool
	// CAFile is a PEM file with the authorities to trust in place of the system's.
	CAFile string
	// FollowRedirects follows those within one scheme, host and port: any other would
	// carry the credential to somebody else.
	FollowRedirects bool
	Resolver        *net.Resolver // nil: the system's
}

// Client returns a client for these rules. It has no timeout but those of the requests'
// contexts.
func (r Rules) Client() (*http.Client, error) {
	roots, err := roots(r.CAFile)
	if err != nil {
		return nil, err
	}
	dialer := &net.Dialer{Resolver: r.Resolver, Control: r.control}
	return &http.Client{
		Transport: &http.Transport{
			// Without Proxy, the environment's proxies do not count: behind one, the
			// address that is checked would be the proxy's own.
			DialContext:     dialer.DialContext,
			TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots},
			// A connection belongs to one call and its rules. It also keeps net/http
			// from sending a request a second time by itself.
			DisableKeepAlives:      true,
			DisableCompression:     true,
			MaxResponseHeaderBytes: MaxBody,
		},
		CheckRedirect: r.redirect,
	}, nil
}

func roots(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("caFile: %w; list it under read of the plugin", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("caFile: %s holds no certificate in PEM", file)
	}
	return pool, nil
}

// RefusedError says that an address must not be connected to.
type RefusedError struct{ Reason string }

func (e *RefusedError) Error() string { return e.Reason }

// control sees every address that is about to be connected to.
func (r Rules) control(_, address string, _ syscall.RawConn) error {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return &RefusedError{"has an address that cannot be read"}
	}
	reach := reachOf(to.Addr())
	switch {
	case reach == never:
		return &RefusedError{"has a link-local, multicast or reserved address, which is never connected to"}
	case r.LoopbackOnly && reach != loopback:
		return &RefusedError{"is not on this host, and is not connected to without TLS: use https"}
	case reach != public && !r.AllowPrivate:
		return &RefusedError{"has a private address, which is not connected to unless allowPrivate is true"}
	}
	return nil
}

func (r Rules) redirect(next *http.Request, via []*http.Request) error {
	first := via[0].URL
	if !r.FollowRedirects || len(via) > maxRedirects || next.URL.Scheme != first.Scheme || next.URL.Host != first.Host {
		return http.ErrUseLastResponse
	}
	return nil
}

// Body reads an answer up to MaxBody and closes it; whole is false when there was more.
func Body(r *http.Response) (body []byte, whole bool, err error) {
	defer r.Body.Close()
	body, err = io.ReadAll(io.LimitReader(r.Body, MaxBody+1))
	if len(body) > MaxBody {
		return body[:MaxBody], false, err
	}
	return body, true, err
}

// Explain says what a failed request came to, as the rest of a sentence that begins
// with the other side. Errors of net/http quote URLs, and those of TLS what the other
// side sent, so nothing of the error's own text is in it.
func Explain(err error) string {
	if refused, ok := errors.AsType[*RefusedError](err); ok {
		return refused.Reason
	}
	_, dns := errors.AsType[*net.DNSError](err)
	var timeout net.Error
	switch {
	case errors.Is(err, context.Canceled):
		return "was not waited for: the call was cancelled"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return "did not answer in time"
	case dns:
		return "has a name that cannot be resolved"
	case untrusted(err):
		return "has a TLS certificate that cannot be verified"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "refuses connections"
	case unmade(err):
		return "cannot be connected to"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "closed the connection before it had answered"
	}
	return "did not give an answer in HTTP"
}

// Unsent reports whether the request of a failed call cannot have reached the other
// side, and may be better luck with another try: no connection was made.
func Unsent(err error) bool {
	_, refused := errors.AsType[*RefusedError](err)
	return !refused && unmade(err)
}

// Misconfigured reports whether another try fails in the same way until somebody
// changes something.
func Misconfigured(err error) bool {
	_, refused := errors.AsType[*RefusedError](err)
	return refused || untrusted(err)
}

func unmade(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == "dial"
}

func untrusted(err error) bool {
	_, verification := errors.AsType[*tls.CertificateVerificationError](err)
	_, plain := errors.AsType[tls.RecordHeaderError](err)
	return verification || plain
}

// RetryAfter reads that header of an answer, in seconds or as a date (RFC 9110,
// section 10.2.3). It is zero when there is none, and at most a day.
func RetryAfter(r *http.Response, now time.Time) time.Duration {
	text := r.Header.Get("Retry-After")
	if seconds, err := strconv.ParseUint(text, 10, 64); err == nil {
		return time.Duration(min(seconds, 24*60*60)) * time.Second
	}
	if at, err := http.ParseTime(text); err == nil {
		return min(max(at.Sub(now).Round(time.Second), 0), 24*time.Hour)
	}
	return 0
}

// IsPlain reports whether a URL asks for HTTP without TLS; it must be one of http or
// https, with a host.
func IsPlain(u *url.URL) (plain bool, err error) {
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return false, errors.New("the URL must begin with https:// or http://")
	case u.Hostname() == "":
		return false, errors.New("the URL names no host")
	case u.User != nil:
		return false, errors.New("the URL must not hold a user or password")
	case u.Fragment != "":
		return false, errors.New("the URL must not have a fragment (#)")
	}
	return u.Scheme == "http", nil
}
