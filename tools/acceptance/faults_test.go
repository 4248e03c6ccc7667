package acceptance

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"filippo.io/age"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sidevault/sidevault/api/rest"
	"github.com/sidevault/sidevault/backends"
	"github.com/sidevault/sidevault/backends/memory"
	"github.com/sidevault/sidevault/envs"
	"github.com/sidevault/sidevault/tools/acceptance/sidecar"
	"github.com/sidevault/sidevault/vault"
	"github.com/sidevault/sidevault/vault/catalog"
)

// broken is a backend whose calls fail with an error of the test's choice, as
// those of an engine on another host would.
type broken struct {
	backends.Backend
	reads, commits atomic.Pointer[error]
}

func (b *broken) fail(reads, commits error) {
	b.reads.Store(&reads)
	b.commits.Store(&commits)
}

func fault(p *atomic.Pointer[error]) error {
	if err := p.Load(); err != nil {
		return *err
	}
	return nil
}

func (b *broken) Get(ctx context.Context, key string) (backends.Record, error) {
	if err := fault(&b.reads); err != nil {
		return backends.Record{}, err
	}
	return b.Backend.Get(ctx, key)
}

func (b *broken) List(ctx context.Context, prefix, after string, limit int) ([]backends.Record, error) {
	if err := fault(&b.reads); err != nil {
		return nil, err
	}
	return b.Backend.List(ctx, prefix, after, limit)
}

func (b *broken) Head(ctx context.Context) (backends.Head, error) {
	if err := fault(&b.reads); err != nil {
		return backends.Head{}, err
	}
	return b.Backend.Head(ctx)
}

func (b *broken) Commit(ctx context.Context, batch backends.Batch) (backends.Revision, error) {
	if err := fault(&b.commits); err != nil && len(batch.Changes) > 0 {
		return 0, err
	}
	return b.Backend.Commit(ctx, batch)
}

// served is a vault over a broken backend, served in this process.
type served struct {
	*sidecar.Client
	storage *broken
	log     *sidecar.Log
}

func serveBroken(t *testing.T) served {
	t.Helper()
	s := served{storage: &broken{Backend: memory.New()}, log: new(sidecar.Log)}
	root, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	tree, err := envs.New(envs.Default())
	if err != nil {
		t.Fatal(err)
	}
	made, err := vault.Init(t.Context(), vault.InitConfig{
		Backend: s.storage, Roots: []string{root.Recipient().String()}, Envs: tree, Org: "acme", AdminName: "admin",
	})
	if err != nil {
		t.Fatal(err)
	}
	logger := slog.New(slog.NewJSONHandler(s.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	v, err := vault.Open(t.Context(), vault.Config{
		Backend: s.storage, Envs: tree, Catalog: catalog.Builtin(), Identities: []age.Identity{root}, Trusted: made.Trusted,
		Options: vault.Options{Logger: logger},
	})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(rest.New(rest.Config{Vault: v, Registry: prometheus.NewRegistry(), Logger: logger}))
	t.Cleanup(func() {
		server.Close()
		s.storage.fail(nil, nil)
		if err := v.Close(context.Background()); err != nil {
			t.Error("the vault after its storage has come back:", err)
		}
	})
	s.Client = sidecar.NewClient(t, server.URL, made.Admin.Secret.Reveal(), recorder)
	return s
}

func TestUnreachableStorage(t *testing.T) {
	t.Parallel()
	s := serveBroken(t)
	s.Put(slot("salesforce", ""), value("x")).Wants(http.StatusCreated)
	s.storage.fail(backends.ErrUnavailable, backends.ErrUnavailable)
	for _, op := range answering("503") {
		answer := op.send(s.Client)
		if op.id == "ready" {
			answer.Wants(http.StatusServiceUnavailable)
			continue
		}
		answer.Fails(http.StatusServiceUnavailable, "BACKEND_UNAVAILABLE")
		if answer.Header.Get("Retry-After") == "" {
			t.Errorf("%s: no Retry-After", op.id)
		}
	}
	s.Get("/healthz").Wants(http.StatusOK)
	s.storage.fail(nil, nil)
	s.Get("/readyz").Wants(http.StatusOK)
	wantsSecret(t, s.Client, resolve("salesforce", ""), "x", "null")
}

func TestUnknownFaultsStayInside(t *testing.T) {
	t.Parallel()
	const text = "pq: relation does not exist"
	s := serveBroken(t)
	s.storage.fail(errors.New(text), errors.New(text))
	for _, op := range answering("500") {
		answer := op.send(s.Client)
		f := answer.Fails(http.StatusInternalServerError, "INTERNAL")
		if strings.Contains(string(answer.Body), text) {
			t.Errorf("%s: the body has the text of the fault", op.id)
		}
		if !strings.Contains(s.log.String(), f.RequestID) {
			t.Errorf("%s: the log does not have the request's ID", op.id)
		}
	}
	if !strings.Contains(s.log.String(), text) {
		t.Error("the log does not have the text of the fault")
	}
}

// TestConflictsWithOtherHosts covers changes that another host keeps winning.
func TestConflictsWithOtherHosts(t *testing.T) {
	t.Parallel()
	s := serveBroken(t)
	s.storage.fail(nil, backends.ErrConflict)
	s.Patch("/v1/integrations/salesforce", map[string]any{"enabled": false}).Fails(http.StatusConflict, "INTEGRATION_EXISTS")
	s.Put(slot("salesforce", ""), value("x")).Fails(http.StatusServiceUnavailable, "BACKEND_UNAVAILABLE")
	s.Delete(slot("salesforce", "")+"?ifExists=true").Fails(http.StatusServiceUnavailable, "BACKEND_UNAVAILABLE")
	s.storage.fail(nil, backends.ErrUnknownOutcome)
	s.Put(slot("salesforce", ""), value("x")).Fails(http.StatusServiceUnavailable, "BACKEND_UNAVAILABLE")
	s.storage.fail(nil, nil)
	s.Get(resolve("salesforce", "")).Fails(http.StatusNotFound, "CREDENTIAL_NOT_FOUND")
}
