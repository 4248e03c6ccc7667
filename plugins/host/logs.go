package host

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/time/rate"
)

// Limits of what a program may log.
const (
	longestLine  = 4 << 10
	linesPerSec  = 100
	linesAtOnce  = 200
	mostLogAttrs = 32
	// lookAhead is how much of a line is read beyond what is logged of it, so that a
	// secret which the cut would halve is found first.
	lookAhead = 64 << 10
)

// logSink takes the lines of all of a program's processes, at a bounded rate.
type logSink struct {
	log     *slog.Logger
	limiter *rate.Limiter

	mu      sync.Mutex
	dropped int
	report  *time.Timer
}

func newLogSink(log *slog.Logger) *logSink {
	return &logSink{log: log, limiter: rate.NewLimiter(linesPerSec, linesAtOnce)}
}

// drop counts lines that are not logged.
func (s *logSink) drop(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dropped += n
	if s.report == nil {
		s.report = time.AfterFunc(time.Second, s.flush)
	}
}

// flush says how many lines are missing.
func (s *logSink) flush() {
	s.mu.Lock()
	n := s.dropped
	s.dropped = 0
	if s.report != nil {
		s.report.Stop()
		s.report = nil
	}
	s.mu.Unlock()
	if n > 0 {
		s.log.Warn(fmt.Sprintf("%d lines dropped", n))
	}
}

// lineWriter cuts one stream into lines. It keeps a bounded part of each.
type lineWriter struct {
	sink   *logSink
	struck func(string) string
	line   []byte
	within bool      // a line has begun
	skip   bool      // the rest of the line is over the limit
	mute   time.Time // until then, lines are over the rate
}

// Write takes what the program has written. It never fails.
func (w *lineWriter) Write(b []byte) (int, error) {
	n := len(b)
	for len(b) > 0 {
		if !w.within && time.Now().Before(w.mute) {
			// A flood must cost little: whole pieces are dropped unseen.
			w.sink.drop(max(1, bytes.Count(b, []byte("\n"))))
			w.within = b[len(b)-1] != '\n'
			w.skip = w.within
			break
		}
		piece, rest, ends := bytes.Cut(b, []byte("\n"))
		b = rest
		w.add(piece)
		if ends {
			w.end()
		}
	}
	return n, nil
}

func (w *lineWriter) add(piece []byte) {
	if !w.within && len(piece) > 0 {
		// Asked at the start of a line: a line that is not logged is not kept.
		w.within = true
		if !w.sink.limiter.Allow() {
			w.skip = true
			w.mute = time.Now().Add(time.Second / linesPerSec)
			w.sink.drop(1)
		}
	}
	if w.skip {
		return
	}
	room := longestLine + lookAhead - len(w.line)
	if len(piece) > room {
		piece, w.skip = piece[:room], true
	}
	w.line = append(w.line, piece...)
}

func (w *lineWriter) end() {
	if len(w.line) > 0 {
		w.emit(bytes.TrimRight(w.line, "\r"))
		// A long line takes as long to search as many short ones, and counts like them.
		w.sink.limiter.ReserveN(time.Now(), len(w.line)/(1<<10))
	}
	if cap(w.line) > 2*longestLine {
		w.line = nil
	}
	w.line, w.within, w.skip = w.line[:0], false, false
}

// close logs a line that was never ended.
func (w *lineWriter) close() {
	w.end()
	w.sink.flush()
}

func (w *lineWriter) emit(line []byte) {
	if level, message, attrs, ok := w.parse(line); ok {
		w.sink.log.LogAttrs(context.Background(), level, message, attrs...)
		return
	}
	w.sink.log.Info(w.clean(string(line), longestLine))
}

// clean strikes secrets out before it cuts, since half of one would not be found.
func (w *lineWriter) clean(text string, most int) string { return printable(w.struck(text), most) }

// parse reads a line that a structured logger has written: an object with a level
// and a message. Everything else becomes text in the group "data".
func (w *lineWriter) parse(line []byte) (level slog.Level, message string, attrs []slog.Attr, ok bool) {
	var fields map[string]json.RawMessage
	if len(line) == 0 || line[0] != '{' || json.Unmarshal(line, &fields) != nil {
		return 0, "", nil, false
	}
	name, ok := first(fields, "level", "@level", "lvl", "severity")
	if !ok {
		return 0, "", nil, false
	}
	message, _ = first(fields, "msg", "@message", "message")
	var data []any
	for _, key := range slices.Sorted(maps.Keys(fields)) {
		switch key {
		case "level", "@level", "lvl", "severity", "msg", "@message", "message", "time", "@timestamp", "timestamp", "ts":
			continue
		}
		if len(data) == mostLogAttrs {
			break
		}
		data = append(data, slog.String(w.clean(key, 100), w.clean(text(fields[key]), 1<<10)))
	}
	if len(data) > 0 {
		attrs = append(attrs, slog.Group("data", data...))
	}
	return levelOf(name), w.clean(message, longestLine), attrs, true
}

// first returns the first of the keys that there is, as text.
func first(fields map[string]json.RawMessage, keys ...string) (string, bool) {
	for _, key := range keys {
		if raw, ok := fields[key]; ok {
			return text(raw), true
		}
	}
	return "", false
}

// text is a JSON string's content, or the JSON itself.
func text(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) == nil {
		return s
	}
	return string(raw)
}

func levelOf(name string) slog.Level {
	switch strings.ToLower(name) {
	case "trace", "debug":
		return slog.LevelDebug
	case "warn", "warning":
		return slog.LevelWarn
	case "error", "err", "fatal", "panic", "critical":
		return slog.LevelError
	}
	return slog.LevelInfo
}

// printable makes foreign text fit for people: valid UTF-8 without control
// characters, of at most that many bytes.
func printable(s string, most int) string {
	clean := strings.Map(func(r rune) rune {
		switch {
		case r == utf8.RuneError:
			return '?'
		case r == '\n' || r == '\t' || unicode.IsSpace(r):
			return ' '
		case !unicode.IsPrint(r):
			return -1
		}
		return r
	}, s)
	if len(clean) <= most {
		return strings.TrimSpace(clean)
	}
	for most > 0 && !utf8.RuneStart(clean[most]) {
		most--
	}
	return strings.TrimSpace(clean[:most])
}
