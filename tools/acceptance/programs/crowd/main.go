// Command crowd is bad clients of a sidecar, all of one kind: a process of their own, so
// that what they need of the processors is known, and is not the test's.
// It gets an [order] as JSON on its standard input, prints a word for each thing that
// the test waits for, and goes on until its standard input ends. When the sidecar does
// not do as it should, it says so and exits with 1.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"time"
)

// order says which clients are wanted, and how many.
type order struct {
	Kind                           string
	Address, Key                   string
	Connections, Senders, Watchers int
}

// kinds are the kinds of bad clients. They are all at it when the function returns; they go on
// until the context ends.
var kinds = map[string]func(context.Context, *crowd) error{
	"half-open":      halfOpen,
	"idle":           idle,
	"slow headers":   slowHeaders,
	"slow bodies":    slowBodies,
	"slow readers":   slowReaders,
	"header flood":   headerFlood,
	"body flood":     bodyFlood,
	"watchers":       watchers,
	"blocked plugin": blockedPlugin,
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	input := json.NewDecoder(os.Stdin)
	c := &crowd{wrong: make(chan error, 1)}
	if err := input.Decode(&c.order); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer c.done.Wait()
	defer cancel()
	if kinds[c.Kind] == nil {
		return fmt.Errorf("there are no %q", c.Kind)
	}
	if err := kinds[c.Kind](ctx, c); err != nil {
		return err
	}
	c.say("carried")
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = io.Copy(io.Discard, os.Stdin)
	}()
	select {
	case err := <-c.wrong:
		return err
	case <-ended:
		return nil
	}
}

// crowd is the clients.
type crowd struct {
	order
	done  sync.WaitGroup
	wrong chan error // the first thing that is not as it should be
}

func (*crowd) say(word string) { fmt.Println(word) }

func (c *crowd) fail(format string, args ...any) {
	select {
	case c.wrong <- fmt.Errorf(format, args...):
	default:
	}
}

// until waits until something has come about.
func (c *crowd) until(what string, come func() bool) error {
	for began := time.Now(); !come(); time.Sleep(time.Millisecond) {
		select {
		case err := <-c.wrong:
			return err
		default:
		}
		if time.Since(began) > 30*time.Second {
			return fmt.Errorf("%s: not seen within 30s", what)
		}
	}
	return nil
}

// tries is how many times a second, all together, bad clients begin anew. More would
// measure who gets the machine's processors, of which they and the readers have as much
// need as the sidecar.
const tries = 500

// again waits until a bad client is to begin anew.
func (c *crowd) again(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(time.Duration(c.Senders) * time.Second / tries):
	}
}

// dial connects; nil: the context has ended, or it is an error.
func (c *crowd) dial(ctx context.Context) net.Conn {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", c.Address)
	if err != nil {
		if ctx.Err() == nil {
			c.fail("connect: %w", err)
		}
		return nil
	}
	context.AfterFunc(ctx, func() { conn.Close() })
	return conn
}

// head is the head of a request of the admin's.
func (c *crowd) head(method, path string, more ...string) string {
	return fmt.Sprintf("%s %s HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer %s\r\n%s", method, path, c.Key, strings.Join(more, ""))
}
