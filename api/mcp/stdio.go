package mcp

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	sdk "github.com/modelcontextprotocol/go-sdk/mcp"
)

// ServeStdio serves one client over a pair of streams, a message on each line, until
// the input ends or the context does.
func (s *Server) ServeStdio(ctx context.Context, c Caller, in io.ReadCloser, out io.Writer) error {
	who := func(sdk.Request) (Caller, error) { return c, nil }
	// What changes a catalog happens in the sidecar, and does not come to here.
	server := s.connect(who, false)
	err := server.Run(ctx, &lines{server: s, in: in, out: out})
	if ctx.Err() != nil || errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// lines is the stdio transport. The SDK's own ends at the first message that it cannot
// read; this one refuses the message.
type lines struct {
	server *Server
	in     io.ReadCloser
	reader *bufio.Reader

	mu      sync.Mutex
	out     io.Writer
	waiting map[any]bool  // the calls that have no answer yet, by ID
	idle    chan struct{} // told when there is none

	next   chan []byte
	closed chan struct{}
	once   sync.Once
}

// Connect begins to read.
func (l *lines) Connect(context.Context) (sdk.Connection, error) {
	l.reader = bufio.NewReaderSize(l.in, maxMessage)
	l.next, l.closed = make(chan []byte), make(chan struct{})
	l.waiting, l.idle = map[any]bool{}, make(chan struct{}, 1)
	go l.pump()
	return l, nil
}

// SessionID returns "": the streams are the session.
func (l *lines) SessionID() string { return "" }

// pump reads lines in a goroutine of its own, since a read of standard input cannot be
// interrupted.
func (l *lines) pump() {
	defer close(l.next)
	for {
		line, err := l.line()
		if err != nil {
			return
		}
		select {
		case l.next <- line:
		case <-l.closed:
			return
		}
	}
}

// line reads a line; of one that is too long it returns the part that was read.
func (l *lines) line() ([]byte, error) {
	slice, err := l.reader.ReadSlice('\n')
	line := bytes.Clone(slice)
	for errors.Is(err, bufio.ErrBufferFull) {
		_, err = l.reader.ReadSlice('\n')
	}
	if err != nil && len(line) == 0 {
		return nil, err
	}
	return line, nil
}

// Read returns the next message that is fit for the SDK, and answers those that are
// not.
func (l *lines) Read(ctx context.Context) (jsonrpc.Message, error) {
	for {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-l.closed:
			return nil, io.EOF
		case line, open := <-l.next:
			if !open {
				l.settle(ctx)
				return nil, io.EOF
			}
			if line = bytes.TrimSpace(line); len(line) == 0 {
				continue
			}
			m, err := l.server.screen(line)
			if bad, ok := errors.AsType[*refused](err); ok {
				if err := l.send(bad.encode()); err != nil {
					return nil, err
				}
				continue
			}
			return l.deliver(m)
		}
	}
}

// deliver gives a message to the SDK, and remembers that a call wants an answer.
func (l *lines) deliver(m message) (jsonrpc.Message, error) {
	decoded, err := jsonrpc.DecodeMessage(m.text)
	if r, ok := decoded.(*jsonrpc.Request); ok && r.IsCall() && m.method != "subscriptions/listen" {
		l.mu.Lock()
		l.waiting[r.ID.Raw()] = true
		l.mu.Unlock()
	}
	return decoded, err
}

// patience is how long calls may take after the input has ended.
const patience = 30 * time.Second

// settle waits for the answers to what was asked before the input ended: the SDK drops
// them at the end of the input.
func (l *lines) settle(ctx context.Context) {
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	for {
		l.mu.Lock()
		done := len(l.waiting) == 0
		l.mu.Unlock()
		if done {
			return
		}
		select {
		case <-l.idle:
		case <-ctx.Done():
			return
		case <-l.closed:
			return
		case <-timeout.C:
			return
		}
	}
}

// Write sends a message.
func (l *lines) Write(_ context.Context, m jsonrpc.Message) error {
	if r, ok := m.(*jsonrpc.Response); ok && r.Error != nil {
		e, known := errors.AsType[*jsonrpc.Error](r.Error)
		if !known {
			e = &jsonrpc.Error{Code: jsonrpc.CodeInternalError}
		}
		m = &jsonrpc.Response{ID: r.ID, Error: bland(e)}
	}
	text, err := jsonrpc.EncodeMessage(m)
	if err != nil {
		// The encoder could quote.
		return errors.New("a message could not be encoded")
	}
	err = l.send(text)
	if r, ok := m.(*jsonrpc.Response); ok {
		l.answered(r.ID.Raw())
	}
	return err
}

func (l *lines) answered(id any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.waiting, id)
	if len(l.waiting) == 0 {
		select {
		case l.idle <- struct{}{}:
		default:
		}
	}
}

func (l *lines) send(text []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, err := l.out.Write(append(text, '\n'))
	return err
}

// Close ends the connection.
func (l *lines) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.in.Close()
}
