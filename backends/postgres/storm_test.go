package postgres

import (
	"context"
	"errors"
	"io"
	"net"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sidevault/sidevault/backends"
	"github.com/sidevault/sidevault/backends/testserver"
)

// gate is the way to a server. While it is shut, who comes is counted and sent away;
// while it is mute, who comes gets no answer.
type gate struct {
	net.Listener
	server string
	shut   atomic.Bool
	mute   atomic.Bool
	turned atomic.Int64
}

func newGate(t *testing.T, server string) *gate {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{Listener: l, server: server}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			if g.shut.Load() {
				g.turned.Add(1)
				c.Close()
				continue
			}
			go g.pass(c)
		}
	}()
	return g
}

func (g *gate) pass(c net.Conn) {
	defer c.Close()
	if g.mute.Load() {
		io.Copy(io.Discard, c)
		return
	}
	s, err := net.Dial("tcp", g.server)
	if err != nil {
		return
	}
	defer s.Close()
	go func() {
		io.Copy(s, c)
		s.Close()
	}()
	io.Copy(c, s)
}

// openThroughGate opens a new vault by way of a gate.
func openThroughGate(t *testing.T, s *testserver.PostgresServer) (database string, g *gate, b *Backend) {
	t.Helper()
	database, g = s.NewDatabase(t), newGate(t, s.Address())
	u, err := url.Parse(s.URL(database, testserver.PostgresOwner))
	if err != nil {
		t.Fatal(err)
	}
	u.Host = g.Addr().String()
	return database, g, open(t, u.String(), nil)
}

// TestCancelUnsent ends the context of a commit for which there is no connection yet:
// it is known not to have been applied.
func TestCancelUnsent(t *testing.T) {
	s := testserver.Postgres(t)
	database, g, b := openThroughGate(t, s)
	g.mute.Store(true)
	s.Admin(t, "postgres", "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '"+database+"'")
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	start := time.Now()
	_, err := b.Commit(ctx, put("a", 0, "x"))
	if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, backends.ErrUnknownOutcome) {
		t.Errorf("Commit: %v", err)
	}
	if took := time.Since(start); took > defaultCallTimeout/2 {
		t.Errorf("Commit took %v beyond a deadline of 0.2 s", took)
	}
	_, err = b.Commit(t.Context(), put("b", 0, "x"))
	if !errors.Is(err, backends.ErrUnavailable) {
		t.Fatalf("Commit without a deadline: %v", err)
	}
	checkLine(t, err, "did not answer in time")
	if took := time.Since(start); took > 2*defaultCallTimeout {
		t.Errorf("two commits took %v", took)
	}
	g.mute.Store(false)
	if rev, err := b.Commit(t.Context(), put("c", 0, "x")); err != nil || rev != 1 {
		t.Errorf("Commit afterwards: revision %d, %v", rev, err)
	}
}

// TestNoRetryStorm shuts the way to the server under a handle that watches: the
// listener comes back with growing pauses, calls dial once, and all is well again
// when the way is open.
func TestNoRetryStorm(t *testing.T) {
	s := testserver.Postgres(t)
	database, g, b := openThroughGate(t, s)
	events, err := b.Watch(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Commit(t.Context(), put("a", 0, "x")); err != nil {
		t.Fatal(err)
	}
	<-events
	g.shut.Store(true)
	s.Admin(t, "postgres", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '"+database+"'")
	time.Sleep(3 * time.Second)
	// pgx itself comes a second time for each connection that broke, to cancel
	// what that was doing.
	if n := g.turned.Load(); n < 2 || n > 16 {
		t.Errorf("the listener came %d times in 3 seconds, want 2 to 16", n)
	}
	before := g.turned.Load()
	for range 10 {
		start := time.Now()
		if _, err := b.Get(t.Context(), "a"); !errors.Is(err, backends.ErrUnavailable) {
			t.Errorf("Get: %v", err)
		}
		if _, err := b.Commit(t.Context(), put("b", 0, "x")); !errors.Is(err, backends.ErrUnavailable) {
			t.Errorf("Commit: %v", err)
		}
		if took := time.Since(start); took > defaultCallTimeout/2 {
			t.Errorf("two calls took %v to fail", took)
		}
	}
	if n := g.turned.Load() - before; n > 2*20+2 {
		t.Errorf("20 calls came %d times", n)
	}
	g.shut.Store(false)
	rev, err := b.Commit(t.Context(), put("b", 0, "x"))
	if err != nil {
		t.Fatal(err)
	}
	select {
	case e := <-events:
		if e.Revision != rev {
			t.Errorf("got %v, want revision %d", e, rev)
		}
	case <-time.After(20 * time.Second):
		t.Error("the listener did not come back")
	}
}

// TestServerSaysNothing opens a vault on a server that lets in and then hangs.
func TestServerSaysNothing(t *testing.T) {
	s := testserver.StartPostgres(t, testserver.PostgresConfig{NoSync: true})
	at := s.URL(s.NewDatabase(t), testserver.PostgresOwner)
	open(t, at, nil)
	s.Pause()
	defer s.Resume()
	refused(t, at, "did not answer in time", s.Password(testserver.PostgresOwner))
}
