package main

import (
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/sidevault/sidevault/plugins/internal/trial"
	"github.com/sidevault/sidevault/plugins/pluginpb"
	"github.com/sidevault/sidevault/plugins/plugintest"
	"github.com/sidevault/sidevault/plugins/sdk"
	"github.com/sidevault/sidevault/vault/secret"
)

const canary = "canary-5f1e-do-not-show"

func validate(t *testing.T, config string, fields map[string]string) (sdk.ValidateResult, error) {
	t.Helper()
	r := sdk.ValidateRequest{Config: sdk.Config(config)}
	r.Fields = map[string]secret.Value{}
	for name, text := range fields {
		r.Fields[name] = secret.New(text)
	}
	return validator{}.Validate(t.Context(), r)
}

// rejects is the rejection that says this of these fields.
func rejects(of map[string]string) sdk.ValidateResult { return answer(of) }

func TestFields(t *testing.T) {
	token := base64.RawURLEncoding.EncodeToString([]byte(`{"a":1}`))
	block := "-----BEGIN KEY-----\nAAAA\n-----END KEY-----\n"
	for _, test := range []struct {
		rule, good, bad, says string
	}{
		{`"pattern":"ab|a"`, "ab", "abc", "must match ab|a"},
		{`"pattern":"a"`, "a", "a\n", "must match a; has white space around it"},
		{`"pattern":"(?m)^a$"`, "a", "b\na", "must match (?m)^a$"},
		{`"minLength":2`, "éé", "é", "must have at least 2 characters"},
		{`"maxLength":2`, "éé", "ééé", "must have at most 2 characters"},
		{`"maxLength":0`, "", "a", "must have at most 0 characters"},
		{`"prefix":"sk-"`, "sk-1", "ask-1", `must begin with "sk-"`},
		{`"prefix":["a","b"]`, "b1", "c1", `must begin with "a" or "b"`},
		{`"suffix":"="`, "a=", "=a", `must end with "="`},
		{`"oneOf":["eu","us"]`, "us", "usa", `must be "eu" or "us"`},
		{`"minLength":9,"prefix":"x"`, "x12345678", "y", `must have at least 9 characters; must begin with "x"`},
		{`"minLength":9,"message":"copy the key whole"`, "123456789", "1", "copy the key whole"},
		{`"format":"base64"`, "YWI=", "YWI", "must be base64 (RFC 4648, with padding)"},
		{`"format":"base64"`, "YWI=", "YW\nI=", "must be base64 (RFC 4648, with padding)"},
		{`"format":"base64url"`, "_-8", "/+8", "must be base64url (RFC 4648, without padding)"},
		{`"format":"email"`, "a@b.example", "A <a@b.example>", "must be an e-mail address"},
		{`"format":"hex"`, "00ff", "00f", "must be hexadecimal digits, an even number of them"},
		{`"format":"hostname"`, "a.example-b.com", "a..com", "must be a host name"},
		{`"format":"integer"`, "-12", "012", "must be a whole number"},
		{`"format":"json"`, `{"a":[1]}`, `{"a":}`, "must be JSON"},
		{`"format":"jwt"`, token + "." + token + ".c2ln", token + "." + token + ".", "must be a JSON Web Token: three parts with dots between them"},
		{`"format":"jwt"`, token + "." + token + ".c2ln", "bnVsbA.bnVsbA.c2ln", "must be a JSON Web Token: three parts with dots between them"},
		{`"format":"pem"`, block + "\n" + block, "x" + strings.TrimSpace(block), "must be PEM: blocks between BEGIN and END lines, and nothing else"},
		{`"format":"pem"`, block, block + "x", "must be PEM: blocks between BEGIN and END lines, and nothing else"},
		{`"format":"pem"`, block, "", "must be PEM: blocks between BEGIN and END lines, and nothing else"},
		{`"format":"url"`, "https://a.example/p", "https://u:p@a.example", "must be an http or https URL with a host, without user and password"},
		{`"format":"url"`, "http://a", "javascript:x", "must be an http or https URL with a host, without user and password"},
		{`"format":"uuid"`, "01890000-0000-7000-8000-00000000000F", "01890000-0000-7000-8000-00000000000G", "must be a UUID"},
		{`"schema":{"type":"object"}`, `{}`, `[]`, "does not fit the schema at /type"},
		{`"schema":{"required":["b","a"]}`, `{"a":1,"b":2}`, `{"c":"` + canary + `"}`, "lacks b, a"},
		{`"schema":{"properties":{"n":{"$ref":"#/$defs/n"}},"$defs":{"n":{"minimum":3}}}`, `{"n":3}`, `{"n":2}`, "does not fit the schema at /$defs/n/minimum"},
		{`"schema":{"additionalProperties":false}`, `{}`, `{"` + canary + `":1}`, "does not fit the schema at /additionalProperties"},
		{`"schema":{"format":"email"}`, `"a@b.example"`, `"` + canary + `"`, "does not fit the schema at /format"},
		{`"schema":true`, `1`, canary, "must be JSON"},
		{`"schema":{"multipleOf":2}`, `4`, `1e999999999`, "holds a number that is out of range"},
		{`"schema":{"items":{"multipleOf":2}}`, `[4]`, `[1E-999999999]`, "holds a number that is out of range"},
	} {
		config := `{"fields":{"f":{` + test.rule + `}}}`
		if got, err := validate(t, config, map[string]string{"f": test.good}); err != nil || !reflect.DeepEqual(got, sdk.Accept()) {
			t.Errorf("%s: a good value: %+v, %v", test.rule, got, err)
		}
		want := rejects(map[string]string{"f": test.says})
		if got, err := validate(t, config, map[string]string{"f": test.bad}); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: a bad value: %+v, %v", test.rule, got, err)
		}
	}
}

func TestEveryFormatIsTested(t *testing.T) {
	for name, form := range forms {
		if form.fits(canary+" \x00") || form.is == "" {
			t.Errorf("%s accepts anything", name)
		}
	}
}

func TestRequired(t *testing.T) {
	config := `{"required":["b","a","b"],"fields":{"a":{"minLength":3},"c":{"prefix":"x"}}}`
	for _, test := range []struct{ given, wrong map[string]string }{
		{map[string]string{"a": "123", "b": "1"}, nil},
		{map[string]string{"a": "123", "b": "1", "c": "x", "d": "unknown"}, nil},
		{nil, map[string]string{"a": "is required", "b": "is required"}},
		{map[string]string{"a": "", "b": "1"}, map[string]string{"a": "is required"}},
		{map[string]string{"a": "1", "c": "y"}, map[string]string{"a": "must have at least 3 characters", "b": "is required", "c": `must begin with "x"`}},
	} {
		for range 3 {
			if got, err := validate(t, config, test.given); err != nil || !reflect.DeepEqual(got, rejects(test.wrong)) {
				t.Errorf("%v: %+v, %v", test.given, got, err)
			}
		}
	}
	if got := fmt.Sprintf("%+v", rejects(map[string]string{"b": "x", "a": "y"})); !strings.Contains(got, "the format is wrong in the fields a, b") {
		t.Errorf("the message: %s", got)
	}
}

// A configuration with a mistake gives no verdict, whatever the credential is.
func TestConfigFaults(t *testing.T) {
	for config, says := range map[string]string{
		``:                                     "checks nothing",
		`{}`:                                   "checks nothing",
		`null`:                                 "config",
		`[]`:                                   "config",
		`{"fields":{}}`:                        "checks nothing",
		`{"fields":{"f":{}}}`:                  "nothing to check",
		`{"fields":{"f":{"message":"m"}}}`:     "nothing to check",
		`{"required":[""]}`:                    "empty name",
		`{"feilds":{}}`:                        "feilds",
		`{"fields":{"f":{"patern":"a"}}}`:      "patern",
		`{"fields":{"f":{"pattern":""}}}`:      "pattern is empty",
		`{"fields":{"f":{"pattern":"("}}}`:     "pattern",
		`{"fields":{"f":{"pattern":"a)|(b"}}}`: "pattern",
		`{"fields":{"f":{"pattern":"(?=a)"}}}`: "pattern",
		`{"fields":{"f":{"minLength":-1}}}`:    "minLength",
		`{"fields":{"f":{"minLength":3,"maxLength":2}}}`:                    "maxLength",
		`{"fields":{"f":{"minLength":"3"}}}`:                                "minLength",
		`{"fields":{"f":{"prefix":""}}}`:                                    "prefix",
		`{"fields":{"f":{"prefix":[]}}}`:                                    "prefix",
		`{"fields":{"f":{"prefix":3}}}`:                                     "prefix",
		`{"fields":{"f":{"prefix":null,"minLength":1}}}`:                    "prefix",
		`{"fields":{"f":{"suffix":["a",""]}}}`:                              "suffix",
		`{"fields":{"f":{"oneOf":[]}}}`:                                     "oneOf",
		`{"fields":{"f":{"format":"yaml"}}}`:                                `"yaml" is not known; it can be base64, base64url, email`,
		`{"fields":{"f":{"format":""}}}`:                                    "is not known",
		`{"fields":{"f":{"schema":null}}}`:                                  "schema",
		`{"fields":{"f":{"schema":{"type":"strin"}}}}`:                      "schema",
		`{"fields":{"f":{"schema":{"pattern":"(?=a)"}}}}`:                   "schema",
		`{"fields":{"f":{"schema":{"$ref":"https://example.com/s.json"}}}}`: "schema",
		`{"fields":{"f":{"schema":{"$ref":"file:///etc/passwd"}}}}`:         "schema",
	} {
		for _, fields := range []map[string]string{nil, {"f": "a"}} {
			got, err := validate(t, config, fields)
			if err == nil || !strings.Contains(err.Error(), says) || !reflect.DeepEqual(got, sdk.ValidateResult{}) {
				t.Errorf("%s: %+v, %v", config, got, err)
			}
		}
	}
}

// The file is there, and is a schema: that it is refused has no other reason.
func TestSchemaReadsNoFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "schema.json")
	if err := os.WriteFile(file, []byte("true"), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := validate(t, `{"fields":{"f":{"schema":{"$ref":"file://`+file+`"}}}}`, map[string]string{"f": "1"})
	if err == nil || !strings.Contains(err.Error(), "complete in itself") {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestNothingOfTheValueIsSaid(t *testing.T) {
	document := `{"` + canary + `":["` + canary + `",{"` + canary + `":1}]}`
	schemas := []string{
		`{"additionalProperties":false}`, `{"propertyNames":{"pattern":"^x"}}`, `{"additionalProperties":{"items":{"type":"null"}}}`,
		`{"not":{}}`, `{"enum":[1]}`, `{"const":1}`, `{"additionalProperties":{"uniqueItems":true,"contains":{"const":3}}}`,
		`{"patternProperties":{".":{"prefixItems":[{"pattern":"x$"}]}}}`, `{"oneOf":[{"type":"null"},{"type":"string"}]}`, `false`,
		`{"dependentRequired":{"` + canary[:6] + `":["x"]},"type":"null"}`, `{"unevaluatedProperties":false}`, `{"maxProperties":0}`,
	}
	for _, s := range schemas {
		got, err := validate(t, `{"fields":{"f":{"schema":`+s+`}}}`, map[string]string{"f": document})
		if said := fmt.Sprintf("%+v", got); err != nil || reflect.DeepEqual(got, sdk.Accept()) || strings.Contains(said, canary) {
			t.Errorf("%s: %s, %v", s, said, err)
		}
	}
	for name := range forms {
		got, err := validate(t, `{"fields":{"f":{"format":"`+name+`","maxLength":1}}}`, map[string]string{"f": " " + canary})
		if said := fmt.Sprintf("%+v", got); err != nil || reflect.DeepEqual(got, sdk.Accept()) || strings.Contains(said, canary) {
			t.Errorf("%s: %s, %v", name, said, err)
		}
	}
}

func TestDocumented(t *testing.T) {
	trial.Documented(t, "format", config{})
	names := slices.Sorted(func(yield func(string) bool) {
		for name := range forms {
			yield("`" + name + "`")
		}
	})
	list := strings.Join(names[:len(names)-1], ", ") + " or " + names[len(names)-1]
	if !strings.Contains(trial.Section(t, "format"), list) {
		t.Errorf("the page does not list %s", list)
	}
	example := string(trial.Example(t, "format").Config)
	good := map[string]string{"api_key": "acme_live_0123456789", "region": "eu", "service_account": `{"client_email":"a@b.example","private_key":"k"}`}
	if got, err := validate(t, example, good); err != nil || !reflect.DeepEqual(got, sdk.Accept()) {
		t.Errorf("the example: %+v, %v", got, err)
	}
	if got, err := validate(t, example, map[string]string{"api_key": "0123456789"}); err != nil || reflect.DeepEqual(got, sdk.Accept()) {
		t.Errorf("the example accepts a bad key: %+v, %v", got, err)
	}
}

func TestProgram(t *testing.T) {
	p := trial.Start(t, pluginpb.ServiceValidator)
	p.Describes(t, "format", pluginpb.ServiceValidator)
	config := `{"fields":{"key":{"prefix":"acme_"}}}`
	for value, want := range map[string]pluginpb.ValidateResponse_Verdict{
		"acme_1": pluginpb.ValidateResponse_VERDICT_VALID, canary: pluginpb.ValidateResponse_VERDICT_REJECTED,
	} {
		r, err := p.Validator.Validate(t.Context(), &pluginpb.ValidateRequest{Fields: map[string]string{"key": value}, Config: config})
		if err != nil || r.GetVerdict() != want {
			t.Errorf("%v, %v", r, err)
		}
		if strings.Contains(r.String()+p.Log(), canary) {
			t.Error("the value is in the answer or the log")
		}
	}
	if r, err := p.Validator.Validate(t.Context(), &pluginpb.ValidateRequest{Config: "{}"}); err == nil {
		t.Errorf("a configuration that checks nothing: %v", r)
	}
}

func TestContract(t *testing.T) {
	plugintest.Run(t, plugintest.Plugin{
		Path: plugintest.Build(t, "."), Kind: plugintest.Validator, Config: `{"fields":{"value":{"prefix":"acme_"}},"required":["value"]}`,
		Good: []plugintest.Credential{plugintest.Opaque("acme_0123456789")},
		Bad:  []plugintest.Credential{plugintest.Opaque("0123456789"), plugintest.WithFields(map[string]string{"other": "acme_1"})},
	})
}

// Whatever the configuration is, there is an error or one and the same verdict.
func FuzzConfig(f *testing.F) {
	f.Add(`{"required":["f"],"fields":{"f":{"pattern":"a+","prefix":["a"],"format":"json","schema":{"type":"object"}}}}`, "aaa")
	f.Add(`{"fields":{"f":{"schema":{"items":{"minimum":1}},"minLength":1,"maxLength":9}}}`, `[1]`)
	f.Fuzz(func(t *testing.T, config, value string) {
		first, err := validate(t, config, map[string]string{"f": value})
		second, again := validate(t, config, map[string]string{"f": value})
		if (err == nil) != (again == nil) || !reflect.DeepEqual(first, second) {
			t.Errorf("%+v, %v and then %+v, %v", first, err, second, again)
		}
		if (err == nil) == reflect.DeepEqual(first, sdk.ValidateResult{}) {
			t.Errorf("%+v with %v", first, err)
		}
	})
}
