package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"
)

// halfOpen connects and sends nothing.
func halfOpen(ctx context.Context, c *crowd) error {
	for range c.Connections {
		c.dial(ctx)
	}
	return nil
}

// idle connects, has one request answered, and keeps the connection.
func idle(ctx context.Context, c *crowd) error {
	for range c.Connections {
		conn := c.dial(ctx)
		if conn == nil {
			return nil
		}
		fmt.Fprint(conn, c.head(http.MethodGet, "/v1/whoami", "\r\n"))
		if resp, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil || resp.StatusCode != http.StatusOK {
			return fmt.Errorf("a request of one that is idle later: %w", err)
		}
	}
	return nil
}

// each keeps so many clients at something that the server cuts off, one after the
// other. It is an error when the server does not.
func (c *crowd) each(ctx context.Context, client func(net.Conn)) error {
	var cut atomic.Int64
	for range c.Senders {
		c.done.Go(func() {
			for ctx.Err() == nil {
				if conn := c.dial(ctx); conn != nil {
					client(conn)
					conn.Close()
					cut.Add(1)
				}
				c.again(ctx)
			}
		})
	}
	return c.until("clients that are cut off", func() bool { return int(cut.Load()) >= c.Senders })
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

func slowHeaders(ctx context.Context, c *crowd) error {
	return c.each(ctx, func(conn net.Conn) {
		fmt.Fprint(conn, "GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX-")
		dribble(conn)
	})
}

// slot is what the clients try to set.
const slot = "/v1/integrations/slack/credentials?environment=staging"

func slowBodies(ctx context.Context, c *crowd) error {
	return c.each(ctx, func(conn net.Conn) {
		fmt.Fprint(conn, c.head(http.MethodPut, slot, "Content-Type: application/json\r\nContent-Length: 250000\r\n\r\n"))
		dribble(conn)
	})
}

// slowReaders ask for more than the system keeps for them, and do not read.
func slowReaders(ctx context.Context, c *crowd) error {
	request := []byte(strings.Repeat(c.head(http.MethodGet, "/openapi.yaml", "\r\n"), 50))
	return c.each(ctx, func(conn net.Conn) {
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
	n, ok := errors.AsType[net.Error](err)
	return ok && n.Timeout()
}

func headerFlood(ctx context.Context, c *crowd) error {
	line := bytes.Repeat([]byte("X-Flood: "+strings.Repeat("x", 1000)+"\r\n"), 64)
	var refused atomic.Int64
	err := c.each(ctx, func(conn net.Conn) {
		fmt.Fprint(conn, "GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n")
		_, _ = conn.Write(line)
		if resp, err := http.ReadResponse(bufio.NewReader(conn), nil); err == nil && resp.StatusCode == http.StatusRequestHeaderFieldsTooLarge {
			refused.Add(1)
		}
	})
	if err == nil && refused.Load() == 0 {
		return errors.New("no flood of headers was refused by its name")
	}
	return err
}

func bodyFlood(ctx context.Context, c *crowd) error {
	part := bytes.Repeat([]byte("x"), 64<<10)
	var refused atomic.Int64
	err := c.each(ctx, func(conn net.Conn) {
		// What this end's system would take, megabytes of each, costs the machine that they
		// share as much as the flood itself.
		_ = conn.(*net.TCPConn).SetWriteBuffer(len(part))
		fmt.Fprint(conn, c.head(http.MethodPut, slot, "Content-Type: application/json\r\nContent-Length: 1000000000\r\n\r\n"))
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
	if err == nil && refused.Load() == 0 {
		return errors.New("no flood of a body was refused by its name")
	}
	return err
}

// watchers watch, and say so when all of them do, and when all have seen a change. The
// end of a watch is an error.
func watchers(ctx context.Context, c *crowd) error {
	var begun, seen atomic.Int64
	for range c.Watchers {
		conn := c.dial(ctx)
		if conn == nil {
			return nil
		}
		c.done.Go(func() {
			fmt.Fprint(conn, c.head(http.MethodGet, "/v1/watch", "\r\n"))
			lines := bufio.NewReaderSize(conn, 512)
			for {
				line, _, err := lines.ReadLine()
				switch {
				case err != nil && ctx.Err() == nil:
					c.fail("a watch ended: %w", err)
					return
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
	if err := c.until("all watches", func() bool { return int(begun.Load()) >= c.Watchers }); err != nil {
		return err
	}
	c.say("watching")
	return c.until("a change at every watch", func() bool { return int(seen.Load()) >= c.Watchers })
}

// blockedPlugin sets credentials whose validator hangs: each is refused at its deadline.
func blockedPlugin(ctx context.Context, c *crowd) error {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: c.Senders}}
	var refused atomic.Int64
	for range c.Senders {
		c.done.Go(func() {
			for ctx.Err() == nil {
				status, err := c.set(ctx, client, "/v1/integrations/hang/credentials")
				if ctx.Err() != nil {
					return
				}
				if err != nil || status != http.StatusServiceUnavailable {
					c.fail("a set that waits for a plugin that hangs: status %d, %w", status, err)
					return
				}
				refused.Add(1)
				c.again(ctx)
			}
		})
	}
	return c.until("sets that are refused at the plugin's deadline", func() bool { return refused.Load() > 0 })
}

func (c *crowd) set(ctx context.Context, client *http.Client, path string) (status int, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, "http://"+c.Address+path, strings.NewReader(`{"value": "x"}`))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Authorization", "Bearer "+c.Key)
	req.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, err
}
