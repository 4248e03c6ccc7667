package transfer

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sidevault/sidevault/vault/secret"
)

// told prints entries without their secrets, except that it reveals those that are
// marked as a test's own.
func told(entries []Entry) string {
	var b strings.Builder
	for _, e := range entries {
		fmt.Fprintf(&b, "%d %s", e.Line, e.Source)
		if e.Scoped {
			fmt.Fprintf(&b, " in %s", scopeName(e.Environment))
		}
		if e.Name != "" {
			fmt.Fprintf(&b, " (%s)", e.Name)
		}
		for _, name := range slices.Sorted(maps.Keys(e.Fields)) {
			fmt.Fprintf(&b, " %s=%q", name, e.Fields[name].Reveal())
		}
		if e.Skip != "" {
			fmt.Fprintf(&b, " skip: %s", e.Skip)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

type readCase struct {
	format Format
	text   string
	want   string
}

func readCases() map[string]readCase {
	return map[string]readCase{
		"env": {Env, "# c\n\nexport A=one # note\nB='it''\n", "error"},
		"env quotes": {Env, "\ufeffA = one # note\nexport B='$x \\n # y'\r\nC=\"a\\n\\\"b\\\\ \\$\"\nD='two\nlines' # c\nE=a#b\nF=\nG='-----BEGIN\nA=B==\n-----END'\n",
			"1 A =\"one\"\n2 B =\"$x \\\\n # y\"\n3 C =\"a\\n\\\"b\\\\ $\"\n4 D =\"two\\nlines\"\n6 E =\"a#b\"\n7 F =\"\" skip: it is empty\n8 G =\"-----BEGIN\\nA=B==\\n-----END\"\n"},
		"csv": {CSV, "Integration,environment,field,value\nsftp,staging,host,h\nsftp,staging,username,\"a\nb\"\nslack,,,'=x\n",
			"2 sftp in staging host=\"h\" username=\"a\\nb\"\n5 slack value=\"'=x\"\n"},
		"csv of an export": {CSV, strings.Join(exportColumns(), ",") + "\nslack,,default,i,active,1,,,,value,'=x\nslack,,b,i,active,1,,2027-01-31T00:00:00.000Z,,value,''x\n",
			"2 slack in all environments (default) value=\"=x\"\n3 slack in all environments (b) value=\"'x\"\n"},
		"csv of variables": {CSV, "name,value\nA,1\nB,\n", "2 A =\"1\"\n3 B =\"\" skip: it is empty\n"},
		"json": {JSON, `{"A": "x", "n": 1.50, "gone": null,
"sftp": {"host": "h", "port": 22, "none": null, "empty": ""}}`, "1 A =\"x\"\n1 n =\"1.50\"\n1 gone skip: it is null\n2 sftp host=\"h\" port=\"22\"\n"},
		"json of an export": {JSON, `[{"integrationId":"slack","environment":null,"name":"default","value":"v","version":3},
{"integrationId":"sftp","environment":"staging","fields":{"host":"h"}},{"integrationId":"sftp","environment":"production"}]`,
			"1 slack in all environments (default) value=\"v\"\n2 sftp in staging host=\"h\"\n2 sftp in production skip: it has no value: it was exported without --reveal\n"},
		"vault": {Vault, `{"request_id":"r","data":{"data":{"host":"h"},"metadata":{"version":1}},"warnings":null}`, "1  host=\"h\"\n"},
		"vault by path": {Vault, `{"secret/prod/sftp":{"data":{"data":{"host":"h"},"metadata":{}}},
"secret/gone":{"data":{"data":null,"metadata":{"deletion_time":"x"}}}}`, "1 secret/prod/sftp host=\"h\"\n2 secret/gone skip: it is deleted in Vault\n"},
		"1password": {OnePassword, `{"id":"1","title":"SFTP","category":"SERVER","fields":[{"id":"u","type":"STRING","purpose":"USERNAME","label":"username","value":"me"},
{"id":"n","type":"STRING","purpose":"NOTES","label":"notesPlain","value":"x"},{"id":"o","type":"OTP","label":"otp","value":"y"},{"id":"e","label":"empty"}]}
{"id":"2","title":"Slack","category":"PASSWORD","fields":[{"id":"password","label":"password","value":"p"}]}`, "1 SFTP username=\"me\"\n3 Slack value=\"p\"\n"},
		"1password list": {OnePassword, `[{"id":"1","title":"SFTP","category":"SERVER"}]`,
			"1 SFTP skip: it has no fields: op item list --format json | op item get - --format json --reveal prints them\n"},
		"doppler": {Doppler, `{"A":"x","DOPPLER_CONFIG":"prd"}`, "1 A =\"x\"\n1 DOPPLER_CONFIG skip: it is Doppler's own\n"},
		"doppler secrets": {Doppler, `{"A":{"computed":"x","note":""},"B":{"computed":null}}`,
			"1 A =\"x\"\n1 B skip: Doppler keeps its value back: use a service token\n"},
	}
}

func TestRead(t *testing.T) {
	for name, c := range readCases() {
		t.Run(name, func(t *testing.T) {
			entries, err := Read(c.format, []byte(c.text))
			if c.want == "error" {
				if err == nil {
					t.Fatalf("read %s", told(entries))
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, told(entries)); diff != "" {
				t.Error(diff)
			}
			if f, certain := Detect("", []byte(c.text)); !certain || f != c.format {
				t.Errorf("detected as %q, %v", f, certain)
			}
		})
	}
}

const canary = "c4n4ry"

// What is wrong is told by line, and no value is.
func TestProblems(t *testing.T) {
	cases := map[string]struct {
		format Format
		text   string
		want   []string
	}{
		"not an assignment":  {Env, "A=1\n" + canary + "\n", []string{"line 2: not NAME=VALUE"}},
		"secret name":        {Env, "A 1=" + canary, []string{"line 1"}},
		"twice":              {Env, "A=" + canary + "\nB=1\nA=" + canary, []string{"line 3: A is set on line 1, too"}},
		"reference":          {Env, "A=${B}" + canary + "\nB=\"x${A}" + canary + "\"\nC=\"\\${A}\"", []string{"line 1: A refers", "line 2: B refers"}},
		"backtick":           {Env, "A=`" + canary + "`", []string{"backtick"}},
		"unclosed":           {Env, "A='" + canary + "\nB=" + canary, []string{"line 1: A has no closing quote"}},
		"after the quote":    {Env, "A='x'" + canary, []string{"after its closing quote"}},
		"zero bytes":         {Env, "A\x00=\x00" + canary, []string{"UTF-16"}},
		"not UTF-8":          {Env, "B=1\nA=\xff" + canary, []string{"line 2: not UTF-8"}},
		"no header":          {CSV, "slack," + canary + "\n", []string{"line 1: not a header"}},
		"unknown column":     {CSV, "integration,value," + canary + "\n", []string{"line 1: not a header"}},
		"columns":            {CSV, "key,value\nA,1\nB," + canary + ",2\n", []string{"line 3: not CSV"}},
		"quote":              {CSV, "key,value\nA,\"" + canary + "\n", []string{"not CSV"}},
		"field twice":        {CSV, "integration,field,value\nsftp,host,a\nsftp,host," + canary + "\n", []string{`line 3: the field "host" of sftp`}},
		"empty integration":  {CSV, "integration,value\n," + canary + "\n", []string{"line 2: the integration is empty"}},
		"time":               {CSV, "integration,value,expires_at\nslack," + canary + ",tomorrow\n", []string{"line 2: expires_at"}},
		"not JSON":           {JSON, "{\n\"A\": " + canary + "}", []string{"line 2: not JSON"}},
		"name twice":         {JSON, "{\"A\": 1,\n\"A\": \"" + canary + "\"}", []string{"line 2: a name is twice"}},
		"deep":               {JSON, strings.Repeat("[", 40), []string{"nested deeper"}},
		"nested":             {JSON, "{\"sftp\":\n{\"host\": [\"" + canary + "\"]}}", []string{`line 2: the field "host" is not a string`}},
		"member":             {JSON, `[{"integrationId":"a","valeu":"` + canary + `"}]`, []string{"no member valeu"}},
		"no integration":     {JSON, `[{"value":"` + canary + `"}]`, []string{"integrationId is missing"}},
		"both":               {JSON, `[{"integrationId":"a","value":"` + canary + `","fields":{"a":"b"}}]`, []string{"both given"}},
		"text":               {JSON, `"` + canary + `"`, []string{"neither"}},
		"two texts":          {JSON, `{"A":"` + canary + `"}{}`, []string{"2 JSON texts"}},
		"KV 1":               {Vault, `{"data":{"host":"` + canary + `"}}`, []string{"KV version 2"}},
		"not an item":        {OnePassword, `[{"a":"` + canary + `"}]`, []string{"op item get"}},
		"concealed":          {OnePassword, `{"id":"1","title":"T","category":"X","fields":[{"label":"password","value":"[use 'op item get x --reveal' to reveal]"}]}`, []string{"--reveal"}},
		"doppler's nonsense": {Doppler, `{"A":["` + canary + `"]}`, []string{"A is not a secret"}},
		"unknown format":     {"toml", canary, []string{"no format"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			entries, err := Read(c.format, []byte(c.text))
			if err == nil || entries != nil {
				t.Fatalf("%v, %d entries", err, len(entries))
			}
			for _, part := range c.want {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%q is not in %q", part, err)
				}
			}
			if strings.Contains(err.Error(), canary) {
				t.Error("the error holds the value")
			}
			if n := strings.Count(err.Error(), "\n") + 1; n != len(c.want) {
				t.Errorf("%d problems, want %d:\n%s", n, len(c.want), err)
			}
		})
	}
}

func TestDetectIsCertain(t *testing.T) {
	for text, path := range map[string]string{"": "", "hello world": "", "a,b\n1,2": "", "  ": "x"} {
		if f, certain := Detect(path, []byte(text)); certain {
			t.Errorf("%q is taken for %s", text, f)
		}
	}
	for path, want := range map[string]Format{"a/.env.local": Env, "b.csv": CSV, "c.json": JSON, "prod.env": Env} {
		if f, certain := Detect(path, []byte("rubbish")); !certain || f != want {
			t.Errorf("%s is taken for %q, %v", path, f, certain)
		}
	}
}

func integrations() []Integration {
	return []Integration{
		{"sftp", []string{"host", "username", "password"}}, {"slack", []string{"bot_token"}}, {"google", []string{"key"}},
		{"google_cloud", []string{"project"}}, {"hg-insights", nil}, {"a.b", nil}, {"a_b", nil}, {"1up", nil},
	}
}

func TestAssign(t *testing.T) {
	staging, production := "staging", "production"
	text := "SFTP_HOST=h\nSFTP_USERNAME=u\nSLACK=s\nSLACK_CHANNEL=c\nGOOGLE_CLOUD_PROJECT=p\nGOOGLE_KEY=k\nHG_INSIGHTS_API_KEY=i\nA_B=x\nPORT=1\nHOOK=w\nOLD=o\n_1UP=q\nSLAKC=z\n"
	m, err := ParseMapping([]byte("HOOK: {integration: slack, field: bot_token, environment: production, name: hook}\nOLD: {skip: true}\n"))
	if err != nil {
		t.Fatal(err)
	}
	entries, err := Read(Env, []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	got, skipped, err := Assign(entries, integrations(), Options{Environment: &staging, Mapping: m})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"sftp staging  host=h username=u [1 2]", "slack staging  value=s [3]", "google_cloud staging  project=p [5]", "google staging  key=k [6]",
		"hg-insights staging  api_key=i [7]", "slack production hook bot_token=w [10]", "1up staging  value=q [12]",
	}
	var list []string
	for _, c := range got {
		var fields []string
		for _, f := range slices.Sorted(maps.Keys(c.Fields)) {
			fields = append(fields, f+"="+c.Fields[f].Reveal())
		}
		list = append(list, fmt.Sprintf("%s %s %s %s %v", c.Integration, scopeName(c.Environment), c.Name, strings.Join(fields, " "), c.Lines))
	}
	if diff := cmp.Diff(want, list); diff != "" {
		t.Error(diff)
	}
	wantSkipped := []Skipped{
		{4, "SLACK_CHANNEL", "slack has no such field; --map FILE says where it belongs"},
		{8, "A_B", "it may be of a.b or of a_b; --map FILE says which"},
		{9, "PORT", "no integration is called so; --map FILE says where it belongs"},
		{11, "OLD", "the mapping says so"},
		{13, "SLAKC", `no integration is called so (did you mean "SLACK"?); --map FILE says where it belongs`},
	}
	if diff := cmp.Diff(wantSkipped, skipped); diff != "" {
		t.Error(diff)
	}

	scoped := []Entry{{Line: 1, Source: "slack", Integration: "slack", Environment: &staging, Scoped: true, Fields: map[string]secret.Value{"value": secret.New("x")}}}
	if _, _, err := Assign(scoped, integrations(), Options{Environment: &production, Only: true}); err == nil || !strings.Contains(err.Error(), "line 1: slack is of staging, and not of production") {
		t.Errorf("another environment: %v", err)
	}
	_, _, err = Assign(entries, integrations(), Options{Environment: &production, Only: true, Mapping: Mapping{"HOOK": {Integration: "slack", Environment: "staging"}, "PORT": {Integration: "slack"}}})
	if err == nil || strings.Contains(err.Error(), "HOOK") || !strings.Contains(err.Error(), "line 9: PORT is the value of slack in production, which line 3 has, too") {
		t.Errorf("problems: %v", err)
	}
}

func TestAssignRecords(t *testing.T) {
	entries := []Entry{
		record(1, "secret/prod/sftp/", map[string]secret.Value{"HOST": secret.New("h"), "user": secret.New("u"), "url": secret.New("x")}),
		record(2, "Google Cloud", map[string]secret.Value{"project": secret.New("p")}),
		record(3, "unknown/thing", map[string]secret.Value{"x": secret.New("p")}),
		record(4, "", map[string]secret.Value{"bot_token": secret.New("p")}),
	}
	m := Mapping{"secret/prod/sftp/": {Fields: map[string]string{"user": "username", "url": ""}}}
	got, skipped, err := Assign(entries, integrations(), Options{Integration: "slack", Mapping: m})
	if err != nil || len(got) != 3 || len(skipped) != 1 || skipped[0].Line != 3 {
		t.Fatalf("%d assigned, skipped %v, %v", len(got), skipped, err)
	}
	if fields := slices.Sorted(maps.Keys(got[0].Fields)); got[0].Integration != "sftp" || !slices.Equal(fields, []string{"host", "username"}) {
		t.Errorf("%s with %v", got[0].Integration, fields)
	}
	if got[1].Integration != "google_cloud" || got[2].Integration != "slack" {
		t.Errorf("%s, %s", got[1].Integration, got[2].Integration)
	}
	if _, _, err = Assign(entries, integrations(), Options{}); err == nil || !strings.Contains(err.Error(), "line 4") {
		t.Errorf("an entry without a name: %v", err)
	}
}

// With an integration, the names of a flat file are its fields.
func TestAssignFields(t *testing.T) {
	for format, text := range map[Format]string{Env: "HOST=h\nUserName=u\nother_thing=x", JSON: `{"host":"h","userName":"u","other_thing":"x"}`} {
		entries, err := Read(format, []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		got, _, err := Assign(entries, integrations(), Options{Integration: "sftp"})
		if err != nil || len(got) != 1 {
			t.Fatalf("%d credentials, %v", len(got), err)
		}
		if fields := slices.Sorted(maps.Keys(got[0].Fields)); !slices.Equal(fields, []string{"host", "other_thing", "username"}) {
			t.Errorf("%s: %v", format, fields)
		}
	}
}

func TestParseMapping(t *testing.T) {
	m, err := ParseMapping([]byte(`{"A": "slack", "B": {"integration": "sftp", "field": "host"}}`))
	if err != nil || m["A"].Integration != "slack" || m["B"].Field != "host" {
		t.Errorf("%v, %v", m, err)
	}
	for text, want := range map[string]string{
		"A: {integraton: x}": "integraton", "A: {}": "say an integration", "A: {field: x}": "needs its integration",
		"- a": "", "A: b\nA: c": "", "A: [b": "",
	} {
		if m, err := ParseMapping([]byte(text)); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, %v", text, m, err)
		}
	}
}

// records are written and read back, whatever their values hold.
func records(values ...string) []Record {
	production := "production"
	list := []Record{
		{Integration: "salesforce", Environment: &production, Name: "default", Status: "active", Version: 2, UpdatedAt: "2026-01-02T03:04:05.000Z", Fields: map[string]secret.Value{}},
		{Integration: "slack", Name: "default", Status: "active", Version: 1, AuthType: "api_key", ExpiresAt: "2027-01-02T03:04:05.000Z", Fields: map[string]secret.Value{"value": secret.New(values[0])}},
	}
	for i, v := range values {
		list[0].Fields[fmt.Sprintf("field_%d", i)] = secret.New(v)
	}
	return list
}

func TestWriteRefuses(t *testing.T) {
	var b bytes.Buffer
	named := []Record{{Integration: "slack", Name: "emea"}}
	if err := Write(&b, Env, named, true); err == nil || !strings.Contains(err.Error(), "no place") {
		t.Errorf("a name in .env: %v", err)
	}
	two := []Record{{Integration: "a.b", Fields: map[string]secret.Value{"x": {}}}, {Integration: "a_b", Fields: map[string]secret.Value{"x": {}}}}
	if err := Write(&b, Env, two, true); err == nil || !strings.Contains(err.Error(), "A_B_X") {
		t.Errorf("one variable for two: %v", err)
	}
	crlf := []Record{{Integration: "a", Fields: map[string]secret.Value{"x": secret.New(canary + "\r\n")}}}
	if err := Write(&b, CSV, crlf, true); err == nil || strings.Contains(err.Error(), canary) {
		t.Errorf("CR LF in CSV: %v", err)
	}
	if err := Write(&b, Vault, nil, true); err == nil {
		t.Error("wrote an export of Vault")
	}
}

// A spreadsheet runs no cell of an export.
func TestFormulas(t *testing.T) {
	var b bytes.Buffer
	evil := records("=cmd|' /C calc'!A0", "+1", "-1", "@SUM(1)", "\t=1", "'=1")
	evil[0].Name = "=1+1"
	if err := Write(&b, CSV, evil, true); err != nil {
		t.Fatal(err)
	}
	rows, err := newCSVReader(b.Bytes()).ReadAll()
	if err != nil || len(rows) != 8 {
		t.Fatalf("%d rows, %v", len(rows), err)
	}
	for _, cell := range slices.Concat(rows...) {
		if cell != "" && strings.ContainsAny(cell[:1], "=+-@\t\r") {
			t.Errorf("the cell %q is a formula", cell)
		}
	}
}
