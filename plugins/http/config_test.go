package main

import (
	"encoding/base64"
	"fmt"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/sidevault/sidevault/plugins/sdk"
	"github.com/sidevault/sidevault/vault/secret"
)

// A configuration with a mistake gives no verdict and makes no request.
func TestConfigFaults(t *testing.T) {
	for config, says := range map[string]string{
		``:                                                               "request.url",
		`{}`:                                                             "request.url",
		`{"requests":{}}`:                                                "requests",
		`{"request":{"url":"ftp://h"}}`:                                  "https://",
		`{"request":{"url":"h"}}`:                                        "https://",
		`{"request":{"url":"https://"}}`:                                 "no host",
		`{"request":{"url":"https://u:p@h"}}`:                            "user",
		`{"request":{"url":"https://h#f"}}`:                              "fragment",
		`{"request":{"url":"https://h/{{"}}`:                             "no }}",
		`{"request":{"url":"https://h/{{value}}"}}`:                      "{{field:NAME}}",
		`{"request":{"url":"https://h/{{field:}}"}}`:                     "{{field:NAME}}",
		`{"request":{"url":"https://h/{{field:a|json}}"}}`:               `no filter "json" here`,
		`{"request":{"url":"https://h/{{field:a}}"}}`:                    "secretInURL",
		`{"request":{"url":"https://h/?k={{field:a}}"}}`:                 "secretInURL",
		`{"request":{"url":"https://{{field:a}}/"}}`:                     "secretInURL",
		`{"request":{"url":"https://h/","query":{"k":"{{field:a}}"}}}`:   "secretInURL",
		`{"secretInURL":true,"request":{"url":"https://{{field:a}}/"}}`:  "allowedHosts",
		`{"secretInURL":true,"request":{"url":"{{field:a}}/x"}}`:         "must begin with",
		`{"secretInURL":true,"request":{"url":"http{{field:a}}://h"}}`:   "not the scheme",
		`{"secretInURL":true,"request":{"url":"https:{{field:a}}"}}`:     "not the scheme",
		`{"secretInURL":true,"request":{"url":"https://h:{{field:a}}"}}`: "port",
		`{"secretInURL":true,"request":{"url":"https://u@{{field:a}}"}}`: "user",
		`{"secretInURL":true,"allowedHosts":["x"],"request":{"url":"https://{{field:a}}@h"}}`: "user",
		`{"secretInURL":true,"request":{"url":"https://h/#{{field:a}}"}}`:                     "fragment",
		`{"secretInURL":true,"request":{"url":"https://h/{{field:a|host}}"}}`:                 "filter host",
		`{"allowedHosts":["*"],"request":{"url":"https://h/"}}`:                               "allowedHosts",
		`{"allowedHosts":["https://h"],"request":{"url":"https://h/"}}`:                       "allowedHosts",
		`{"allowedHosts":["g"],"request":{"url":"https://h/"}}`:                               "allowedHosts",
		`{"request":{"url":"https://h","method":"DELETE"}}`:                                   "request.method",
		`{"request":{"url":"https://h","method":"get"}}`:                                      "request.method",
		`{"request":{"url":"https://h","headers":{"Host":"x"}}}`:                              "cannot be set",
		`{"request":{"url":"https://h","headers":{"transfer-encoding":"x"}}}`:                 "cannot be set",
		`{"request":{"url":"https://h","headers":{"Proxy-Authorization":"x"}}}`:               "cannot be set",
		`{"request":{"url":"https://h","headers":{"a b":"x"}}}`:                               "not the name",
		`{"request":{"url":"https://h","headers":{"{{field:a}}":"x"}}}`:                       "not the name",
		`{"request":{"url":"https://h","headers":{"a":"x\ny"}}}`:                              "line break",
		`{"request":{"url":"https://h","headers":{"authorization":"x"},"basicAuth":{}}}`:      "both",
		`{"request":{"url":"https://h","body":"x"}}`:                                          "POST",
		`{"request":{"url":"https://h","method":"POST","body":"x","form":{}}}`:                "more than one",
		`{"request":{"url":"https://h","method":"POST","json":{"a":"{{"}}}`:                   "no }}",
		`{"request":{"url":"https://h"},"valid":[]}`:                                          "valid is empty",
		`{"request":{"url":"https://h"},"valid":["6xx"]}`:                                     "not a status",
		`{"request":{"url":"https://h"},"valid":[99]}`:                                        "not a status",
		`{"request":{"url":"https://h"},"valid":[403]}`:                                       "in common",
		`{"request":{"url":"https://h"},"valid":["4xx"],"invalid":[404]}`:                     "in common",
		`{"request":{"url":"https://h"},"expect":{}}`:                                         "one of equals and contains",
		`{"request":{"url":"https://h"},"expect":{"equals":1}}`:                               "pointer",
		`{"request":{"url":"https://h"},"expect":{"equals":1,"pointer":"a"}}`:                 "must begin with /",
		`{"request":{"url":"https://h","method":"HEAD"},"expect":{"contains":"a"}}`:           "HEAD",
	} {
		got, err := validate(t, validator{}, config, map[string]string{"a": "x"})
		if err == nil || !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), "config of the catalog") || !reflect.DeepEqual(got, sdk.ValidateResult{}) {
			t.Errorf("%s: %+v, %v", config, got, err)
		}
	}
}

// target builds the URL of a template with one field in it.
func build(t *testing.T, template, value string, hosts ...string) (*url.URL, problems) {
	t.Helper()
	to, err := parseTarget(config{Request: request{URL: template}, SecretInURL: true, AllowedHosts: hosts})
	if err != nil {
		t.Fatal(err)
	}
	found := problems{}
	return to.url(map[string]secret.Value{"a": secret.New(value)}, found), found
}

// No value leaves the component of the URL in which its place is.
func TestURLInjection(t *testing.T) {
	for _, test := range []struct{ template, value, want string }{
		{"https://h/v1/{{field:a}}/me", "a/../b?c#d%2f;e", "https://h/v1/a%2F..%2Fb%3Fc%23d%252f%3Be/me"},
		{"https://h/?k={{field:a}}&z=1", "x&admin=1#f", "https://h/?k=x%26admin%3D1%23f&z=1"},
		{"https://h?k={{field:a|base64}}", "ab>?", "https://h?k=YWI%2BPw%3D%3D"},
		{"https://h/{{field:a}}", "..", ""}, {"https://h/{{field:a}}/x", ".", ""}, {"https://h/.{{field:a}}/x", ".", ""},
		{"https://{{field:a}}.example.com/x", "acme", "https://acme.example.com/x"},
		{"https://{{field:a}}.example.com/x", "evil.com/", ""}, {"https://{{field:a}}.example.com/x", "evil.com#", ""},
		{"https://{{field:a}}.example.com/x", "u@evil", ""}, {"https://{{field:a}}.example.com/x", "a:80", ""}, {"https://{{field:a}}.example.com/x", "é", ""},
		{"https://{{field:a}}:8443/x", "acme.EXAMPLE.com", "https://acme.EXAMPLE.com:8443/x"},
		{"https://{{field:a}}/x", "evil.com", ""}, {"https://{{field:a}}/x", "evilexample.com", ""}, {"https://{{field:a}}/x", ".example.com", ""},
		{"https://{{field:a}}/x", "169.254.169.254", ""}, {"https://{{field:a}}/x", "fixed.example.org", "https://fixed.example.org/x"},
		{"https://{{field:a|host}}/x", " https://acme.example.com/any?x ", "https://acme.example.com/x"},
		{"https://{{field:a|host}}/x", "https://acme.example.com:99/", ""}, {"https://{{field:a|host}}/x", "https://u@acme.example.com", ""},
		{"https://{{field:a|host}}/x", "https://evil.com/acme.example.com", ""},
	} {
		u, found := build(t, test.template, test.value, "*.example.com", "fixed.example.org", "h")
		switch {
		case test.want == "" && len(found) == 0:
			t.Errorf("%s with %q gives %s", test.template, test.value, u)
		case test.want != "" && (len(found) > 0 || u.String() != test.want):
			t.Errorf("%s with %q gives %s, %v", test.template, test.value, u, found)
		}
	}
}

// A template that parses is the same when it is printed and parsed again, and what it
// becomes with a value in it is the text around the places and that value.
func FuzzTemplate(f *testing.F) {
	for _, s := range []string{"", "a {{field:b}} }} c", "{{ field:b | base64 }}{{field:b|json|query}}", "{{", "{{field:b}}}}", "{{field:{{field:b}}}}"} {
		f.Add(s, "value")
	}
	f.Fuzz(func(t *testing.T, text, value string) {
		once, err := parse(text, "base64", "json", "query", "host")
		if err != nil {
			return
		}
		twice, err := parse(once.String(), "base64", "json", "query", "host")
		if err != nil || !reflect.DeepEqual(once, twice) {
			t.Fatalf("%q, printed %q, is another template: %v", text, once.String(), err)
		}
		fields, want := map[string]secret.Value{}, ""
		for _, p := range once {
			fields[p.field] = secret.New(value)
			part := value
			for _, name := range p.filters {
				part = filters[name](part)
			}
			if p.field == "" {
				part = p.text
			}
			want += part
		}
		if once.fill(fields) != want {
			t.Errorf("%q is filled in otherwise", text)
		}
		if len(once.fields()) == 0 && once.fill(nil) != text {
			t.Errorf("%q changes", text)
		}
	})
}

// Whatever the value is, host, path segments and parameters stay those of the template.
func FuzzURL(f *testing.F) {
	for _, s := range []string{"a", "../..", "a/b?c=d&e#f", "%2e%2e", "evil.com/", "@evil.com", "\\evil", "\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, value string) {
		u, found := build(t, "https://h.example.com/v1/{{field:a}}/end?k={{field:a}}&z=1", value)
		if len(found) > 0 {
			return
		}
		segments := strings.Split(u.EscapedPath(), "/")
		if u.Host != "h.example.com" || len(segments) != 4 || segments[1] != "v1" || segments[3] != "end" ||
			u.Fragment != "" || len(u.Query()) != 2 || u.Query().Get("k") != value || u.Query().Get("z") != "1" {
			t.Errorf("%q becomes %s", value, u)
		}
		if u, found := build(t, "https://{{field:a}}.example.com/x", value, "*.example.com"); len(found) == 0 &&
			(!strings.HasSuffix(strings.ToLower(u.Hostname()), ".example.com") || u.Path != "/x" || u.User != nil) {
			t.Errorf("%q becomes %s", value, u)
		}
	})
}

func TestFilters(t *testing.T) {
	var documented []string
	for name := range filters {
		documented = append(documented, name)
		if filters[name]("") != "" {
			t.Errorf("%s makes something of nothing", name)
		}
	}
	slices.Sort(documented)
	if got := fmt.Sprint(documented); got != "[base64 host json query]" {
		t.Errorf("filters: %s", got)
	}
	if filters["base64"]("ab>?") != base64.StdEncoding.EncodeToString([]byte("ab>?")) {
		t.Error("base64 is not base64")
	}
}
