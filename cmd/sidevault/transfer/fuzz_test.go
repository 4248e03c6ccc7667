package transfer

import (
	"bytes"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/sidevault/sidevault/vault/secret"
)

func FuzzReadEnv(f *testing.F)         { fuzzRead(f, Env) }
func FuzzReadCSV(f *testing.F)         { fuzzRead(f, CSV) }
func FuzzReadJSON(f *testing.F)        { fuzzRead(f, JSON) }
func FuzzReadVault(f *testing.F)       { fuzzRead(f, Vault) }
func FuzzReadOnePassword(f *testing.F) { fuzzRead(f, OnePassword) }
func FuzzReadDoppler(f *testing.F)     { fuzzRead(f, Doppler) }

// fuzzRead holds a parser to what its callers rely on: entries or an error, of one line
// for each problem, and every entry with a line of the file and something to take or a
// reason.
func fuzzRead(f *testing.F, format Format) {
	for _, c := range readCases() {
		f.Add([]byte(c.text))
	}
	for _, text := range []string{"", "A=\"", "A='\\", "\ufeff", "key,value\n\"", "[[[[", `{"a":{"data":{}}}`, "A=1\r\nA=1\r\n", `[{"title":1}]`} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		Detect("", data)
		entries, err := Read(format, data)
		if err != nil {
			if entries != nil || strings.Count(err.Error(), "\n") > maxProblems {
				t.Fatalf("%d entries beside an error", len(entries))
			}
			return
		}
		lines := bytes.Count(data, []byte("\n")) + 1
		for _, e := range entries {
			if e.Line < 1 || e.Line > lines {
				t.Errorf("line %d of %d", e.Line, lines)
			}
			if len(e.Fields) == 0 && e.Skip == "" {
				t.Error("an entry with nothing, and no reason")
			}
			for _, v := range e.Fields {
				if !utf8.ValidString(v.Reveal()) {
					t.Error("a value that is not UTF-8")
				}
			}
		}
		if got, _, err := Assign(entries, integrations(), Options{Integration: "slack"}); err != nil && got != nil {
			t.Error("credentials beside an error")
		}
	})
}

// What is written is read back as it was, in each format.
func FuzzWriteRead(f *testing.F) {
	for _, v := range []string{"x", "a'b\"c\\d$e`f", "two\nlines", "=1+1", "''", "'=", "-----BEGIN\r\n", "#no comment", " spaces ", "${x}", "\\n", "\t", "a\rb", " \n", "a \n b\t\n"} {
		f.Add(v, "y")
	}
	f.Fuzz(func(t *testing.T, one, two string) {
		if one == "" || two == "" || strings.ContainsRune(one+two, 0) || !utf8.ValidString(one) || !utf8.ValidString(two) {
			t.Skip()
		}
		list := records(one, two)
		for _, format := range []Format{Env, CSV, JSON} {
			var b bytes.Buffer
			if err := Write(&b, format, list, true); err != nil {
				if format == CSV && strings.Contains(one+two, "\r\n") {
					continue
				}
				t.Fatal(err)
			}
			checkReadBack(t, format, b.Bytes(), one, two)
		}
	})
}

func checkReadBack(t *testing.T, format Format, text []byte, one, two string) {
	t.Helper()
	entries, err := Read(format, text)
	if err != nil {
		t.Fatalf("%s: %v", format, err)
	}
	all := []Integration{{"salesforce", []string{"field_0", "field_1"}}, {"slack", nil}}
	got, skipped, err := Assign(entries, all, Options{})
	if err != nil || len(skipped) != 0 || len(got) != 2 {
		t.Fatalf("%s: %d credentials, skipped %v, %v", format, len(got), skipped, err)
	}
	want := []secret.Value{secret.New(one), secret.New(two), secret.New(one)}
	for i, v := range []secret.Value{got[0].Fields["field_0"], got[0].Fields["field_1"], got[1].Fields["value"]} {
		if !v.Equal(want[i]) {
			t.Errorf("%s: value %d of %d bytes came back with %d", format, i, want[i].Len(), v.Len())
		}
	}
}
