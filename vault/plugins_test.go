package vault_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sidevault/sidevault/vault"
	"github.com/sidevault/sidevault/vault/seal"
	"github.com/sidevault/sidevault/vault/secret"
)

// programs is a vault.Plugins whose programs are functions.
type programs struct {
	validate func(context.Context, vault.PluginCall) (vault.Validation, error)
	sync     func(context.Context, vault.SyncCall) (vault.SyncResult, error)

	mu    sync.Mutex
	asked []vault.PluginCall
	told  []vault.SyncCall
}

func (p *programs) Validate(ctx context.Context, c vault.PluginCall) (vault.Validation, error) {
	p.mu.Lock()
	p.asked = append(p.asked, c)
	p.mu.Unlock()
	if p.validate == nil {
		return vault.Validation{}, nil
	}
	return p.validate(ctx, c)
}

func (p *programs) Sync(ctx context.Context, c vault.SyncCall) (vault.SyncResult, error) {
	p.mu.Lock()
	p.told = append(p.told, c)
	answer := p.sync
	p.mu.Unlock()
	if answer == nil {
		return vault.SyncResult{}, nil
	}
	return answer(ctx, c)
}

// answers changes what syncs do; nil has them succeed.
func (p *programs) answers(sync func(context.Context, vault.SyncCall) (vault.SyncResult, error)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sync = sync
}

func (p *programs) States() []vault.PluginState {
	return []vault.PluginState{{Name: "good", Status: vault.PluginRunning}, {Name: "bad", Status: vault.PluginQuarantined}}
}

func (p *programs) calls() []vault.SyncCall {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]vault.SyncCall(nil), p.told...)
}

// bound is the test catalog with programs bound to salesforce.
type bound struct {
	vault.Catalog
	validators []vault.Validator
	syncers    []vault.Syncer
}

func (b bound) Lookup(key string) (vault.Integration, bool) {
	i, ok := b.Catalog.Lookup(key)
	if key == "salesforce" {
		i.Validators, i.Syncers = b.validators, b.syncers
	}
	return i, ok
}

func validator(name string) vault.Validator {
	return vault.Validator{Binding: vault.Binding{Name: name, Plugin: name, Timeout: time.Second}}
}

func syncer(name string) vault.Syncer {
	return vault.Syncer{Binding: vault.Binding{Name: name, Plugin: name, Timeout: time.Second}}
}

func reject(format string) func(context.Context, vault.PluginCall) (vault.Validation, error) {
	return func(_ context.Context, c vault.PluginCall) (vault.Validation, error) {
		v := c.Fields["value"].Reveal()
		return vault.Validation{Rejected: true, Message: strings.ReplaceAll(format, "VALUE", v), Fields: map[string]string{"value": "not " + v, "other": v}}, nil
	}
}

func unavailable(_ context.Context, c vault.PluginCall) (vault.Validation, error) {
	return vault.Validation{}, &vault.PluginError{Plugin: c.Binding.Plugin, Reason: "did not answer within 1s", Err: errors.New("internal")}
}

func TestRejectionKeepsWhatWasStored(t *testing.T) {
	p := &programs{}
	f := newFixture(t, vault.Options{Plugins: p})
	f.SetCatalog(bound{Catalog: testCatalog, validators: []vault.Validator{validator("format")}})
	slot := f.slot("salesforce", "staging")
	f.set("salesforce", "staging", "first-value")
	if got := f.audit(vault.ActionSet)[0].Metadata["validatedBy"]; got == nil {
		t.Error("the audit entry does not say who validated")
	}
	p.validate = reject("the key VALUE is unknown " + strings.Repeat("x", 600))
	_, err := f.Set(t.Context(), f.admin, slot, opaque("second-value"))
	wantKind(t, err, vault.InvalidCredentials)
	e, _ := errors.AsType[*vault.Error](err)
	if strings.Contains(e.Error()+e.Fields[0].Msg, "second-value") || !strings.HasPrefix(e.Msg, "the key "+secret.Redacted+" is unknown") {
		t.Errorf("message %q", e.Msg)
	}
	if n := len([]rune(e.Msg)); n != 500 {
		t.Errorf("the message has %d characters", n)
	}
	if len(e.Fields) != 1 || e.Fields[0].Path[0] != "value" || e.Fields[0].Msg != "not "+secret.Redacted {
		t.Errorf("fields %+v", e.Fields)
	}
	if got := f.audit(vault.ActionSet)[0]; got.Outcome != "invalid_credentials" || got.Metadata["validator"] != "format" {
		t.Errorf("audited as %+v", got)
	}
	r, err := f.Resolve(t.Context(), f.admin, slot, vault.ResolveOptions{})
	if err != nil || r.Version != 1 || !field(r).Equal(secret.New("first-value")) {
		t.Errorf("version %d, %v", r.Version, err)
	}
}

func TestNoAnswerIsNoYes(t *testing.T) {
	p := &programs{validate: unavailable}
	f := newFixture(t, vault.Options{Plugins: p})
	slot := f.slot("salesforce", "staging")
	b := validator("http")
	f.SetCatalog(bound{Catalog: testCatalog, validators: []vault.Validator{b}})
	_, err := f.Set(t.Context(), f.admin, slot, opaque("x-value"))
	wantKind(t, err, vault.ValidatorUnavailable)
	if e, _ := errors.AsType[*vault.Error](err); !strings.Contains(e.Details, "did not answer within 1s") || strings.Contains(e.Details, "internal") {
		t.Errorf("details %q", e.Details)
	}
	b.AllowUnavailable = true
	f.SetCatalog(bound{Catalog: testCatalog, validators: []vault.Validator{b}})
	f.set("salesforce", "staging", "x-value")
	if got := f.audit(vault.ActionSet)[0].Metadata["notValidatedBy"]; got == nil {
		t.Error("the audit entry does not say that nobody validated")
	}
	p.validate = reject("no")
	_, err = f.Set(t.Context(), f.admin, slot, opaque("y-value"))
	wantKind(t, err, vault.InvalidCredentials)
}

func TestBoundWithoutPluginsIsRefused(t *testing.T) {
	f := newFixture(t, vault.Options{})
	f.SetCatalog(bound{Catalog: testCatalog, validators: []vault.Validator{validator("http")}})
	_, err := f.Set(t.Context(), f.admin, f.slot("salesforce", ""), opaque("x"))
	wantKind(t, err, vault.ValidatorUnavailable)
}

func TestValidatorGetsItsFieldsAlone(t *testing.T) {
	p := &programs{}
	f := newFixture(t, vault.Options{Plugins: p})
	b := validator("http")
	b.Fields = []string{"user"}
	f.SetCatalog(bound{Catalog: testCatalog, validators: []vault.Validator{b}})
	in := vault.SetInput{Fields: seal.Fields{"user": secret.New("u"), "password": secret.New("p")}}
	if _, err := f.Set(t.Context(), f.admin, f.slot("salesforce", "staging"), in); err != nil {
		t.Fatal(err)
	}
	got := p.asked[0]
	if _, leaked := got.Fields["password"]; leaked || len(got.Fields) != 1 || got.Org != "default" || got.Slot.Scope != "staging" {
		t.Errorf("the validator got %+v", got)
	}
}

func TestValidationHoldsNoLock(t *testing.T) {
	began, release := make(chan struct{}), make(chan struct{})
	p := &programs{validate: func(_ context.Context, c vault.PluginCall) (vault.Validation, error) {
		if c.Fields["value"].Equal(secret.New("slow")) {
			close(began)
			<-release
		}
		return vault.Validation{}, nil
	}}
	f := newFixture(t, vault.Options{Plugins: p})
	f.SetCatalog(bound{Catalog: testCatalog, validators: []vault.Validator{validator("http")}})
	done := make(chan error)
	go func() {
		_, err := f.Set(t.Context(), f.admin, f.slot("salesforce", ""), opaque("slow"))
		done <- err
	}()
	<-began
	f.set("salesforce", "", "quick")
	close(release)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	r, err := f.Resolve(t.Context(), f.admin, f.slot("salesforce", ""), vault.ResolveOptions{})
	if err != nil || r.Version != 2 || !field(r).Equal(secret.New("slow")) {
		t.Errorf("version %d, %v", r.Version, err)
	}
}

func TestRollbackAndTestAreValidated(t *testing.T) {
	p := &programs{}
	f := newFixture(t, vault.Options{Plugins: p})
	f.SetCatalog(bound{Catalog: testCatalog, validators: []vault.Validator{validator("http")}})
	first := f.set("salesforce", "", "first-value")
	f.set("salesforce", "", "second-value")
	p.validate = reject("revoked")
	at := vault.Address{ID: first.Credential.ID}
	_, err := f.Rollback(t.Context(), f.admin, at, 1, 0)
	wantKind(t, err, vault.InvalidCredentials)
	wantKind(t, f.Test(t.Context(), f.admin, f.slot("salesforce", ""), vault.SetInput{}), vault.InvalidCredentials)
	wantKind(t, f.Test(t.Context(), f.admin, f.slot("salesforce", ""), opaque("third-value")), vault.InvalidCredentials)
	p.validate = nil
	if c, err := f.Rollback(t.Context(), f.admin, at, 1, 0); err != nil || c.Version != 3 {
		t.Errorf("version %d, %v", c.Version, err)
	}
}

func TestPluginStatesNeedAdmin(t *testing.T) {
	f := newFixture(t, vault.Options{Plugins: &programs{}})
	user := f.admin
	user.Admin = false
	_, err := f.Plugins(t.Context(), user)
	wantKind(t, err, vault.ForbiddenAdminScope)
	if list, err := f.Plugins(t.Context(), f.admin); err != nil || len(list) != 2 {
		t.Errorf("%v, %v", list, err)
	}
	if got := f.QuarantinedPlugins(); len(got) != 1 || got[0] != "bad" {
		t.Errorf("quarantined: %v", got)
	}
}
