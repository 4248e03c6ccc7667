package host

import (
	"context"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/sidevault/sidevault/vault/seal"
)

// member is one process of a program's pool, and the connection to it.
type member struct {
	prog   *program
	proc   *process
	conn   *grpc.ClientConn
	about  about
	given  *recent
	stderr *lineWriter // what the process writes
	stdio  *lineWriter // what go-plugin has taken over of it

	// Under the program's lock.
	calls   int  // under way
	retired bool // gets no further calls
	hung    bool // does not end by itself
	ending  bool // is being stopped
	gone    bool // its end is no failure, or has been counted
}

func newMember(p *program) *member {
	m := &member{prog: p, given: newRecent()}
	m.stderr = &lineWriter{sink: p.sink, struck: m.given.strike}
	m.stdio = &lineWriter{sink: p.sink, struck: m.given.strike}
	return m
}

// discard ends a process that never got into the pool.
func (m *member) discard() {
	if m.proc.running() {
		m.proc.kill()
		<-m.proc.exited
	} else {
		os.RemoveAll(m.proc.dir)
	}
	m.close()
}

func (m *member) close() {
	if m.conn != nil {
		m.conn.Close()
	}
	m.stderr.close()
}

// attend waits for the process to end, and tells the pool.
func (m *member) attend() {
	defer m.prog.host.work.Done()
	<-m.proc.exited
	m.close()
	m.prog.lost(m, "crashed: it "+m.proc.ending())
	m.prog.remove(m)
}

// stop ends the process, politely if asked to.
func (m *member) stop(politely bool) {
	defer m.prog.host.work.Done()
	if politely {
		ctx, cancel := context.WithTimeout(m.prog.host.ctx, m.prog.host.tun.shutdown)
		defer cancel()
		if m.shutdown(ctx) == nil {
			select {
			case <-m.proc.exited:
			case <-ctx.Done():
			}
		}
	}
	m.proc.kill()
}

// call makes one call. Its error says why there is no answer.
func (m *member) call(ctx context.Context, c rpc, fields seal.Fields) *failure {
	m.given.add(fields)
	began := time.Now()
	var header, trailer metadata.MD
	reason, err := c.invoke(ctx, m.conn, grpc.Header(&header), grpc.Trailer(&trailer))
	if err == nil && reason == "" {
		return nil
	}
	f := &failure{reason: reason, kind: unavailable, took: time.Since(began)}
	if err == nil {
		f.answered = true
		return f
	}
	f.err = strikeError(err, fields)
	switch {
	case isOver(ctx):
		f.outOfTime(ctx)
	case len(header)+len(trailer) == 0:
		// No answer of the plugin's, so the error is the connection's. That ends a
		// little before the host learns of the process's end; and the plugin's side
		// may end a call a little before its time is up.
		f.reason, f.broken = "crashed during the call", true
		select {
		case <-m.proc.exited:
			if m.proc.byUs {
				f.reason = "was stopped during the call" // by Close, or for not answering another one
			}
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
			f.broken = false
			f.outOfTime(ctx)
		}
	default:
		f.answered, f.reason = true, reasonFor(status.Convert(err), c.service(), fields)
	}
	return f
}

// failure is a call without an answer.
type failure struct {
	reason   string
	err      error
	kind     string        // unavailable, timeout, busy
	took     time.Duration // of the call to the process alone
	broken   bool          // the process is of no more use
	answered bool          // the process works, though its answer is none
}

// reasonFor says what an error answer means. Its text is the program's, as that of a
// rejection is: it is bounded here, and the secrets of the call are struck out of it.
func reasonFor(s *status.Status, service string, fields seal.Fields) string {
	switch s.Code() {
	case codes.Unimplemented:
		return "is not a " + service
	case codes.ResourceExhausted:
		return "gave an answer that is too large, or is out of resources"
	}
	if text := printable(strikerOf(fields).Strike(s.Message()), longestMessage); text != "" {
		return "answered with an error: " + text
	}
	return "answered with the error " + s.Code().String()
}
