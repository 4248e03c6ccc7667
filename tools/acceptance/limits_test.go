package acceptance

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/sidevault/sidevault/tools/acceptance/sidecar"
)

// TestConnectionsAreLimited takes all connections: with those that are idle nobody is
// kept out, with those that have a request under way others are told to come again.
func TestConnectionsAreLimited(t *testing.T) {
	t.Parallel()
	const limit = 16
	s := binary.Serve(t, "--limits-connections", fmt.Sprint(limit), "--watch-limit", "8", "--limits-header-timeout", "1h", "--limits-read-timeout", "1h")
	fresh := func() (*sidecar.Answer, error) {
		transport := &http.Transport{DisableKeepAlives: true}
		return sidecar.NewClient(t, s.URL, s.AdminKey, transport).Try(http.MethodGet, "/v1/whoami", nil)
	}
	for range limit {
		dial(t, s)
	}
	until(t, "a place that one without a request had", func() bool {
		answer, err := fresh()
		return err == nil && answer.Status == http.StatusOK
	})
	var last interface{ Close() error }
	for range limit {
		conn := dial(t, s)
		fmt.Fprint(conn, "GET /healthz HTTP/1.1\r\nX-")
		last = conn
	}
	var refused *sidecar.Answer
	until(t, "a connection too many", func() bool {
		answer, err := fresh()
		if err == nil && answer.Status != http.StatusOK {
			refused = answer
		}
		return refused != nil
	})
	refused.Fails(http.StatusTooManyRequests, "RATE_LIMITED")
	if refused.Header.Get("Retry-After") == "" || refused.Header.Get("X-Request-Id") == "" {
		t.Error("the refusal does not say when to try again, or has no ID")
	}
	last.Close()
	until(t, "the place of one that has ended", func() bool {
		answer, err := fresh()
		return err == nil && answer.Status == http.StatusOK
	})
	if o := binary.Run(t, "", nil, "serve", "--dev", "--limits-connections", "100", "--watch-limit", "100"); o.Code == 0 || !strings.Contains(o.Stderr, "watch.limit") {
		t.Errorf("watches may take all connections: %d, %s", o.Code, o.Stderr)
	}
}

// dial connects until the test ends, or before.
func dial(t *testing.T, s *sidecar.Sidecar) net.Conn {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", strings.TrimPrefix(s.URL, "http://"))
	must(t, err)
	context.AfterFunc(t.Context(), func() { conn.Close() })
	return conn
}
