package client

import (
	"bufio"
	"bytes"
	"errors"
	"io"
)

const (
	maxLine  = 128 << 10 // bytes of a line of a stream
	maxEvent = 256 << 10 // bytes of an event's data
)

var errTooLarge = errors.New("the stream has an event that is too large")

// serverEvent is one block of a stream of server-sent events: an event when it has
// data, else comments or an ID.
type serverEvent struct {
	id   string // "" when the block has none
	kind string
	data []byte
}

// eventReader reads server-sent events (HTML standard, section 9.2.6), with a bound
// on what it keeps. The field retry is ignored: the client has its own pauses.
type eventReader struct{ lines *bufio.Scanner }

func newEventReader(r io.Reader) *eventReader {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, 4<<10), maxLine)
	lines.Split(splitLines())
	return &eventReader{lines: lines}
}

// next returns the next block. A block that the end of the stream cuts off is not
// one; the error is then io.EOF.
func (r *eventReader) next() (e serverEvent, err error) {
	for r.lines.Scan() {
		line := r.lines.Bytes()
		if len(line) == 0 {
			e.data = bytes.TrimSuffix(e.data, []byte("\n"))
			return e, nil
		}
		if err := e.add(line); err != nil {
			return serverEvent{}, err
		}
	}
	switch err := r.lines.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		return serverEvent{}, errTooLarge
	case err != nil:
		return serverEvent{}, err
	}
	return serverEvent{}, io.EOF
}

func (e *serverEvent) add(line []byte) error {
	field, value, _ := bytes.Cut(line, []byte(":"))
	value = bytes.TrimPrefix(value, []byte(" "))
	switch string(field) {
	case "id":
		if !bytes.ContainsAny(value, "\x00\r\n") {
			e.id = string(value)
		}
	case "event":
		e.kind = string(value)
	case "data":
		if len(e.data)+len(value) > maxEvent {
			return errTooLarge
		}
		e.data = append(append(e.data, value...), '\n')
	}
	return nil
}

// splitLines returns a function for a scanner that ends lines at CR LF, LF or CR
// and drops a last one that nothing ends.
func splitLines() bufio.SplitFunc {
	afterCR := false
	return func(data []byte, _ bool) (advance int, line []byte, err error) {
		skip := 0
		if afterCR && len(data) > 0 && data[0] == '\n' {
			skip = 1
		}
		rest := data[skip:]
		end := bytes.IndexAny(rest, "\r\n")
		if end < 0 {
			return 0, nil, nil
		}
		afterCR = rest[end] == '\r'
		return skip + end + 1, rest[:end:end], nil
	}
}
