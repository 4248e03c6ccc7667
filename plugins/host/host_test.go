//go:build linux

package host

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"log/slog"
	"math/big"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sidevault/sidevault/vault"
	"github.com/sidevault/sidevault/vault/seal"
	"github.com/sidevault/sidevault/vault/secret"
)

var testSupervisor = []string{"/proc/self/exe", "supervise"}

const canary = "canary-7d1f-4e0b"

// ownSum is the checksum of the test binary, computed once.
var ownSum = sync.OnceValue(func() string {
	path, err := os.Executable()
	if err != nil {
		panic(err)
	}
	sum, err := fileSum(path)
	if err != nil {
		panic(err)
	}
	return sum
})

func fixtureProgram(name, mode string) Program {
	path, err := os.Executable()
	if err != nil {
		panic(err)
	}
	return Program{Name: name, Path: path, Args: []string{"fixture", mode}, SHA256: ownSum()}
}

func callTo(name string, o order) vault.PluginCall {
	config, err := json.Marshal(o)
	if err != nil {
		panic(err)
	}
	return vault.PluginCall{
		Binding: vault.Binding{Name: name, Plugin: name, Config: config, Timeout: 20 * time.Second},
		Org:     "acme", Slot: vault.Slot{Integration: "slack", Name: vault.DefaultName}, AuthType: "token",
		Fields: seal.Fields{"value": secret.New(canary)},
	}
}

// within is callTo with another timeout.
func within(d time.Duration, name string, o order) vault.PluginCall {
	c := callTo(name, o)
	c.Binding.Timeout = d
	return c
}

// buffer is a writer that may be read meanwhile.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// rig is a host under test. Its end checks that nothing is left.
type rig struct {
	*Host
	t    *testing.T
	logs *buffer
	dir  string
}

func quick() tuning {
	t := defaultTuning()
	t.recheck = 20 * time.Millisecond
	t.firstPause, t.maxPause = 20*time.Millisecond, 100*time.Millisecond
	t.quarantine, t.maxQuar = 400*time.Millisecond, time.Second
	t.grace = 200 * time.Millisecond
	return t
}

func newRig(t *testing.T, tun tuning, opts Options, programs ...Program) *rig {
	t.Helper()
	before := goleak.IgnoreCurrent()
	r := &rig{t: t, logs: new(buffer), dir: runDir(t)}
	opts.RunDir, opts.Logger = r.dir, slog.New(slog.NewJSONHandler(r.logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
	h, err := newHost(Config{Programs: programs, Supervisor: testSupervisor, Options: opts}, tun)
	if err != nil {
		t.Fatal(err)
	}
	r.Host = h
	t.Cleanup(func() { r.end(before) })
	return r
}

// runDir is short enough for the names of sockets.
func runDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "svt")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func (r *rig) end(before goleak.Option) {
	t := r.t
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := r.Close(ctx); err != nil {
		t.Errorf("close: %v", err)
	}
	if left := descendants(os.Getpid()); len(left) > 0 {
		t.Errorf("%d processes are left", len(left))
	}
	entries, err := os.ReadDir(r.dir)
	if err != nil || len(entries) > 0 {
		t.Errorf("%d directories are left (%v)", len(entries), err)
	}
	if err := goleak.Find(before); err != nil {
		t.Error(err)
	}
	if strings.Contains(r.logs.String(), "does not end: killing it") {
		t.Error("a supervisor had to be killed")
	}
	if strings.Contains(r.logs.String(), canary) {
		t.Error("the log has the secret")
	}
}

func (r *rig) validate(call vault.PluginCall) (vault.Validation, error) {
	return r.Validate(context.Background(), call)
}

// ask makes a call that must be answered with a rejection, and returns its text.
func (r *rig) ask(name string, o order) string {
	r.t.Helper()
	v, err := r.validate(callTo(name, o))
	if err != nil || !v.Rejected {
		r.t.Fatalf("%s: %+v, %v", o.Do, v, err)
	}
	return v.Message
}

func (r *rig) ok(name string) {
	r.t.Helper()
	if v, err := r.validate(callTo(name, order{})); err != nil || v.Rejected {
		r.t.Fatalf("a valid call: %+v, %v", v, err)
	}
}

func reasonOf(t *testing.T, err error) string {
	t.Helper()
	perr, ok := errors.AsType[*vault.PluginError](err)
	if !ok {
		t.Fatalf("got %v, want a PluginError", err)
	}
	if strings.Contains(perr.Error(), canary) {
		t.Error("the error has the secret")
	}
	return perr.Reason
}

func (r *rig) stateOf(name string) vault.PluginState {
	r.t.Helper()
	for _, s := range r.States() {
		if s.Name == name {
			return s
		}
	}
	r.t.Fatalf("no state of %s", name)
	return vault.PluginState{}
}

// eventually waits for a condition that other processes bring about.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !cond(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

func serverCert() (string, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	return base64.RawStdEncoding.EncodeToString(der), err
}

func TestAnswers(t *testing.T) {
	r := newRig(t, quick(), Options{}, fixtureProgram("p", "serve"))
	if s := r.stateOf("p"); s.Status != vault.PluginIdle || s.SHA256 != ownSum() || s.Processes != 0 {
		t.Errorf("before the first call: %+v", s)
	}
	r.ok("p")
	if got := r.ask("p", order{Do: "reject"}); got != "no good[31m at all" {
		t.Errorf("the message is %q", got)
	}
	v, err := r.validate(callTo("p", order{Do: "echo"}))
	if err != nil || !strings.Contains(v.Message, canary) || !strings.Contains(v.Fields["value"], canary) {
		t.Errorf("texts are the vault's to strike out: %v", err)
	}
	v, err = r.validate(callTo("p", order{Do: "fields"}))
	if err != nil || len(v.Message) != 2000 || len(v.Fields) != mostFields || v.Fields["1000"] != "x" {
		t.Errorf("bounds: %d bytes, %d fields, %v", len(v.Message), len(v.Fields), err)
	}
	s := r.stateOf("p")
	if s.Status != vault.PluginRunning || s.Version != "1.2.3[31m" || s.Description != "goes wrong" || len(s.Services) != 1 || s.Calls != 4 || s.Processes != 1 {
		t.Errorf("after calls: %+v", s)
	}
}

func TestNoAnswer(t *testing.T) {
	r := newRig(t, quick(), Options{}, fixtureProgram("p", "serve"))
	for _, c := range []struct{ do, want string }{
		{"noverdict", "gave no verdict"},
		{"verdict9", "gave no verdict"},
		{"huge", "gave an answer that is too large, or is out of resources"},
		{"error", "answered with an error: the provider says <redacted>"},
		{"crash", "crashed during the call"},
		{"segv", "crashed during the call"},
	} {
		_, err := r.validate(callTo("p", order{Do: c.do}))
		if got := reasonOf(t, err); got != c.want {
			t.Errorf("%s: %q, want %q", c.do, got, c.want)
		}
		r.ok("p")
	}
	_, err := r.Sync(context.Background(), vault.SyncCall{PluginCall: callTo("p", order{}), Change: vault.SyncSet})
	if got := reasonOf(t, err); got != "is not a syncer" {
		t.Errorf("sync: %q", got)
	}
	_, err = r.validate(callTo("nobody", order{}))
	if got := reasonOf(t, err); got != "is not configured" {
		t.Errorf("an unknown plugin: %q", got)
	}
}

func TestSync(t *testing.T) {
	m := new(counter)
	r := newRig(t, quick(), Options{Metrics: m}, fixtureProgram("p", "syncer"))
	sync := func(o order) (vault.SyncResult, error) {
		return r.Sync(context.Background(), vault.SyncCall{
			PluginCall: callTo("p", o), Change: vault.SyncSet, CredentialID: "cred-1", Version: 7, IdempotencyKey: "key", Attempt: 3,
		})
	}
	if got, err := sync(order{}); err != nil || got != (vault.SyncResult{}) {
		t.Errorf("done: %+v, %v", got, err)
	}
	if got, err := sync(order{Do: "unspecified"}); err != nil || got != (vault.SyncResult{Failed: true}) {
		t.Errorf("unspecified: %+v, %v", got, err)
	}
	got, err := sync(order{Do: "fail", N: 30})
	want := `change:CHANGE_SET place:{org:"acme" integration:"slack" name:"default"} credential_id:"cred-1" version:7 ` +
		`fields:{key:"value" value:"` + canary + `"} auth_type:"token" idempotency_key:"key" attempt:3`
	if err != nil || !got.Failed || got.RetryAfter != 30*time.Second || strings.Join(strings.Fields(got.Message), " ") != want {
		t.Errorf("failed: after %v, %v, %s", got.RetryAfter, err, strings.ReplaceAll(got.Message, canary, "SECRET"))
	}
	if got, err := sync(order{Do: "fail", N: 1 << 30}); err != nil || got.RetryAfter != longestRetry {
		t.Errorf("a long time: %v, %v", got.RetryAfter, err)
	}
	_, err = sync(order{Do: "outcome9"})
	if got := reasonOf(t, err); got != "gave an outcome that this sidecar does not know" {
		t.Error(got)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.calls["ok"] != 1 || m.calls["failed"] != 3 || m.calls["unavailable"] != 1 {
		t.Errorf("metrics: %v", m.calls)
	}
}
