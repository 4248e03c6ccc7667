// Package transfer reads and writes the files in which credentials travel between
// Sidevault and other programs: .env, CSV and JSON, and, to read, what the command
// lines of HashiCorp Vault, 1Password and Doppler print.
//
// A file is read whole or not at all: everything that is wrong with it comes back at
// once, by line. An [Entry] is what a file says; [Assign] turns entries into the
// credentials of integrations, by the names that an export gives ([Variable]) or by a
// [Mapping]. Nothing is guessed: a name that fits nothing is left out, with the reason,
// and two that fit one place are a problem.
//
// It opens no files and talks to no sidecar, expands no variables and runs no commands.
// No error holds text of the file besides names, since a broken line can be a secret.
//
// The parsers are written here because those at hand expand $ in values, quote values in
// errors, or do not tell lines.
package transfer

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/sidevault/sidevault/vault/secret"
)

// Format is the form of a file.
type Format string

// The formats. Vault, OnePassword and Doppler can be read only.
const (
	Env         Format = "env"
	CSV         Format = "csv"
	JSON        Format = "json"
	Vault       Format = "vault"
	OnePassword Format = "1password"
	Doppler     Format = "doppler"
)

// Formats returns the formats that can be read.
func Formats() []Format { return []Format{Env, CSV, JSON, Vault, OnePassword, Doppler} }

// ValueField is the field of a credential that is one opaque string.
const ValueField = "value"

// MaxEntries is how many entries a file may have.
const MaxEntries = 10_000

// Entry is one thing that a file names: a variable with its value, or a record with
// fields.
type Entry struct {
	Line int
	// Source is the file's name for it: a variable, a path, a title. It is "" where
	// the file has none.
	Source string
	// Integration is set when the file names an integration's key itself.
	Integration string
	// Environment is where the file says that it belongs; nil with Scoped is what all
	// environments share.
	Environment *string
	Scoped      bool
	Name        string // of the credential; "" is the default one
	// Variable says that Source names a single value, which is the only field, under "".
	Variable  bool
	Fields    map[string]secret.Value
	AuthType  string
	ExpiresAt time.Time
	Labels    map[string]string
	Skip      string // why there is nothing to take; "": there is
}

// Problem is what is wrong at one line of a file.
type Problem struct {
	Line int // 0: of the file as a whole
	Msg  string
}

// Error returns the problem with its line.
func (p Problem) Error() string {
	if p.Line == 0 {
		return p.Msg
	}
	return fmt.Sprintf("line %d: %s", p.Line, p.Msg)
}

// problems collects what is wrong.
type problems struct{ list []error }

func (p *problems) add(line int, format string, args ...any) {
	p.list = append(p.list, Problem{Line: line, Msg: fmt.Sprintf(format, args...)})
}

// maxProblems is how many problems are told.
const maxProblems = 20

// err returns the problems in the order of their lines, nil without any.
func (p *problems) err() error {
	slices.SortStableFunc(p.list, func(a, b error) int { return lineOf(a) - lineOf(b) })
	if more := len(p.list) - maxProblems; more > 0 {
		p.list = append(p.list[:maxProblems:maxProblems], fmt.Errorf("and %d more", more))
	}
	return errors.Join(p.list...)
}

func lineOf(err error) int {
	p, _ := errors.AsType[Problem](err)
	return p.Line
}

// Read returns what a file of that format says. Its error joins a [Problem] for each
// line that is wrong; then there are no entries.
func Read(f Format, data []byte) ([]Entry, error) {
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	if err := checkText(data); err != nil {
		return nil, err
	}
	entries, err := read(f, data)
	if err == nil && len(entries) > MaxEntries {
		err = Problem{Msg: fmt.Sprintf("the file has %d entries, more than %d", len(entries), MaxEntries)}
	}
	if err != nil {
		return nil, err
	}
	return entries, nil
}

func read(f Format, data []byte) ([]Entry, error) {
	switch f {
	case Env:
		return readEnv(data)
	case CSV:
		return readCSV(data)
	case JSON, Vault, OnePassword, Doppler:
		documents, err := parseJSON(data)
		if err != nil {
			return nil, err
		}
		return readDocuments(f, documents)
	}
	return nil, Problem{Msg: fmt.Sprintf("there is no format %q", f)}
}

// readDocuments reads JSON texts, of which 1Password's command prints one for each item.
func readDocuments(f Format, documents []node) ([]Entry, error) {
	var p problems
	var entries []Entry
	if len(documents) != 1 && f != OnePassword {
		return nil, Problem{Msg: fmt.Sprintf("the file holds %d JSON texts; one is expected", len(documents))}
	}
	for _, d := range documents {
		switch f {
		case Vault:
			entries = append(entries, readVault(d, &p)...)
		case OnePassword:
			entries = append(entries, readOnePassword(d, &p)...)
		case Doppler:
			entries = append(entries, readDoppler(d, &p)...)
		default:
			entries = append(entries, readJSON(d, &p)...)
		}
	}
	return entries, p.err()
}

// checkText refuses what no text file holds, above all UTF-16.
func checkText(data []byte) error {
	if bytes.IndexByte(data, 0) >= 0 {
		return Problem{Msg: "the file holds zero bytes: is it UTF-16, or not text at all? Save it as UTF-8"}
	}
	line := 1
	for text := range bytes.Lines(data) {
		if !utf8.Valid(text) {
			return Problem{Line: line, Msg: "not UTF-8 text; encode the value, as base64 for example"}
		}
		line++
	}
	return nil
}

// Detect returns the format of a file, as far as it is certain. path may be "".
func Detect(path string, data []byte) (Format, bool) {
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	start := bytes.TrimSpace(data)
	if len(start) > 0 && (start[0] == '{' || start[0] == '[') {
		documents, err := parseJSON(data)
		if err != nil {
			// A broken one is read as what it looks like, to say where it is broken.
			return JSON, true
		}
		return detectJSON(documents)
	}
	if _, ok := csvHeader(data); ok {
		return CSV, true
	}
	base := path[strings.LastIndexByte(path, '/')+1:]
	switch {
	case strings.HasPrefix(base, ".env"), strings.HasSuffix(base, ".env"):
		return Env, true
	case strings.HasSuffix(base, ".csv"):
		return CSV, true
	case strings.HasSuffix(base, ".json"):
		return JSON, true
	}
	entries, err := readEnv(data)
	return Env, err == nil && len(entries) > 0
}

func detectJSON(documents []node) (Format, bool) {
	if len(documents) == 0 {
		return "", false
	}
	first := documents[0]
	switch {
	case isItem(first), first.kind == '[' && len(first.items) > 0 && isItem(first.items[0]):
		return OnePassword, true
	case isSecret(first), len(first.members) > 0 && isSecret(first.members[0].node):
		return Vault, true
	case isDoppler(first):
		return Doppler, true
	}
	return JSON, true
}
