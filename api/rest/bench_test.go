package rest

import (
	"context"
	"io"
	"log/slog"
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

// BenchmarkWarmResolve measures a warm resolve from the handler to the encoded body,
// beside a bare Gin handler that sends as many bytes.
func BenchmarkWarmResolve(b *testing.B) {
	f := newFixture(b, inMemory, Options{})
	slot := vault.Slot{Integration: "salesforce", Scope: "production", Name: vault.DefaultName}
	admin, err := f.vault.Authenticate(b.Context(), secret.New(f.key))
	if err != nil {
		b.Fatal(err)
	}
	value := secret.New(strings.Repeat("x", 200))
	if _, err := f.vault.Set(b.Context(), admin, slot, vault.SetInput{Fields: seal.Fields{"value": value}}); err != nil {
		b.Fatal(err)
	}
	quiet := slog.New(slog.NewJSONHandler(io.Discard, nil))
	handler := New(Config{Vault: f.vault, Registry: prometheus.NewRegistry(), Logger: quiet})
	b.Run("sidevault", func(b *testing.B) {
		b.ReportAllocs()
		r := resolveRequest(f.key)
		for b.Loop() {
			handler.ServeHTTP(&discard{http.Header{}}, r)
		}
	})
	body := []byte(strings.Repeat("x", 480))
	gin.SetMode(gin.ReleaseMode)
	engine := gin.New()
	engine.GET("/v1/credentials/:integration", func(c *gin.Context) { c.Data(http.StatusOK, "application/json; charset=utf-8", body) })
	b.Run("bare gin", func(b *testing.B) {
		b.ReportAllocs()
		r := resolveRequest(f.key)
		for b.Loop() {
			engine.ServeHTTP(&discard{http.Header{}}, r)
		}
	})
}

func resolveRequest(key string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, "/v1/credentials/salesforce?environment=production", nil)
	r.Host, r.RemoteAddr = "127.0.0.1:8271", "127.0.0.1:40000"
	r.Header.Set("Authorization", "Bearer "+key)
	local := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 8271}
	return r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, net.Addr(local)))
}
