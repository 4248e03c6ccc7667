package main

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sidevault/sidevault/plugins/internal/trial"
	"github.com/sidevault/sidevault/plugins/sdk"
	"github.com/sidevault/sidevault/vault/secret"
)

const canary = "canary-5f1e/do not show"

// seen is a request as a provider gets it.
type seen struct {
	method, uri, host, body string
	header                  http.Header
}

// provider answers what a test says, and remembers the requests.
type provider struct {
	*httptest.Server
	mu    sync.Mutex
	got   []seen
	do    http.HandlerFunc
	caPEM string // file with its certificate
}

// open starts a provider with TLS, whose certificate is for 127.0.0.1 and example.com.
func open(t *testing.T, do http.HandlerFunc) *provider {
	t.Helper()
	p := &provider{do: do, caPEM: filepath.Join(t.TempDir(), "ca.pem")}
	p.Server = httptest.NewTLSServer(http.HandlerFunc(p.serve))
	t.Cleanup(p.Close)
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.Certificate().Raw})
	if err := os.WriteFile(p.caPEM, cert, 0o600); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *provider) serve(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	p.mu.Lock()
	p.got = append(p.got, seen{r.Method, r.RequestURI, r.Host, string(body), r.Header})
	do := p.do
	p.mu.Unlock()
	do(w, r)
}

// answer changes what the provider does.
func (p *provider) answer(do http.HandlerFunc) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.do = do
}

// requests returns what came since the last time.
func (p *provider) requests() []seen {
	p.mu.Lock()
	defer p.mu.Unlock()
	got := p.got
	p.got = nil
	return got
}

func (p *provider) port() string {
	_, port, _ := net.SplitHostPort(p.Listener.Addr().String())
	return port
}

// config is that of a binding to this provider.
func (p *provider) config(request string, more ...string) string {
	return fmt.Sprintf(`{"request":{"url":"%s/check",%s},"allowPrivate":true,"caFile":%q%s}`,
		p.URL, request, p.caPEM, strings.Join(append([]string{""}, more...), ","))
}

func validate(t *testing.T, v validator, config string, fields map[string]string) (sdk.ValidateResult, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	r := sdk.ValidateRequest{Config: sdk.Config(config)}
	r.Fields = map[string]secret.Value{}
	for name, text := range fields {
		r.Fields[name] = secret.New(text)
	}
	got, err := v.Validate(ctx, r)
	if said := fmt.Sprintf("%+v %v", got, err); strings.Contains(said, canary) || strings.Contains(said, "canary") {
		t.Errorf("the value is in %s", said)
	}
	return got, err
}

const bearer = `"headers":{"Authorization":"Bearer {{field:value}}"}`

func answering(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(code)
		io.WriteString(w, "you sent "+r.Header.Get("Authorization"))
	}
}

func TestStatuses(t *testing.T) {
	p := open(t, nil)
	for _, test := range []struct {
		code     int
		statuses string
		want     string // accept, reject or error
	}{
		{200, "", "accept"}, {204, "", "accept"}, {401, "", "reject"}, {403, "", "reject"},
		{400, "", "error"}, {404, "", "error"}, {429, "", "error"}, {500, "", "error"}, {503, "", "error"}, {302, "", "error"}, {304, "", "error"},
		{200, `"valid":[200,"3xx"],"invalid":["4xx"]`, "accept"}, {204, `"valid":[200,"3xx"],"invalid":["4xx"]`, "error"},
		{302, `"valid":[200,"3xx"],"invalid":["4xx"]`, "accept"}, {418, `"valid":[200,"3xx"],"invalid":["4xx"]`, "reject"},
		{401, `"invalid":[]`, "error"},
	} {
		p.answer(answering(test.code))
		config := p.config(bearer)
		if test.statuses != "" {
			config = p.config(bearer, test.statuses)
		}
		got, err := validate(t, validator{}, config, map[string]string{"value": canary})
		want, fails := sdk.Accept(), test.want == "error"
		if test.want == "reject" {
			want = sdk.Reject("the provider does not accept this credential (it answered %d)", test.code)
		}
		if fails && (err == nil || !strings.Contains(err.Error(), fmt.Sprint(test.code))) || !fails && (err != nil || !reflect.DeepEqual(got, want)) {
			t.Errorf("%d with %s: %+v, %v", test.code, test.statuses, got, err)
		}
		if r := p.requests(); len(r) != 1 || r[0].header.Get("Authorization") != "Bearer "+canary || strings.Contains(r[0].uri, "canary") {
			t.Errorf("%d: %d requests, or not as the template says", test.code, len(r))
		}
	}
}

func TestRequest(t *testing.T) {
	p := open(t, answering(200))
	fields := map[string]string{"user": "ann", "key": `a"&b/c=`, "n": "x"}
	for _, test := range []struct {
		request, method, uri, header, value, body string
	}{
		{`"headers":{"x-key":"k {{ field:key }} {{field:n}}"}`, "GET", "/check", "X-Key", `k a"&b/c= x`, ""},
		{`"headers":{"X-Key":"{{field:key|base64}}"}`, "GET", "/check", "X-Key", "YSImYi9jPQ==", ""},
		{`"method":"HEAD","basicAuth":{"user":"{{field:user}}","password":"{{field:key}}"}`, "HEAD", "/check", "Authorization", "Basic YW5uOmEiJmIvYz0=", ""},
		{`"method":"POST","form":{"k":"{{field:key}}","g":"client"}`, "POST", "/check", "Content-Type", "application/x-www-form-urlencoded", "g=client&k=a%22%26b%2Fc%3D"},
		{`"method":"POST","json":{"k":["{{field:key}}",1.50,null,true]}`, "POST", "/check", "Content-Type", "application/json", `{"k":["a\"&b/c=",1.50,null,true]}` + "\n"},
		{`"method":"POST","headers":{"Content-Type":"text/x"},"body":"<{{field:key|json}}|{{field:key|query}}>"`, "POST", "/check", "Content-Type", "text/x", `<a\"\u0026b/c=|a%22%26b%2Fc%3D>`},
		{`"query":{"v":"1&2"}`, "GET", "/check?v=1%262", "User-Agent", "sidevault-validator-http", ""},
	} {
		if got, err := validate(t, validator{}, p.config(test.request), fields); err != nil || !reflect.DeepEqual(got, sdk.Accept()) {
			t.Errorf("%s: %+v, %v", test.request, got, err)
		}
		r := p.requests()
		if len(r) != 1 || r[0].method != test.method || r[0].uri != test.uri || r[0].header.Get(test.header) != test.value || r[0].body != test.body {
			t.Errorf("%s: %+v", test.request, r)
		}
	}
}

func TestFieldsThatCannotBeSent(t *testing.T) {
	p := open(t, answering(200))
	for _, test := range []struct {
		request, value, says string
	}{
		{bearer, "canary\r\nX-Admin: 1", "line break"}, {bearer, "canary\n", "line break"}, {bearer, "canary\x00", "line break"}, {bearer, "canary\x7f", "line break"},
		{bearer, "", "is missing"}, {`"headers":{"a":"{{field:other}}"}`, "canary", "is missing"},
		{`"basicAuth":{"user":"{{field:value}}","password":"x"}`, "canary:x", "colon"},
	} {
		got, err := validate(t, validator{}, p.config(test.request), map[string]string{"value": test.value})
		if said := fmt.Sprintf("%+v", got); err != nil || !strings.Contains(said, "verdict:2") || !strings.Contains(said, test.says) {
			t.Errorf("%q: %s, %v", test.value, said, err)
		}
	}
	if r := p.requests(); len(r) != 0 {
		t.Errorf("%d requests", len(r))
	}
}

func TestExpect(t *testing.T) {
	big := strings.Repeat(" ", 70<<10)
	p := open(t, nil)
	for _, test := range []struct{ expect, body, want string }{
		{`{"pointer":"/ok","equals":true}`, `{"ok":true}`, "accept"}, {`{"pointer":"/ok","equals":true}`, `{"ok":false,"e":"` + canary + `"}`, "reject"},
		{`{"pointer":"/ok","equals":true}`, `{"ok":"true"}`, "reject"}, {`{"pointer":"/ok","equals":true}`, `{}`, "error"},
		{`{"pointer":"/ok","equals":true}`, `not JSON ` + canary, "error"}, {`{"pointer":"/ok","equals":true}`, `{"ok":true} {}`, "error"},
		{`{"pointer":"/ok","equals":true}`, `{"ok":true` + big + `}`, "error"}, {`{"pointer":"/ok","equals":null}`, `{"ok":null}`, "accept"},
		{`{"pointer":"/a~1b/1/c~0","equals":{"n":1}}`, `{"a/b":[0,{"c~":{"n":1}}]}`, "accept"}, {`{"pointer":"/a/2","equals":1}`, `{"a":[1]}`, "error"},
		{`{"pointer":"/a/-1","equals":1}`, `{"a":[1]}`, "error"}, {`{"pointer":"/a/b","equals":1}`, `{"a":"b"}`, "error"},
		{`{"pointer":"/s","contains":"read"}`, `{"s":"read write"}`, "accept"}, {`{"pointer":"/s","contains":"read"}`, `{"s":["read"]}`, "reject"},
		{`{"contains":"pong"}`, `ping pong`, "accept"}, {`{"contains":"pong"}`, `ping`, "reject"}, {`{"contains":"pong"}`, big + `pong`, "error"},
	} {
		p.answer(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, test.body) })
		got, err := validate(t, validator{}, p.config(bearer, `"expect":`+test.expect, `"message":"try another"`), map[string]string{"value": canary})
		want := map[string]sdk.ValidateResult{"accept": sdk.Accept(), "reject": sdk.Reject("try another")}[test.want]
		if !reflect.DeepEqual(got, want) || (err != nil) != (test.want == "error") {
			t.Errorf("%s of %.40s: %+v, %v", test.expect, test.body, got, err)
		}
	}
}

// Whatever goes wrong on the way is no verdict, and its text has nothing of the URL.
func TestNoAnswer(t *testing.T) {
	p := open(t, nil)
	p.Config.ErrorLog = nil
	inURL := `"query":{"key":"{{field:value}}"}`
	for name, test := range map[string]struct {
		config string
		do     http.HandlerFunc
		says   string
	}{
		"hangs": {p.config(inURL, `"secretInURL":true`), func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, "in time"},
		"resets": {p.config(inURL, `"secretInURL":true,"expect":{"contains":"x"}`), func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			io.WriteString(w, "half")
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}, "closed the connection"},
		"unknown CA":  {strings.Replace(p.config(inURL, `"secretInURL":true`), "caFile", "message", 1), answering(200), "certificate"},
		"private":     {strings.Replace(p.config(inURL, `"secretInURL":true`), `"allowPrivate":true,`, "", 1), answering(200), "private address"},
		"no CA":       {strings.Replace(p.config(inURL, `"secretInURL":true`), "ca.pem", "no.pem", 1), answering(200), "caFile"},
		"no listener": {`{"request":{"url":"https://127.0.0.1:1/",` + inURL + `},"secretInURL":true,"allowPrivate":true}`, nil, "refuses connections"},
	} {
		t.Run(name, func(t *testing.T) {
			p.answer(test.do)
			got, err := validate(t, validator{}, test.config, map[string]string{"value": canary})
			if err == nil || !strings.Contains(err.Error(), test.says) || !reflect.DeepEqual(got, sdk.ValidateResult{}) {
				t.Errorf("%+v, %v", got, err)
			}
		})
	}
}

// A body of any size is not read when nothing is expected of it.
func TestGiantBody(t *testing.T) {
	p := open(t, func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			w.Write(make([]byte, 1<<16))
		}
	})
	if got, err := validate(t, validator{}, p.config(bearer), map[string]string{"value": canary}); err != nil || !reflect.DeepEqual(got, sdk.Accept()) {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := validate(t, validator{}, p.config(bearer, `"expect":{"pointer":"/a","equals":1}`), map[string]string{"value": canary}); err == nil {
		t.Error("a giant body was judged")
	}
}

// The name of a public service may resolve to anything, and a redirect may lead
// anywhere: neither gets the credential into another network.
func TestOtherNetworks(t *testing.T) {
	p := open(t, answering(200))
	v := validator{resolver: trial.Resolver(t, "127.0.0.1")}
	config := func(more string) string {
		return fmt.Sprintf(`{"request":{"url":"https://example.com:%s/",%s},"caFile":%q%s}`, p.port(), bearer, p.caPEM, more)
	}
	if _, err := validate(t, v, config(""), map[string]string{"value": canary}); err == nil || !strings.Contains(err.Error(), "private") {
		t.Errorf("a name with a private address: %v", err)
	}
	if r := p.requests(); len(r) != 0 {
		t.Error("it was connected to")
	}
	if _, err := validate(t, v, config(`,"allowPrivate":true`), map[string]string{"value": canary}); err != nil || len(p.requests()) != 1 {
		t.Errorf("with allowPrivate: %v", err)
	}
	other := open(t, answering(200))
	p.answer(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, other.URL, http.StatusTemporaryRedirect)
	})
	for _, follow := range []string{"", `,"followRedirects":true`} {
		_, err := validate(t, v, config(`,"allowPrivate":true`+follow), map[string]string{"value": canary})
		if err == nil || !strings.Contains(err.Error(), "307") || len(other.requests()) != 0 {
			t.Errorf("a redirect to another host%s: %v", follow, err)
		}
	}
}

// Without TLS the credential goes to this host only, whatever its name is.
func TestPlainHTTP(t *testing.T) {
	server := httptest.NewServer(answering(200))
	defer server.Close()
	local := fmt.Sprintf(`{"request":{"url":"%s",%s},"allowPrivate":true}`, server.URL, bearer)
	if got, err := validate(t, validator{}, local, map[string]string{"value": canary}); err != nil || !reflect.DeepEqual(got, sdk.Accept()) {
		t.Errorf("this host: %+v, %v", got, err)
	}
	v := validator{resolver: trial.Resolver(t, "10.255.255.1")}
	away := fmt.Sprintf(`{"request":{"url":"http://localhost.example.com/",%s},"allowPrivate":true}`, bearer)
	if _, err := validate(t, v, away, map[string]string{"value": canary}); err == nil || !strings.Contains(err.Error(), "https") {
		t.Errorf("another host: %v", err)
	}
}

func TestDocumented(t *testing.T) {
	trial.Documented(t, "http", config{})
	example := trial.Example(t, "http").Config
	plan, err := compile(example)
	if err != nil {
		t.Fatal(err)
	}
	if got := plan.fields(); len(got) != 1 || got[0] != "bot_token" || !json.Valid(example) {
		t.Errorf("the example asks for %v", got)
	}
}
