// Package load loads an HTTP/1.1 server over keep-alive connections and measures how
// long it takes to answer.
//
// It shares its processors with the server, so it is light rather than general: each
// connection is a goroutine that writes a request made beforehand and reads just
// enough of the answer to know its status and its end. It sends the next request when
// it has the answer (a closed loop) and refuses answers with another status than
// expected.
package load

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"time"
)

// Target is what is loaded.
type Target struct {
	Network, Address string   // as for net.Dial
	Requests         [][]byte // whole requests, one of which is drawn at random each time
	Status           int      // of every answer
}

// Result is what one load measured.
type Result struct {
	Requests int
	Elapsed  time.Duration
	Latency  Histogram
	// Processor is the processor time that the server took, for whoever knows it to fill in.
	Processor time.Duration
}

// PerSecond is the rate of answers.
func (r Result) PerSecond() float64 { return float64(r.Requests) / r.Elapsed.Seconds() }

// Run loads the target over that many connections for that long.
func Run(ctx context.Context, t Target, connections int, d time.Duration) (Result, error) {
	conns := make([]*conn, connections)
	for i := range conns {
		c, err := new(net.Dialer).DialContext(ctx, t.Network, t.Address)
		if err != nil {
			return Result{}, err
		}
		defer c.Close()
		// Nothing that is measured takes this long: it is here to end a hang.
		if err := c.SetDeadline(time.Now().Add(d + time.Minute)); err != nil {
			return Result{}, err
		}
		conns[i] = &conn{Conn: c, target: t, random: rand.New(rand.NewPCG(uint64(i), rand.Uint64())), buffer: make([]byte, 8<<10)}
	}
	start := time.Now()
	var wg sync.WaitGroup
	for _, c := range conns {
		wg.Go(func() { c.err = c.run(start.Add(d)) })
	}
	wg.Wait()
	result := Result{Elapsed: time.Since(start)}
	var errs []error
	for _, c := range conns {
		errs = append(errs, c.err)
		result.Latency.add(&c.latency)
	}
	result.Requests = int(result.Latency.total)
	return result, errors.Join(errs...)
}

type conn struct {
	net.Conn
	target  Target
	random  *rand.Rand
	buffer  []byte
	latency Histogram
	err     error
}

func (c *conn) run(until time.Time) error {
	for at := time.Now(); at.Before(until); {
		request := c.target.Requests[c.random.IntN(len(c.target.Requests))]
		if _, err := c.Write(request); err != nil {
			return err
		}
		if err := c.read(); err != nil {
			return err
		}
		now := time.Now()
		c.latency.record(now.Sub(at))
		at = now
	}
	return nil
}

// read reads one answer to its end.
func (c *conn) read() error {
	for n := 0; ; {
		if n == len(c.buffer) {
			c.buffer = append(c.buffer, make([]byte, n)...)
		}
		more, err := c.Conn.Read(c.buffer[n:])
		if n += more; err != nil {
			return err
		}
		if whole, err := complete(c.buffer[:n], c.target.Status); whole || err != nil {
			return err
		}
	}
}

var (
	endOfHead     = []byte("\r\n\r\n")
	contentLength = []byte("\r\nContent-Length: ")
	endOfChunks   = []byte("\r\n0\r\n\r\n")
)

// complete reports whether the bytes are a whole answer of that status. A chunked
// body is taken to end where its last chunk can stand: JSON holds no CR LF.
func complete(answer []byte, status int) (bool, error) {
	end := bytes.Index(answer, endOfHead)
	if end < 0 {
		return false, nil
	}
	head, body := answer[:end+2], answer[end+len(endOfHead):]
	if got := statusOf(head); got != status {
		// The body can hold a secret.
		return false, fmt.Errorf("the server answered with status %d, not %d", got, status)
	}
	at := bytes.Index(head, contentLength)
	if at < 0 {
		return bytes.HasSuffix(answer, endOfChunks), nil
	}
	digits := head[at+len(contentLength):]
	length, err := strconv.Atoi(string(digits[:bytes.IndexByte(digits, '\r')]))
	if err != nil {
		return false, errors.New("the server sent a Content-Length that is no number")
	}
	return len(body) >= length, nil
}

// statusOf reads the status of a head such as "HTTP/1.1 200 OK", 0 when there is none.
func statusOf(head []byte) int {
	if len(head) < len("HTTP/1.1 200") {
		return 0
	}
	status, _ := strconv.Atoi(string(head[9:12]))
	return status
}
