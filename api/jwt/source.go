package jwt

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"time"
)

// readTimeout is how long reading a key set may take.
const readTimeout = 5 * time.Second

func isURL(place string) bool { return strings.Contains(place, "://") }

func fileReader(path string) func(context.Context) ([]byte, error) {
	return func(context.Context) ([]byte, error) {
		// Opening anything else could block.
		info, err := os.Stat(path)
		if err == nil && !info.Mode().IsRegular() {
			err = fmt.Errorf("read %s: not a file", path)
		}
		if err != nil {
			return nil, err
		}
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		return bounded(f, path)
	}
}

func bounded(r io.Reader, place string) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxSet+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxSet {
		return nil, fmt.Errorf("read %s: larger than %d bytes", place, maxSet)
	}
	return text, nil
}

// urlReader reads over https, and over http from this host alone: whoever can
// change the answer can make tokens. It follows no redirects, for the same reason.
func urlReader(place string) (func(context.Context) ([]byte, error), error) {
	u, err := url.Parse(place)
	if err != nil || u.Host == "" || u.User != nil || u.Fragment != "" {
		return nil, errors.New("the key set's URL is not one: as in https://id.example.com/keys, without a user")
	}
	if u.Scheme != "https" && !(u.Scheme == "http" && isLoopback(u.Hostname())) {
		return nil, errors.New("the key set's URL must be https, or http to a loopback address: whoever can change the keys can make tokens")
	}
	r := remote{place: place, host: u.Host, client: &http.Client{
		Timeout:       readTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: true,
			MaxIdleConns: 1, IdleConnTimeout: time.Minute, MaxResponseHeaderBytes: 16 << 10,
		},
	}}
	return r.read, nil
}

type remote struct {
	place, host string
	client      *http.Client
}

func (r remote) read(ctx context.Context) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.place, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/jwk-set+json, application/json")
	res, err := r.client.Do(req)
	if err != nil {
		// The client's own error quotes the URL, which may have a secret in its query.
		if wrapped, ok := errors.AsType[*url.Error](err); ok {
			err = wrapped.Err
		}
		return nil, fmt.Errorf("read the keys from %s: %w", r.host, err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("read the keys from %s: status %d", r.host, res.StatusCode)
	}
	return bounded(res.Body, r.host)
}

func isLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}
