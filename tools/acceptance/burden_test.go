package acceptance

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sidevault/sidevault/tools/acceptance/sidecar"
)

// burden is a kind of bad clients. carry returns when all of them are at it; they go on
// until the context ends.
type burden struct {
	name  string
	carry func(ctx context.Context, t *testing.T, l *loaded, done *sync.WaitGroup)
}

var burdens = []burden{
	{"half-open", halfOpen},
	{"idle", idle},
	{"slow headers", slowHeaders},
	{"slow bodies", slowBodies},
	{"slow readers", slowReaders},
	{"header flood", headerFlood},
	{"body flood", bodyFlood},
	{"watchers", watchers},
	{"blocked plugin", blockedPlugin},
}

// tries is how many times a second, all together, bad clients begin anew. More would
// measure who gets the machine's processors, of which they and the readers have as much
// need as the sidecar.
const tries = 500

// again waits until a bad client is to begin anew.
func (l *loaded) again(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(time.Duration(l.of.senders) * time.Second / tries):
	}
}

func (l *loaded) address() string { return strings.TrimPrefix(l.s.URL, "http://") }

// dial connects until the context ends.
func (l *loaded) dial(ctx context.Context, t *testing.T) net.Conn {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", l.address())
	if err != nil {
		if ctx.Err() == nil {
			t.Errorf("connect: %v", err)
		}
		return nil
	}
	context.AfterFunc(ctx, func() { conn.Close() })
	return conn
}

// head is the head of a request of the admin's.
func (l *loaded) head(method, path string, more ...string) string {
	return fmt.Sprintf("%s %s HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer %s\r\n%s", method, path, l.s.AdminKey, strings.Join(more, ""))
}

// halfOpen connects and sends nothing.
func halfOpen(ctx context.Context, t *testing.T, l *loaded, _ *sync.WaitGroup) {
	for range l.of.connections {
		l.dial(ctx, t)
	}
}

// idle connects, has one request answered, and keeps the connection.
func idle(ctx context.Context, t *testing.T, l *loaded, _ *sync.WaitGroup) {
	for range l.of.connections {
		conn := l.dial(ctx, t)
		if conn == nil {
			return
		}
		fmt.Fprint(conn, l.head(http.MethodGet, "/v1/whoami", "\r\n"))
		if resp, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil || resp.StatusCode != http.StatusOK {
			t.Errorf("a request of one that is idle later: %v", err)
		}
	}
}

// each keeps so many clients at something that the server cuts off, one after the
// other, and fails the test when it cuts off none.
func (l *loaded) each(ctx context.Context, t *testing.T, done *sync.WaitGroup, client func(net.Conn)) {
	var cut atomic.Int64
	for range l.of.senders {
		done.Go(func() {
			for ctx.Err() == nil {
				if conn := l.dial(ctx, t); conn != nil {
					client(conn)
					conn.Close()
					cut.Add(1)
				}
				l.again(ctx)
			}
		})
	}
	until(t, "clients that are cut off", func() bool { return int(cut.Load()) >= l.of.senders })
}

// dribble sends a byte now and then until it is not let any more.
func dribble(conn net.Conn) {
	for {
		if _, err := conn.Write([]byte("x")); err != nil {
			return
		}
		// What is said meanwhile, or the end, ends the wait.
		_ = conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		if n, err := conn.Read(make([]byte, 512)); n > 0 || err == io.EOF {
			return
		}
	}
}

func slowHeaders(ctx context.Context, t *testing.T, l *loaded, done *sync.WaitGroup) {
	l.each(ctx, t, done, func(conn net.Conn) {
		fmt.Fprint(conn, "GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX-")
		dribble(conn)
	})
}

func slowBodies(ctx context.Context, t *testing.T, l *loaded, done *sync.WaitGroup) {
	l.each(ctx, t, done, func(conn net.Conn) {
		fmt.Fprint(conn, l.head(http.MethodPut, slot("slack", "staging"), "Content-Type: application/json\r\nContent-Length: 250000\r\n\r\n"))
		dribble(conn)
	})
}

// slowReaders ask for more than the system keeps for them, and do not read.
func slowReaders(ctx context.Context, t *testing.T, l *loaded, done *sync.WaitGroup) {
	request := []byte(strings.Repeat(l.head(http.MethodGet, "/openapi.yaml", "\r\n"), 50))
	l.each(ctx, t, done, func(conn net.Conn) {
		_ = conn.(*net.TCPConn).SetReadBuffer(4 << 10)
		_, _ = conn.Write(request)
		// The server resets what it could not send; until then there is room for more.
		for ctx.Err() == nil {
			_ = conn.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
			if _, err := conn.Write(request); err != nil && !timedOut(err) {
				return
			}
		}
	})
}

func timedOut(err error) bool {
	n, ok := err.(net.Error)
	return ok && n.Timeout()
}

func headerFlood(ctx context.Context, t *testing.T, l *loaded, done *sync.WaitGroup) {
	line := bytes.Repeat([]byte("X-Flood: "+strings.Repeat("x", 1000)+"\r\n"), 64)
	var refused atomic.Int64
	l.each(ctx, t, done, func(conn net.Conn) {
		fmt.Fprint(conn, "GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n")
		_, _ = conn.Write(line)
		if resp, err := http.ReadResponse(bufio.NewReader(conn), nil); err == nil && resp.StatusCode == http.StatusRequestHeaderFieldsTooLarge {
			refused.Add(1)
		}
	})
	if refused.Load() == 0 {
		t.Error("no flood of headers was refused by its name")
	}
}

func bodyFlood(ctx context.Context, t *testing.T, l *loaded, done *sync.WaitGroup) {
	part := bytes.Repeat([]byte("x"), 64<<10)
	var refused atomic.Int64
	l.each(ctx, t, done, func(conn net.Conn) {
		fmt.Fprint(conn, l.head(http.MethodPut, slot("slack", "staging"), "Content-Type: application/json\r\nContent-Length: 1000000000\r\n\r\n"))
		answered := make(chan struct{})
		go func() {
			defer close(answered)
			if resp, err := http.ReadResponse(bufio.NewReader(conn), nil); err == nil && resp.StatusCode == http.StatusRequestEntityTooLarge {
				refused.Add(1)
			}
		}()
		for {
			if _, err := conn.Write(part); err != nil {
				break
			}
		}
		<-answered
	})
	if refused.Load() == 0 {
		t.Error("no flood of a body was refused by its name")
	}
}

// watchers watch, as many as may, and see a change. One more is refused.
func watchers(ctx context.Context, t *testing.T, l *loaded, done *sync.WaitGroup) {
	var begun, seen atomic.Int64
	for range l.of.watchers {
		conn := l.dial(ctx, t)
		if conn == nil {
			return
		}
		done.Go(func() {
			fmt.Fprint(conn, l.head(http.MethodGet, "/v1/watch", "\r\n"))
			lines := bufio.NewReaderSize(conn, 512)
			for {
				line, _, err := lines.ReadLine()
				switch {
				case err != nil:
					return
				case bytes.HasPrefix(line, []byte(": alive")):
					begun.Add(1)
				case bytes.HasPrefix(line, []byte("event: set")):
					seen.Add(1)
				}
			}
		})
	}
	until(t, "all watches", func() bool { return int(begun.Load()) >= l.of.watchers })
	c := l.s.Admin()
	c.Get("/v1/watch").Fails(http.StatusTooManyRequests, "RATE_LIMITED")
	c.Put(slot("sftp", "staging"), value("x"))
	took := until(t, "a change at every watch", func() bool { return int(seen.Load()) >= l.of.watchers })
	t.Logf("%d watchers have seen a change after %v", l.of.watchers, took.Round(time.Millisecond))
	done.Go(func() { // and go on to be told of changes
		for ctx.Err() == nil {
			_, _ = c.Try(http.MethodPut, slot("sftp", "staging"), value("x"))
			time.Sleep(time.Second)
		}
	})
}

// blockedPlugin sets credentials whose validator hangs: each is refused at its deadline.
func blockedPlugin(ctx context.Context, t *testing.T, l *loaded, done *sync.WaitGroup) {
	var refused atomic.Int64
	transport := &http.Transport{MaxIdleConnsPerHost: l.of.senders}
	context.AfterFunc(ctx, transport.CloseIdleConnections)
	c := sidecar.NewClient(t, l.s.URL, l.s.AdminKey, transport)
	for range l.of.senders {
		done.Go(func() {
			for ctx.Err() == nil {
				answer, err := c.Try(http.MethodPut, slotOf("hang"), value("x"))
				if err != nil || answer.Status != http.StatusServiceUnavailable {
					t.Errorf("a set that waits for a plugin that hangs: %v", err)
					return
				}
				refused.Add(1)
				l.again(ctx)
			}
		})
	}
	until(t, "sets that are refused at the plugin's deadline", func() bool { return refused.Load() > 0 })
}
