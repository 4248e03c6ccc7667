package main

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sidevault/sidevault/api/codes"
	"github.com/sidevault/sidevault/api/wire"
	"github.com/sidevault/sidevault/vault"
)

const (
	// restless is how long a connection must have had nothing to say before another one
	// may take its place.
	restless = time.Second
	// sendBuffer bounds what the system keeps for a client that does not read, and
	// receiveBuffer what it takes of one that is not read any more: it would copy megabytes
	// for each that floods.
	sendBuffer    = 128 << 10
	receiveBuffer = 64 << 10
	// farewell is how long a connection that is refused has to take note of it, and
	// maxFarewells how many of them may do so at a time.
	farewell     = 500 * time.Millisecond
	maxFarewells = 64
)

// connections counts those that are open, and keeps them within a limit: at it, a new
// one takes the place of the one that has been idle longest and, when none is, is told
// to come again. Those who open connections and send nothing cannot keep others out.
type connections struct {
	limit   int
	refused prometheus.Counter

	farewells atomic.Int64

	mu   sync.Mutex // held by who adds or removes
	held atomic.Int64
	open sync.Map // of *connection, by net.Conn
}

type connection struct {
	// since is when it became idle, in nanoseconds of Unix time; 0: it is not.
	since atomic.Int64
}

func newConnections(limit int, registry prometheus.Registerer) *connections {
	c := &connections{limit: limit, refused: prometheus.NewCounter(prometheus.CounterOpts{
		Name: "sidevault_connections_refused_total", Help: "Connections that were refused or closed because there were too many.",
	})}
	registry.MustRegister(c.refused, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "sidevault_connections", Help: "Connections that are open.",
	}, func() float64 { return float64(c.count()) }))
	return c
}

func (c *connections) count() int { return int(c.held.Load()) }

// around returns the listener with its connections counted.
func (c *connections) around(l net.Listener, encrypted bool) net.Listener {
	return &limitedListener{Listener: l, connections: c, encrypted: encrypted}
}

type limitedListener struct {
	net.Listener
	connections *connections
	encrypted   bool
}

type buffered interface {
	SetReadBuffer(bytes int) error
	SetWriteBuffer(bytes int) error
}

func (l *limitedListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if buffered, ok := conn.(buffered); ok {
			// A system that refuses has bounds of its own.
			_, _ = buffered.SetWriteBuffer(sendBuffer), buffered.SetReadBuffer(receiveBuffer)
		}
		if l.connections.admit(conn, time.Now()) {
			return conn, nil
		}
		l.connections.refuse(conn, l.encrypted)
	}
}

// admit reports whether there is room for the connection, or some could be made.
func (c *connections) admit(conn net.Conn, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.count() >= c.limit && !c.makeRoom(now) {
		return false
	}
	held := &connection{}
	held.since.Store(now.UnixNano())
	c.open.Store(conn, held)
	c.held.Add(1)
	return true
}

// makeRoom closes the connection that has been idle longest, if that is long enough. It
// looks at all of them, so that requests, of which there are more, need only note when
// they end.
func (c *connections) makeRoom(now time.Time) bool {
	var longest net.Conn
	least := now.Add(-restless).UnixNano()
	c.open.Range(func(conn, held any) bool {
		if since := held.(*connection).since.Load(); since != 0 && since <= least {
			longest, least = conn.(net.Conn), since
		}
		return true
	})
	if longest == nil {
		return false
	}
	c.remove(longest)
	longest.Close()
	c.refused.Inc()
	return true
}

func (c *connections) remove(conn net.Conn) {
	if _, open := c.open.LoadAndDelete(conn); open {
		c.held.Add(-1)
	}
}

// changed is the ConnState of an [http.Server].
func (c *connections) changed(conn net.Conn, state http.ConnState) {
	if encrypted, ok := conn.(*tls.Conn); ok {
		conn = encrypted.NetConn()
	}
	switch state {
	case http.StateIdle, http.StateActive:
		if held, ok := c.open.Load(conn); ok {
			since := int64(0)
			if state == http.StateIdle {
				since = time.Now().UnixNano()
			}
			held.(*connection).since.Store(since)
		}
	case http.StateClosed, http.StateHijacked:
		c.remove(conn)
	}
}

// refuse says so to the client, where that takes no handshake, and closes.
func (c *connections) refuse(conn net.Conn, encrypted bool) {
	c.refused.Inc()
	if encrypted || c.farewells.Load() >= maxFarewells {
		conn.Close()
		return
	}
	c.farewells.Add(1)
	go func() {
		defer c.farewells.Add(-1)
		defer conn.Close()
		if conn.SetDeadline(time.Now().Add(farewell)) != nil {
			return
		}
		// An answer from before the request is none to most clients.
		if _, err := conn.Read(make([]byte, 1<<10)); err != nil || busy().Write(conn) != nil {
			return
		}
		// What the client has sent must be read: closing would otherwise take the answer
		// back.
		if half, ok := conn.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
			_, _ = io.Copy(io.Discard, io.LimitReader(conn, sendBuffer))
		}
	}()
}

// busy is the answer to a request that was not looked at.
func busy() *http.Response {
	const kind = vault.RateLimited
	id := uuid.NewString()
	body, err := json.Marshal(wire.Failure{
		Error: wire.Error{
			Code: strings.ToUpper(kind.String()), Message: "Too many connections",
			Details: "try again shortly, and close connections that are not in use",
		},
		RequestID: id, Timestamp: wire.Time(time.Now()),
	})
	if err != nil {
		body = nil // the status says it, too
	}
	return &http.Response{
		StatusCode: codes.Status(kind), ProtoMajor: 1, ProtoMinor: 1, Close: true,
		Header: http.Header{
			"Cache-Control": {"no-store"}, "Content-Type": {"application/json; charset=utf-8"}, "Retry-After": {"1"}, wire.HeaderRequestID: {id},
		},
		ContentLength: int64(len(body)), Body: io.NopCloser(bytes.NewReader(body)),
	}
}
