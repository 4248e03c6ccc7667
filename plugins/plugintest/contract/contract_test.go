package contract_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sidevault/sidevault/plugins/plugintest/contract"
	"github.com/sidevault/sidevault/plugins/sdk"
)

// asPlugin makes the test binary a plugin: KIND/FAULT of a fixture, or sdk/KIND.
const asPlugin = "RUN_AS_PLUGIN"

func TestMain(m *testing.M) {
	kind, fault, ok := strings.Cut(os.Getenv(asPlugin), "/")
	switch {
	case !ok:
		goleak.VerifyTestMain(m)
	case kind != "sdk":
		(&fixture{kind: kind, fault: fault}).main()
	case fault == "validator":
		sdk.ServeValidator(good{}, sdk.Info{Name: "good", Version: "1.0.0"})
	default:
		sdk.ServeSyncer(good{}, sdk.Info{Name: "good", Version: "1.0.0"})
	}
}

// good is a plugin as an author writes one.
type good struct{}

type options struct {
	Prefix string `json:"prefix"`
}

func (good) Validate(_ context.Context, r sdk.ValidateRequest) (sdk.ValidateResult, error) {
	o := options{Prefix: "good_"}
	if err := r.Config.Decode(&o); err != nil {
		return sdk.ValidateResult{}, err
	}
	if !strings.HasPrefix(r.Value().Reveal(), o.Prefix) {
		return sdk.Reject("a key begins with %s, not as in %s", o.Prefix, r.Value().Reveal()), nil
	}
	return sdk.Accept(), nil
}

func (good) Sync(_ context.Context, r sdk.SyncRequest) (sdk.SyncResult, error) {
	o := options{Prefix: "good_"}
	if err := r.Config.Decode(&o); err != nil {
		return sdk.SyncResult{}, err
	}
	if r.Change == sdk.Set && !strings.HasPrefix(r.Value().Reveal(), o.Prefix) {
		return sdk.Fail("no account for this key"), nil
	}
	return sdk.Done(), nil
}

const timeout = 5 * time.Second

func program(t *testing.T, kind contract.Kind, as string) contract.Program {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return contract.Program{
		Path: self, Env: []string{asPlugin + "=" + as, "GORACE=atexit_sleep_ms=0"}, Kind: kind, Config: `{"prefix": "good_"}`, Timeout: timeout,
		Good: []contract.Credential{contract.Opaque("good_0123456789abcdef"), contract.WithFields(map[string]string{"value": "good_two-of-them", "region": "eu"}).Named("regional")},
		Bad:  []contract.Credential{contract.Opaque("bad_0123456789abcdef")},
	}
}

func TestGoodPlugins(t *testing.T) {
	t.Parallel()
	for _, as := range []string{"validator/", "syncer/", "sdk/validator", "sdk/syncer"} {
		t.Run(as, func(t *testing.T) {
			t.Parallel()
			kind := contract.Validator
			if strings.Contains(as, "syncer") {
				kind = contract.Syncer
			}
			for _, r := range contract.Check(t.Context(), program(t, kind, as)).Results {
				if r.Status != contract.Passed {
					t.Errorf("%s: %s: %s", r.Name, r.Status, r.Reason)
				}
			}
		})
	}
}

// faults are what a program can do wrong, and the demands that it then fails.
func faults() map[string][]string {
	return map[string][]string{
		"validator/exit 0":          {"started by hand", "handshake"},
		"validator/noise":           {"handshake"},
		"validator/version":         {"handshake"},
		"validator/in clear":        {"handshake"},
		"validator/cookie":          {"started by hand"},
		"validator/socket":          {"socket"},
		"validator/strangers":       {"mutual TLS", "health", "shutdown"},
		"validator/health":          {"health", "shutdown"},
		"validator/no version":      {"description"},
		"validator/another kind":    {"description"},
		"validator/hang":            {"answers"},
		"validator/crash":           {"answers"},
		"validator/no verdict":      {"answers"},
		"validator/accepts all":     {"bad credentials"},
		"validator/refuses all":     {"good credentials"},
		"validator/no reasons":      {"reasons"},
		"validator/crosstalk":       {"concurrency", "cancellation"},
		"validator/cancelled":       {"cancellation"},
		"validator/unknown fields":  {"unknown fields"},
		"validator/empty":           {"empty request"},
		"validator/long":            {"long values"},
		"validator/odd":             {"odd text"},
		"validator/wire":            {"no message"},
		"validator/ignores config":  {"broken configuration"},
		"validator/ignores options": {"unknown option"},
		"validator/shutdown":        {"shutdown"},
		"validator/echo in message": {"silence"},
		"validator/echo in field":   {"silence"},
		"validator/echo in error":   {"bad credentials", "silence"},
		"validator/echo on stderr":  {"silence"},
		"validator/stdout":          {"standard output"},
		"syncer/removes once":       {"removal"},
		"syncer/delivers once":      {"repetition"},
		"syncer/any change":         {"unknown change"},
		"syncer/ignores config":     {"broken configuration"},
		"syncer/crash":              {"answers"},
	}
}

// Every demand is seen to fail, by a program that meets the others.
func TestFaultyPlugins(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	failed := map[string]bool{}
	t.Run("fault", func(t *testing.T) {
		for as, want := range faults() {
			t.Run(as, func(t *testing.T) {
				t.Parallel()
				report := contract.Check(t.Context(), program(t, contract.Kind(strings.Split(as, "/")[0]), as))
				var got []string
				for _, r := range report.Results {
					if r.Status != contract.Failed {
						continue
					}
					got = append(got, r.Name)
					if r.Reason == "" || r.Advice == "" || r.Demand == "" {
						t.Errorf("the failure says too little: %+v", r)
					}
					mu.Lock()
					failed[r.Name] = true
					mu.Unlock()
				}
				if !slices.Equal(got, want) {
					t.Errorf("fails %q, not %q\n%s", got, want, describe(report))
				}
				if text := describe(report); strings.Contains(text, "0123456789abcdef") {
					t.Error("the report has a credential")
				}
			})
		}
	})
	for _, r := range contract.Check(t.Context(), contract.Program{Path: "/nonexistent", Timeout: time.Second}).Results {
		if !failed[r.Name] {
			t.Errorf("no program fails the demand %q", r.Name)
		}
	}
}

// describe is a report as far as not all is well.
func describe(r contract.Report) string {
	var b strings.Builder
	for _, result := range r.Results {
		if result.Status != contract.Passed {
			fmt.Fprintf(&b, "%+v\n", result)
		}
	}
	return b.String()
}

func TestNoProgram(t *testing.T) {
	t.Parallel()
	report := contract.Check(t.Context(), contract.Program{Path: "/nonexistent/plugin", Timeout: time.Second})
	if report.OK() || report.Count(contract.Passed) > 0 {
		t.Errorf("nothing passes:\n%s", describe(report))
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	report = contract.Check(ctx, program(t, contract.Validator, "validator/"))
	if report.OK() || report.Count(contract.Passed) > 0 {
		t.Errorf("interrupted, it passes:\n%s", describe(report))
	}
}

// What the program does not say must be given.
func TestKind(t *testing.T) {
	t.Parallel()
	for as, ok := range map[string]bool{"sdk/syncer": true, "syncer/undescribed": false} {
		p := program(t, "", as)
		if report := contract.Check(t.Context(), p); report.OK() != ok || ok && (report.Kind != contract.Syncer || report.Name != "good" || report.Version != "1.0.0") {
			t.Errorf("%s: %s", as, describe(report))
		}
	}
	report := contract.Check(t.Context(), program(t, contract.Syncer, "syncer/undescribed"))
	if !report.OK() {
		t.Error(describe(report))
	}
}

// Without credentials, what shows nothing is not said to be passed.
func TestNothingGiven(t *testing.T) {
	t.Parallel()
	p := program(t, contract.Validator, "sdk/validator")
	p.Good, p.Bad, p.Config = nil, nil, ""
	report := contract.Check(t.Context(), p)
	skipped := map[string]bool{}
	for _, r := range report.Results {
		skipped[r.Name] = r.Status == contract.Skipped
	}
	for _, name := range []string{"good credentials", "bad credentials", "broken configuration", "unknown option"} {
		if !skipped[name] {
			t.Errorf("%s is not skipped", name)
		}
	}
	if !report.OK() {
		t.Error(describe(report))
	}
}

// A credential stays secret in what is printed of a program under test.
func TestPrinting(t *testing.T) {
	t.Parallel()
	p := program(t, contract.Validator, "sdk/validator")
	if text := fmt.Sprintf("%v %+v %#v", p, p, p); strings.Contains(text, "0123456789abcdef") {
		t.Error("a program that is printed shows its credentials")
	}
}
