package rest

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sidevault/sidevault/vault"
	"github.com/sidevault/sidevault/vault/seal"
	"github.com/sidevault/sidevault/vault/secret"
)

// discard is a response that keeps nothing.
type discard struct{ header http.Header }

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) Write(b []byte) (int, error) { return len(b), nil }
func (d *discard) WriteHeader(int)             {}

// manyCredentials is as many as a sidecar may have in use: more than the processor's own
// caches hold.
const manyCredentials = 10_000

// BenchmarkWarmResolve measures a warm resolve from the handler to the encoded body, of
// credentials at random, beside a bare Gin handler that sends as many bytes.
func BenchmarkWarmResolve(b *testing.B) {
	f := newFixture(b, inMemory, Options{})
	queries := make([]string, manyCredentials)
	for i := range queries {
		name := fmt.Sprintf("name-%05d", i)
		f.store(b, name)
		queries[i] = "environment=production&name=" + name
	}
	request := resolveRequest(f.key)
	quiet := slog.New(slog.NewJSONHandler(io.Discard, nil))
	handler := New(Config{Vault: f.vault, Registry: prometheus.NewRegistry(), Logger: quiet})
	b.Run("sidevault", func(b *testing.B) { serveRandom(b, handler, request, queries) })
	body := []byte(strings.Repeat("x", 480))
	gin.SetMode(gin.ReleaseMode)
	engine := gin.New()
	engine.GET("/v1/credentials/:integration", func(c *gin.Context) { c.Data(http.StatusOK, "application/json; charset=utf-8", body) })
	b.Run("bare gin", func(b *testing.B) { serveRandom(b, engine, request, queries) })
}

// store sets a credential of that name.
func (f *fixture) store(b *testing.B, name string) {
	admin, err := f.vault.Authenticate(b.Context(), secret.New(f.key))
	if err != nil {
		b.Fatal(err)
	}
	slot := vault.Slot{Integration: "salesforce", Scope: "production", Name: name}
	value := secret.New(strings.Repeat("x", 200))
	if _, err := f.vault.Set(b.Context(), admin, slot, vault.SetInput{Fields: seal.Fields{"value": value}}); err != nil {
		b.Fatal(err)
	}
}

func resolveRequest(key string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, "/v1/credentials/salesforce", nil)
	r.Host, r.RemoteAddr = "127.0.0.1:8271", "127.0.0.1:40000"
	r.Header.Set("Authorization", "Bearer "+key)
	local := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 8271}
	return r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, net.Addr(local)))
}

// serveRandom measures the request with one of the queries at random, after each was made
// once.
func serveRandom(b *testing.B, handler http.Handler, r *http.Request, queries []string) {
	serve := func(query string) {
		r.URL.RawQuery = query
		handler.ServeHTTP(&discard{http.Header{}}, r)
	}
	for _, query := range queries {
		serve(query)
	}
	b.ReportAllocs()
	for b.Loop() {
		serve(queries[rand.IntN(len(queries))])
	}
}
