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
	born    time.Time

	farewells atomic.Int64

	mu   sync.Mutex
	open map[*connection]bool
}

// connection is one that is served. Each request notes in it when it begins and ends.
type connection struct {
	net.Conn
	idle atomic.Int64 // since when, by the clock of connections; 0: it is not
}

// NetConn returns the connection itself, as that of [tls.Conn] does.
func (c *connection) NetConn() net.Conn { return c.Conn }

// CloseWrite is for net/http, which would otherwise take an answer back by closing.
func (c *connection) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

func newConnections(limit int, registry prometheus.Registerer) *connections {
	c := &connections{limit: limit, born: time.Now(), open: map[*connection]bool{}, refused: prometheus.NewCounter(prometheus.CounterOpts{
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

// clock is the time since there are connections. It is never 0 and never jumps.
func (c *connections) clock() time.Duration { return time.Since(c.born) + 1 }

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
		if admitted := l.connections.admit(conn); admitted != nil {
			return admitted, nil
		}
		l.connections.refuse(conn, l.encrypted)
	}
}

// admit returns nil when there is no room for the connection, and none could be made.
func (c *connections) admit(conn net.Conn) net.Conn {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.clock()
	if len(c.open) >= c.limit && !c.makeRoom(now) {
		return nil
	}
	admitted := &connection{Conn: conn}
	admitted.idle.Store(int64(now))
	c.open[admitted] = true
	return admitted
}

// makeRoom closes the connection that has been idle longest, if that is long enough. It
// looks at all of them, so that requests, of which there are more, need only note when
// they end.
func (c *connections) makeRoom(now time.Duration) bool {
	var longest *connection
	least := int64(now - restless)
	for conn := range c.open {
		if since := conn.idle.Load(); since != 0 && since <= least {
			longest, least = conn, since
		}
	}
	if longest == nil {
		return false
	}
	delete(c.open, longest)
	longest.Close()
	c.refused.Inc()
	return true
}

func (c *connections) remove(conn *connection) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.open, conn)
}

// changed is the ConnState of an [http.Server].
func (c *connections) changed(conn net.Conn, state http.ConnState) {
	if encrypted, ok := conn.(*tls.Conn); ok {
		conn = encrypted.NetConn()
	}
	served, ok := conn.(*connection)
	if !ok {
		return // it was not counted
	}
	switch state {
	case http.StateActive:
		served.idle.Store(0)
	case http.StateIdle:
		served.idle.Store(int64(c.clock()))
	case http.StateClosed, http.StateHijacked:
		c.remove(served)
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
