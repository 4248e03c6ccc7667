package main

import (
	"bytes"
	ordered "container/list"
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
	// sendBuffer bounds what the system keeps for a client that does not read.
	sendBuffer = 128 << 10
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

	mu   sync.Mutex
	open map[net.Conn]*connection
	idle *ordered.List // of those between requests, the longest first
}

type connection struct {
	conn  net.Conn
	since time.Time        // it has been idle
	place *ordered.Element // nil: it is not idle
}

func newConnections(limit int, registry prometheus.Registerer) *connections {
	c := &connections{limit: limit, open: map[net.Conn]*connection{}, idle: ordered.New(), refused: prometheus.NewCounter(prometheus.CounterOpts{
		Name: "sidevault_connections_refused_total", Help: "Connections that were refused or closed because there were too many.",
	})}
	registry.MustRegister(c.refused, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "sidevault_connections", Help: "Connections that are open.",
	}, func() float64 { return float64(c.count()) }))
	return c
}

func (c *connections) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.open)
}

// around returns the listener with its connections counted.
func (c *connections) around(l net.Listener, encrypted bool) net.Listener {
	return &limitedListener{Listener: l, connections: c, encrypted: encrypted}
}

type limitedListener struct {
	net.Listener
	connections *connections
	encrypted   bool
}

func (l *limitedListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if buffered, ok := conn.(interface{ SetWriteBuffer(int) error }); ok {
			// A system that refuses has a bound of its own.
			_ = buffered.SetWriteBuffer(sendBuffer)
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
	if len(c.open) >= c.limit && !c.makeRoom(now) {
		return false
	}
	held := &connection{conn: conn, since: now}
	held.place = c.idle.PushBack(held)
	c.open[conn] = held
	return true
}

func (c *connections) makeRoom(now time.Time) bool {
	longest := c.idle.Front()
	if longest == nil || now.Sub(longest.Value.(*connection).since) < restless {
		return false
	}
	held := longest.Value.(*connection)
	c.idle.Remove(longest)
	delete(c.open, held.conn)
	held.conn.Close()
	c.refused.Inc()
	return true
}

// changed is the ConnState of an [http.Server].
func (c *connections) changed(conn net.Conn, state http.ConnState) {
	if encrypted, ok := conn.(*tls.Conn); ok {
		conn = encrypted.NetConn()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	held, ok := c.open[conn]
	if !ok || state == http.StateNew {
		return
	}
	if held.place != nil {
		c.idle.Remove(held.place)
		held.place = nil
	}
	switch state {
	case http.StateIdle:
		held.since = time.Now()
		held.place = c.idle.PushBack(held)
	case http.StateClosed, http.StateHijacked:
		delete(c.open, conn)
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
