package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
)

// toYAML returns as YAML what a value is in JSON, with the same order. It is not the
// library's doing, which changes line ends and leading white space of strings; these
// may be keys and certificates.
func toYAML(v any) ([]byte, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	y := yamlWriter{from: d}
	if err := y.value(0); err != nil {
		return nil, err
	}
	return append(bytes.TrimPrefix(y.out.Bytes(), []byte(" ")), '\n'), nil
}

// yamlWriter writes block collections, each on lines of its own.
type yamlWriter struct {
	from *json.Decoder
	out  bytes.Buffer
}

// value writes what comes next. A scalar stands after a space on the same line.
func (y *yamlWriter) value(depth int) error {
	token, err := y.from.Token()
	if err != nil {
		return err
	}
	switch t := token.(type) {
	case json.Delim:
		return y.collection(t, depth)
	case string:
		text, err := scalarYAML(t)
		y.out.WriteString(" " + text)
		return err
	case nil:
		y.out.WriteString(" null")
	default:
		fmt.Fprintf(&y.out, " %v", t)
	}
	return nil
}

func (y *yamlWriter) collection(open json.Delim, depth int) error {
	if !y.from.More() {
		y.out.WriteString(map[json.Delim]string{'{': " {}", '[': " []"}[open])
	}
	for y.from.More() {
		if y.out.Len() > 0 {
			y.out.WriteString("\n" + strings.Repeat("  ", depth))
		}
		if open == '[' {
			y.out.WriteString("-")
		} else if err := y.key(); err != nil {
			return err
		}
		if err := y.value(depth + 1); err != nil {
			return err
		}
	}
	_, err := y.from.Token()
	return err
}

func (y *yamlWriter) key() error {
	token, err := y.from.Token()
	if err != nil {
		return err
	}
	text, err := scalarYAML(token.(string))
	y.out.WriteString(text + ":")
	return err
}

var (
	// plainRE is what may stand without quotes, other than a word that means something.
	plainRE = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_./-]*( [A-Za-z0-9_./-]+)*$`)
	wordRE  = regexp.MustCompile(`^(?i:y|n|yes|no|on|off|true|false|null)$`)
)

func scalarYAML(s string) (string, error) {
	if plainRE.MatchString(s) && !wordRE.MatchString(s) {
		return s, nil
	}
	return quoteYAML(s)
}
