package transfer

import (
	"bytes"
	"encoding/csv"
	"errors"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/sidevault/sidevault/vault/secret"
)

// A CSV file has a header. Either it names places, a row for each field:
//
//	integration,environment,name,field,value
//	salesforce,production,,,s3cret
//	sftp,staging,,host,sftp.example.com
//	sftp,staging,,username,me
//
// without an environment what all share, or variables: key,value. Columns that only
// an export has (id, status, version, ...) are passed over.
//
// Spreadsheets run a cell that begins with = + - @, a tab or a carriage return as a
// formula. An export puts an apostrophe before these, and before a value's own
// apostrophe; it is taken away again where the header is that of an export.

// exportColumns is the header of an export with values; without them the last two
// columns are missing.
func exportColumns() []string {
	return []string{"integration", "environment", "name", "id", "status", "version", "auth_type", "expires_at", "updated_at", "field", "value"}
}

// columns of a header: what they mean by what they may be called.
func columnNames() map[string]string {
	return map[string]string{
		"integration": "integration", "integrationid": "integration", "environment": "environment", "env": "environment",
		"name": "name", "credentialname": "name", "field": "field", "value": "value", "secret": "value",
		"key": "key", "variable": "key", "authtype": "authtype", "expiresat": "expiresat",
		"id": "", "status": "", "version": "", "createdat": "", "updatedat": "",
	}
}

// header says which column means what.
type header struct {
	columns map[string]int
	escaped bool // cells are escaped as an export's
}

// csvHeader reads the header of a file, and reports whether it is one.
func csvHeader(data []byte) (header, bool) {
	cells, err := newCSVReader(data).Read()
	if err != nil {
		return header{}, false
	}
	h := header{columns: map[string]int{}, escaped: slices.Equal(cells, exportColumns())}
	known := columnNames()
	for i, cell := range cells {
		means, ok := known[normalColumn(cell)]
		_, twice := h.columns[means]
		if !ok || twice && means != "" {
			return header{}, false
		}
		h.columns[means] = i
	}
	delete(h.columns, "")
	if !h.has("integration") && !h.has("key") && h.has("name") {
		h.columns["key"] = h.columns["name"]
		delete(h.columns, "name")
	}
	return h, h.has("value") && h.has("integration") != h.has("key")
}

func normalColumn(cell string) string {
	return strings.NewReplacer("_", "", "-", "", " ", "").Replace(strings.ToLower(strings.TrimSpace(cell)))
}

func (h header) has(means string) bool {
	_, ok := h.columns[means]
	return ok
}

func (h header) cell(row []string, means string) string {
	i, ok := h.columns[means]
	if !ok {
		return ""
	}
	if h.escaped {
		return unguard(row[i])
	}
	return row[i]
}

func newCSVReader(data []byte) *csv.Reader {
	r := csv.NewReader(bytes.NewReader(data))
	r.ReuseRecord = true
	return r
}

func readCSV(data []byte) ([]Entry, error) {
	h, ok := csvHeader(data)
	if !ok {
		return nil, Problem{Line: 1, Msg: "not a header with the columns integration and value, or key and value, and no unknown ones"}
	}
	var p problems
	var list []Entry
	records := map[string]int{}
	r := newCSVReader(data)
	for first := true; ; first = false {
		row, err := r.Read()
		if errors.Is(err, io.EOF) {
			return list, p.err()
		}
		if err != nil {
			p.add(csvLine(err), "not CSV: a quote is missing, or the number of columns differs from the header's")
			return nil, p.err()
		}
		if first {
			continue
		}
		line, _ := r.FieldPos(0)
		if e, ok := h.entry(line, row, &p); ok {
			list = h.add(list, records, e, &p)
		}
	}
}

func csvLine(err error) int {
	if e, ok := errors.AsType[*csv.ParseError](err); ok {
		return e.Line
	}
	return 0
}

// entry reads one row.
func (h header) entry(line int, row []string, p *problems) (Entry, bool) {
	v := secret.New(h.cell(row, "value"))
	if h.has("key") {
		name := strings.TrimSpace(h.cell(row, "key"))
		if name == "" {
			p.add(line, "the key is empty")
		}
		return variable(line, name, v), name != ""
	}
	e := Entry{
		Line: line, Integration: strings.TrimSpace(h.cell(row, "integration")), Name: h.cell(row, "name"), AuthType: h.cell(row, "authtype"),
		Fields: map[string]secret.Value{fieldOr(h.cell(row, "field")): v},
	}
	e.Source = e.Integration
	if e.Integration == "" {
		p.add(line, "the integration is empty")
		return e, false
	}
	if environment := strings.TrimSpace(h.cell(row, "environment")); environment != "" {
		e.Environment = &environment
	}
	e.Scoped = e.Environment != nil || h.escaped
	var err error
	if at := h.cell(row, "expiresat"); at != "" {
		if e.ExpiresAt, err = time.Parse(time.RFC3339, at); err != nil {
			p.add(line, "expires_at is not a time as in 2027-01-31T00:00:00Z")
			return e, false
		}
	}
	if v.Len() == 0 {
		e.Skip = "it is empty"
	}
	return e, true
}

// fieldOr returns the field's name, the value's for "".
func fieldOr(name string) string {
	if name = strings.TrimSpace(name); name != "" {
		return name
	}
	return ValueField
}

// add adds a row, to the credential that an earlier row began or as a new entry.
func (h header) add(list []Entry, records map[string]int, e Entry, p *problems) []Entry {
	place := "shared"
	if e.Environment != nil {
		place = "in " + *e.Environment
	}
	key := strings.Join([]string{e.Integration, place, e.Name}, "\x00")
	at, begun := records[key]
	if e.Variable || e.Skip != "" || !begun {
		if !e.Variable && e.Skip == "" {
			records[key] = len(list)
		}
		return append(list, e)
	}
	for name := range e.Fields {
		if _, twice := list[at].Fields[name]; twice {
			p.add(e.Line, "the field %q of %s is given twice", name, e.Integration)
			return list
		}
	}
	maps.Copy(list[at].Fields, e.Fields)
	return list
}

const formulaStarts = "=+-@\t\r'"

// guard keeps a spreadsheet from running a cell; unguard takes that back.
func guard(cell string) string {
	if cell != "" && strings.IndexByte(formulaStarts, cell[0]) >= 0 {
		return "'" + cell
	}
	return cell
}

func unguard(cell string) string {
	if len(cell) > 1 && cell[0] == '\'' && strings.IndexByte(formulaStarts, cell[1]) >= 0 {
		return cell[1:]
	}
	return cell
}
