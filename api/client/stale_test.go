package client

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/sidevault/sidevault/api/wire"
)

func TestStale(t *testing.T) {
	for header, want := range map[string]time.Duration{"": 0, "12": 12 * time.Second, "0": 0, "-1": 0, "soon": 0, "99999999999": 0} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if header != "" {
				w.Header().Set(wire.HeaderStale, header)
			}
			io.WriteString(w, `{"success":true,"data":{"value":"x"}}`)
		}))
		c, err := New(Config{Address: server.URL})
		if err != nil {
			t.Fatal(err)
		}
		found, err := c.Resolve(t.Context(), Slot{Integration: "salesforce"}, ResolveOptions{})
		if err != nil || found.Stale != want || found.Data.Value == nil {
			t.Errorf("%q: stale for %v, %v; want %v", header, found.Stale, err, want)
		}
		described, err := c.Details(t.Context(), Slot{Integration: "salesforce"}, ResolveOptions{})
		if err != nil || described.Stale != want {
			t.Errorf("%q: details are stale for %v, %v; want %v", header, described.Stale, err, want)
		}
		server.Close()
	}
}
