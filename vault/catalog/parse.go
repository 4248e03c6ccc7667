package catalog

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// MaxFile is the most that a catalog file may hold, in bytes.
const MaxFile = 1 << 20

// parse reads one file. It never panics, whatever the data.
func parse(name string, data []byte) sheet {
	r := &reader{file: name}
	if tokens, ok := r.tokens(data); ok {
		if body, ok := r.document(tokens); ok {
			r.top(body)
			return r.sheet(false)
		}
	}
	return r.sheet(true)
}

// tokens returns the file's tokens but for comments; false when there is
// something in it that the parser must not see.
func (r *reader) tokens(data []byte) (token.Tokens, bool) {
	text, ok := r.plain(data)
	if !ok {
		return nil, false
	}
	all, err := guard(func() (token.Tokens, error) { return lexer.Tokenize(text), nil })
	if err != nil {
		r.fail(r.whole(), "%v", err)
		return nil, false
	}
	var tokens token.Tokens
	for _, tk := range all {
		if tk.Type != token.CommentType {
			tokens = append(tokens, tk)
		}
	}
	if len(tokens) == 0 && !onlyComments(text) {
		r.fail(r.whole(), "not a catalog: no YAML in it")
	}
	r.screen(tokens)
	return tokens, len(r.problems) == 0
}

// plain returns data as text with newlines as the only control characters.
func (r *reader) plain(data []byte) (string, bool) {
	if len(data) > MaxFile {
		r.fail(r.whole(), "larger than %d bytes", MaxFile)
		return "", false
	}
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	data = bytes.ReplaceAll(data, []byte("\r\n"), []byte("\n"))
	for i, line := range bytes.Split(data, []byte("\n")) {
		at := place{File: r.file, Line: i + 1}
		for column := 1; len(line) > 0; column++ {
			c, size := utf8.DecodeRune(line)
			at.Column, line = column, line[size:]
			switch {
			case c == utf8.RuneError && size == 1:
				r.fail(at, "not UTF-8")
				return "", false
			case unicode.IsControl(c) && c != '\t':
				r.fail(at, "a control character, U+%04X", c)
				return "", false
			}
		}
	}
	return string(data), true
}

func onlyComments(text string) bool {
	for line := range strings.Lines(text) {
		if s := strings.TrimSpace(line); s != "" && s[0] != '#' {
			return false
		}
	}
	return true
}

// document returns the body of the only document, nil for an empty one.
func (r *reader) document(tokens token.Tokens) (ast.Node, bool) {
	file, err := guard(func() (*ast.File, error) {
		return parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	})
	if err != nil {
		r.syntax(err)
		return nil, false
	}
	for _, d := range file.Docs {
		if d.Body != nil {
			return d.Body, true
		}
	}
	return nil, true
}

// syntax reports the parser's message alone: its full text is an excerpt of
// the file over several lines.
func (r *reader) syntax(err error) {
	at, msg := r.whole(), "not YAML"
	if e, ok := errors.AsType[yaml.Error](err); ok {
		at, msg = r.placeOf(e.GetToken()), e.GetMessage()
	}
	msg, _, _ = strings.Cut(msg, "\n")
	r.fail(at, "%.200s", strings.Map(visible, strings.ReplaceAll(msg, "\t", `\t`)))
}

func visible(c rune) rune {
	if unicode.IsPrint(c) {
		return c
	}
	return '?'
}

// guard turns a panic of the YAML library into an error: a server reloads its
// catalog while it runs, and must outlive the file.
func guard[T any](read func() (T, error)) (_ T, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("not YAML that can be read")
		}
	}()
	return read()
}
