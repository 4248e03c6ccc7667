package transfer

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/sidevault/sidevault/vault/secret"
)

// Record is a credential that is written, with Fields when its secret is.
type Record struct {
	ID          string
	Integration string
	Environment *string
	Name        string
	AuthType    string
	Status      string
	Version     uint64
	Labels      map[string]string
	UpdatedAt   string // RFC 3339
	ExpiresAt   string // RFC 3339, or ""
	Fields      map[string]secret.Value
}

// plainRecord is a record as JSON. Read takes it back.
type plainRecord struct {
	ID          string            `json:"id"`
	Integration string            `json:"integrationId"`
	Environment *string           `json:"environment"`
	Name        string            `json:"name"`
	AuthType    string            `json:"authType,omitempty"`
	Status      string            `json:"status"`
	Version     uint64            `json:"version"`
	Labels      map[string]string `json:"labels,omitempty"`
	UpdatedAt   string            `json:"updatedAt"`
	ExpiresAt   string            `json:"expiresAt,omitempty"`
	Value       *string           `json:"value,omitempty"`
	Fields      map[string]string `json:"fields,omitempty"`
}

// Write writes records in one of the formats Env, CSV and JSON, the secrets of those
// that have Fields in clear.
func Write(w io.Writer, f Format, records []Record, values bool) error {
	switch f {
	case JSON:
		return writeJSON(w, records)
	case CSV:
		return writeCSV(w, records, values)
	case Env:
		return writeEnv(w, records, values)
	}
	return fmt.Errorf("nothing is written as %s", f)
}

func writeJSON(w io.Writer, records []Record) error {
	list := make([]plainRecord, len(records))
	for i, r := range records {
		p := plainRecord{
			ID: r.ID, Integration: r.Integration, Environment: r.Environment, Name: r.Name, AuthType: r.AuthType,
			Status: r.Status, Version: r.Version, Labels: r.Labels, UpdatedAt: r.UpdatedAt, ExpiresAt: r.ExpiresAt,
		}
		if v, ok := r.Fields[ValueField]; ok && len(r.Fields) == 1 {
			plain := v.Reveal()
			p.Value = &plain
		} else if len(r.Fields) > 0 {
			p.Fields = reveal(r.Fields)
		}
		list[i] = p
	}
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(list)
}

func reveal(fields map[string]secret.Value) map[string]string {
	plain := make(map[string]string, len(fields))
	for name, v := range fields {
		plain[name] = v.Reveal()
	}
	return plain
}

// writeCSV writes a row for each field, or without values one for each credential.
func writeCSV(w io.Writer, records []Record, values bool) error {
	out := csv.NewWriter(w)
	columns := exportColumns()
	if !values {
		columns = columns[:len(columns)-2]
	}
	if err := out.Write(columns); err != nil {
		return err
	}
	for _, r := range records {
		rows, err := csvRows(r, values)
		if err != nil {
			return err
		}
		if err := out.WriteAll(rows); err != nil {
			return err
		}
	}
	out.Flush()
	return out.Error()
}

func csvRows(r Record, values bool) (rows [][]string, err error) {
	environment := ""
	if r.Environment != nil {
		environment = *r.Environment
	}
	row := []string{r.Integration, environment, r.Name, r.ID, r.Status, fmt.Sprint(r.Version), r.AuthType, r.ExpiresAt, r.UpdatedAt}
	for i := range row {
		row[i] = guard(row[i])
	}
	if !values {
		return [][]string{row}, nil
	}
	for _, name := range slices.Sorted(maps.Keys(r.Fields)) {
		plain := r.Fields[name].Reveal()
		if strings.Contains(plain, "\r\n") {
			// Readers of CSV take these for one line feed.
			return nil, fmt.Errorf("the %s of %s has lines that end in CR LF, which CSV does not keep: write JSON", name, r.Integration)
		}
		rows = append(rows, append(slices.Clip(row), guard(name), guard(plain)))
	}
	return rows, nil
}

// writeEnv writes variables or, without values, a comment for each credential.
func writeEnv(w io.Writer, records []Record, values bool) error {
	if err := checkEnv(records); err != nil {
		return err
	}
	var b strings.Builder
	for _, r := range records {
		fmt.Fprintf(&b, "# %s: version %d, %s, updated %s\n", r.Integration, r.Version, r.Status, r.UpdatedAt)
		for _, name := range slices.Sorted(maps.Keys(r.Fields)) {
			b.WriteString(envLine(Variable(r.Integration, name), r.Fields[name].Reveal()))
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// checkEnv refuses what variables cannot tell apart.
func checkEnv(records []Record) error {
	of := map[string]string{}
	for _, r := range records {
		if r.Name != defaultName && r.Name != "" {
			return fmt.Errorf("%s has the name %q, which a .env file has no place for", r.Integration, r.Name)
		}
		fields := slices.Sorted(maps.Keys(r.Fields))
		if len(fields) == 0 {
			fields = []string{""}
		}
		for _, f := range fields {
			name := Variable(r.Integration, f)
			if other, taken := of[name]; taken {
				return fmt.Errorf("%s and %s would both be the variable %s", other, r.Integration, name)
			}
			of[name] = r.Integration
		}
	}
	return nil
}
