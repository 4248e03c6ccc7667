package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/sidevault/sidevault/api/wire"
)

func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// printTable prints rows under a heading, in columns.
func printTable(w io.Writer, heading []string, rows [][]string) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, row := range append([][]string{heading}, rows...) {
		cells := make([]string, len(row))
		for i, cell := range row {
			cells[i] = oneLine(cell)
		}
		fmt.Fprintln(t, strings.TrimRight(strings.Join(cells, "\t"), "\t"))
	}
	return t.Flush()
}

// printPairs prints names with their values; a pair without a value is left out.
func printPairs(w io.Writer, pairs ...string) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			fmt.Fprintf(t, "%s\t%s\n", pairs[i], oneLine(pairs[i+1]))
		}
	}
	return t.Flush()
}

// oneLine keeps text that came from elsewhere from moving the cursor.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}

func showTime(t *wire.Time) string {
	if t == nil {
		return ""
	}
	return time.Time(*t).UTC().Format("2006-01-02 15:04:05Z")
}

// showScope names an environment; nil is the shared scope.
func showScope(environment *string) string {
	if environment == nil {
		return "all environments"
	}
	return *environment
}

func showScopes(list []*string) string {
	names := make([]string, len(list))
	for i, e := range list {
		names[i] = showScope(e)
	}
	return strings.Join(names, ", ")
}

func showActor(a wire.Actor) string {
	if a.Email != "" {
		return a.Email
	}
	return a.Name
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
