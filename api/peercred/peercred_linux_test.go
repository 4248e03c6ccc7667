package peercred

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sidevault/sidevault/envs"
	"github.com/sidevault/sidevault/vault"
)

var acme = vault.Org{ID: "11111111-1111-4111-8111-111111111111", Slug: "acme"}

func rules(t *testing.T, list ...Rule) (*Rules, error) {
	t.Helper()
	tree, err := envs.New(envs.Default())
	if err != nil {
		t.Fatal(err)
	}
	return New(t.Context(), Config{Rules: list, Envs: tree, Org: func(_ context.Context, name string) (vault.Org, error) {
		if name == acme.Slug {
			return acme, nil
		}
		return vault.Org{}, &vault.Error{Kind: vault.InvalidRequest, Msg: "Unknown org " + name}
	}})
}

func number(n int) *uint32 { u := uint32(n); return &u }

func backup(change func(*Rule)) Rule {
	r := Rule{Name: "backup", Org: "acme", Environments: []string{"*"}, Integrations: []string{"*"}}
	change(&r)
	return r
}

// The kernel's answer arrives in the context of the request.
func TestAttach(t *testing.T) {
	dir, err := os.MkdirTemp("", "sv") // a socket's path has at most 108 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	server := &http.Server{ConnContext: Attach, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		cred, ok := Of(r.Context())
		fmt.Fprint(w, cred, ok)
	})}
	t.Cleanup(func() { server.Close() })
	socket, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	loopback, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go server.Serve(socket)
	go server.Serve(loopback)
	for l, want := range map[net.Listener]string{
		socket:   fmt.Sprintf("unix uid=%d pid=%d true", os.Getuid(), os.Getpid()),
		loopback: "unix uid=0 pid=0 false",
	} {
		client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(context.Context, string, string) (net.Conn, error) {
			return net.Dial(l.Addr().Network(), l.Addr().String())
		}}}
		res, err := client.Get("http://localhost/")
		if err != nil {
			t.Fatal(err)
		}
		got, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if string(got) != want {
			t.Errorf("%s: %s, want %s", l.Addr().Network(), got, want)
		}
	}
}

func TestFirstMatch(t *testing.T) {
	r, err := rules(t,
		backup(func(r *Rule) { r.UID, r.GID, r.Name = number(7), number(8), "both" }),
		backup(func(r *Rule) { r.UID, r.Name, r.Admin, r.Email = number(7), "user", true, "ops@example.com" }),
		backup(func(r *Rule) { r.GID, r.Name = number(8), "group" }),
	)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		uid, gid uint32
		want     string
	}{{7, 8, "both"}, {7, 9, "user"}, {9, 8, "group"}, {8, 7, ""}, {0, 0, ""}} {
		got, ok := r.Caller(context.WithValue(t.Context(), contextKey{}, &peer{Credentials: Credentials{UID: c.uid, GID: c.gid, PID: 1}}))
		if got.Actor.Name != c.want || ok != (c.want != "") || got.Admin != (c.want == "user") {
			t.Errorf("%+v: %+v, %v", c, got, ok)
		}
		if ok && (got.Actor.ID != fmt.Sprintf("uid:%d", c.uid) || got.Actor.Kind != "unix" || got.Org != acme) {
			t.Errorf("%+v: %+v", c, got)
		}
	}
	for _, nobody := range []*Rules{r, nil} {
		if _, ok := nobody.Caller(t.Context()); ok {
			t.Error("a request without credentials has a caller")
		}
	}
}

// A plugin may run as a user that a rule names, and is nobody all the same.
func TestOwnProcessesAreNobody(t *testing.T) {
	tree, err := envs.New(envs.Default())
	if err != nil {
		t.Fatal(err)
	}
	r, err := New(t.Context(), Config{
		Rules: []Rule{backup(func(r *Rule) { r.UID = number(7) })}, Envs: tree,
		Org:  func(context.Context, string) (vault.Org, error) { return acme, nil },
		Owns: func(pid int) bool { return pid == 41 || pid == 0 },
	})
	if err != nil {
		t.Fatal(err)
	}
	for pid, known := range map[int32]bool{40: true, 41: false, 0: true} {
		if _, ok := r.Caller(context.WithValue(t.Context(), contextKey{}, &peer{Credentials: Credentials{UID: 7, PID: pid}})); ok != known {
			t.Errorf("process %d is a caller: %t", pid, ok)
		}
	}
}

func TestRulesRefused(t *testing.T) {
	for says, change := range map[string]func(*Rule){
		"name a uid, a gid or both":      func(r *Rule) { r.UID = nil },
		"stands for every user":          func(r *Rule) { r.UID = number(overflow) },
		"the name must be":               func(r *Rule) { r.Name = "" },
		"the email must be":              func(r *Rule) { r.Email = "a\n" },
		"Unknown org other":              func(r *Rule) { r.Org = "other" },
		`Unknown environment "prod"`:     func(r *Rule) { r.Environments = []string{"prod"} },
		"A grant has 1 to":               func(r *Rule) { r.Integrations = nil },
		"The integration key is not val": func(r *Rule) { r.Integrations = []string{"a/b"} },
	} {
		bad := backup(func(r *Rule) { r.UID = number(1); change(r) })
		if _, err := rules(t, bad); err == nil || !strings.HasPrefix(err.Error(), "rule 1: ") || !strings.Contains(err.Error(), says) {
			t.Errorf("%v\ndoes not say %q", err, says)
		}
	}
}
