package egress_test

import (
	"context"
	"encoding/pem"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sidevault/sidevault/plugins/internal/egress"
	"github.com/sidevault/sidevault/plugins/internal/trial"
)

// get asks a URL under some rules, and returns the body or how the failure is explained.
func get(t *testing.T, r egress.Rules, url string) (body string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	client, err := r.Client()
	if err != nil {
		t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(ctx, "GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := client.Do(request)
	if err != nil {
		return "", err
	}
	b, _, err := egress.Body(response)
	return string(b), err
}

func TestAddresses(t *testing.T) {
	refused := "private 127.0.0.1 127.8.9.1 [::1] [::ffff:127.0.0.1] 10.1.2.3 172.16.0.1 172.31.255.255 192.168.1.1 100.64.0.1 [fc00::1] [fd12::1] " +
		"link-local 0.0.0.0 169.254.169.254 [::ffff:169.254.169.254] [::] [fe80::1] [fe80::1%25lo] [fec0::1] 224.0.0.1 255.255.255.255 240.0.0.1 " +
		"192.0.2.1 198.18.0.1 100.100.100.200 168.63.129.16 [ff02::1] [fd00:ec2::254] [2002:7f00:1::] [64:ff9b::127.0.0.1] [64:ff9b::10.0.0.1] [::127.0.0.1] [2001::1]"
	want := ""
	for _, address := range strings.Fields(refused) {
		if !strings.ContainsAny(address, ".:") {
			want = address
			continue
		}
		_, err := get(t, egress.Rules{AllowPrivate: want == "link-local"}, "http://"+address+":9/")
		if err == nil || !strings.Contains(egress.Explain(err), want) || egress.Unsent(err) || !egress.Misconfigured(err) {
			t.Errorf("%s: %v", address, err)
		}
	}
}

// A public address is dialled: the dialler then fails, or this machine has no way
// there. Nothing of it is refused by the rules.
func TestPublicAddressesAreNotRefused(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, address := range strings.Fields("8.8.8.8:9 172.32.0.1:9 100.128.0.1:9 [2606:4700::1]:9 [64:ff9b::808:808]:9") {
		client, err := egress.Rules{}.Client()
		if err != nil {
			t.Fatal(err)
		}
		request, _ := http.NewRequestWithContext(ctx, "GET", "http://"+address, nil)
		if _, err := client.Do(request); err == nil || egress.Misconfigured(err) {
			t.Errorf("%s: %v", address, err)
		}
	}
}

// The name is innocent, what it resolves to is not.
func TestNameOfPrivateAddress(t *testing.T) {
	var calls atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { calls.Add(1) }))
	defer server.Close()
	_, port, _ := net.SplitHostPort(server.Listener.Addr().String())
	rules := egress.Rules{Resolver: trial.Resolver(t, "127.0.0.1")}
	if _, err := get(t, rules, "http://api.example.com:"+port); err == nil || !strings.Contains(egress.Explain(err), "private") || calls.Load() != 0 {
		t.Errorf("%v after %d calls", err, calls.Load())
	}
	rules.AllowPrivate = true
	if _, err := get(t, rules, "http://api.example.com:"+port); err != nil || calls.Load() != 1 {
		t.Errorf("%v after %d calls", err, calls.Load())
	}
	rules.Resolver, rules.LoopbackOnly = trial.Resolver(t, "10.0.0.1"), true
	if _, err := get(t, rules, "http://localhost.example.com:"+port); err == nil || !strings.Contains(egress.Explain(err), "not on this host") {
		t.Errorf("plain HTTP to another host: %v", err)
	}
}

func TestRedirects(t *testing.T) {
	var mux http.ServeMux
	server := httptest.NewServer(&mux)
	defer server.Close()
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "other") }))
	defer other.Close()
	mux.Handle("/same", http.RedirectHandler("/end", http.StatusFound))
	mux.Handle("/other", http.RedirectHandler(other.URL, http.StatusFound))
	mux.Handle("/loop", http.RedirectHandler("/loop", http.StatusFound))
	mux.HandleFunc("/end", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "end") })
	for _, test := range []struct {
		path   string
		follow bool
		want   string
	}{{"/same", false, ""}, {"/same", true, "end"}, {"/other", true, ""}, {"/loop", true, ""}} {
		body, err := get(t, egress.Rules{AllowPrivate: true, FollowRedirects: test.follow}, server.URL+test.path)
		if err != nil || strings.Contains(body, "other") || test.want != "" && body != test.want || test.want == "" && !strings.Contains(body, "Found") {
			t.Errorf("%+v: %q, %v", test, body, err)
		}
	}
}

func TestTLS(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") }))
	server.Config.ErrorLog = nil
	defer server.Close()
	_, err := get(t, egress.Rules{AllowPrivate: true}, server.URL)
	if err == nil || !strings.Contains(egress.Explain(err), "certificate") || !egress.Misconfigured(err) {
		t.Errorf("an unknown authority: %v", err)
	}
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	if body, err := get(t, egress.Rules{AllowPrivate: true, CAFile: file}, server.URL); err != nil || body != "hello" {
		t.Errorf("caFile: %q, %v", body, err)
	}
	wrongName := strings.Replace(server.URL, "127.0.0.1", "wrong.example.org", 1)
	if _, err := get(t, egress.Rules{AllowPrivate: true, CAFile: file, Resolver: trial.Resolver(t, "127.0.0.1")}, wrongName); err == nil || !strings.Contains(egress.Explain(err), "certificate") {
		t.Errorf("another name: %v", err)
	}
	os.WriteFile(file, []byte("nothing"), 0o600)
	for _, f := range []string{file, file + ".missing"} {
		if _, err := (egress.Rules{CAFile: f}).Client(); err == nil || !strings.Contains(err.Error(), "caFile") {
			t.Errorf("%s: %v", f, err)
		}
	}
}

// Nothing is sent to a proxy: net/http reads the environment once per process, so
// setting variables here would show nothing.
func TestNoProxy(t *testing.T) {
	client, err := egress.Rules{}.Client()
	if err != nil {
		t.Fatal(err)
	}
	if client.Transport.(*http.Transport).Proxy != nil {
		t.Error("the client takes a proxy from somewhere")
	}
}

// misbehave is a server that does to every connection what a test says.
func misbehave(t *testing.T, do func(*net.TCPConn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				c.Read(make([]byte, 4096))
				do(c.(*net.TCPConn))
			}()
		}
	}()
	return "http://" + l.Addr().String() + "/?key=canary-secret"
}

func TestFailuresAreExplainedWithoutTheURL(t *testing.T) {
	closed := httptest.NewServer(nil)
	closed.Close()
	for _, test := range []struct {
		name, url, want string
		unsent          bool
	}{
		{"refused", closed.URL + "/?key=canary-secret", "refuses connections", true},
		{"no name", "http://canary-secret.invalid/", "cannot be resolved", true},
		{"reset", misbehave(t, func(c *net.TCPConn) { c.SetLinger(0) }), "closed the connection", false},
		{"closed", misbehave(t, func(*net.TCPConn) {}), "closed the connection", false},
		{"reset in the body", misbehave(t, func(c *net.TCPConn) {
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
			c.SetLinger(0)
		}), "closed the connection", false},
		{"slow", misbehave(t, func(c *net.TCPConn) { c.Read(make([]byte, 1)) }), "did not answer in time", false},
		{"not HTTP", misbehave(t, func(c *net.TCPConn) { io.WriteString(c, "SSH-2.0-canary-secret\r\n") }), "did not give an answer in HTTP", false},
		{"giant header", misbehave(t, func(c *net.TCPConn) {
			io.WriteString(c, "HTTP/1.1 200 OK\r\nX: "+strings.Repeat("canary-secret", 1<<16))
		}), "did not give an answer in HTTP", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			rules := egress.Rules{AllowPrivate: true}
			if test.name == "no name" {
				rules.Resolver = &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
					return nil, net.ErrClosed
				}}
			}
			_, err := get(t, rules, test.url)
			if err == nil {
				t.Fatal("no error")
			}
			said := egress.Explain(err)
			if !strings.Contains(said, test.want) || strings.Contains(said, "canary") || egress.Unsent(err) != test.unsent || egress.Misconfigured(err) {
				t.Errorf("%q for %v, unsent %v", said, err, egress.Unsent(err))
			}
		})
	}
}

func TestBodyIsLimited(t *testing.T) {
	for size, want := range map[int]bool{0: true, egress.MaxBody: true, egress.MaxBody + 1: false, 1 << 24: false} {
		r := &http.Response{Body: io.NopCloser(io.LimitReader(zeros{}, int64(size)))}
		if b, whole, err := egress.Body(r); err != nil || whole != want || len(b) != min(size, egress.MaxBody) {
			t.Errorf("%d bytes: %d read, whole %v, %v", size, len(b), whole, err)
		}
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { return len(b), nil }

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for text, want := range map[string]time.Duration{
		"": 0, "7": 7 * time.Second, "-7": 0, "1h": 0, "99999999999999": 24 * time.Hour, "18446744073709551616": 0,
		"Fri, 02 Jan 2026 03:05:05 GMT": time.Minute, "Fri, 02 Jan 2026 03:00:00 GMT": 0, "Fri, 02 Jan 2036 03:00:00 GMT": 24 * time.Hour,
	} {
		if got := egress.RetryAfter(&http.Response{Header: http.Header{"Retry-After": {text}}}, now); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
}

func TestIsPlain(t *testing.T) {
	for text, want := range map[string]string{
		"https://h": "tls", "http://h": "plain", "HTTP://h": "plain", "ftp://h": "begin with", "h": "begin with", "https:///p": "no host",
		"https://u:p@h": "user", "https://u@h": "user", "https://h#f": "fragment",
	} {
		u, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		got := "tls"
		plain, err := egress.IsPlain(u)
		if plain {
			got = "plain"
		}
		if err != nil {
			got = err.Error()
		}
		if !strings.Contains(got, want) {
			t.Errorf("%s: %s", text, got)
		}
	}
}
