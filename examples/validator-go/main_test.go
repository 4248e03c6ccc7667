package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/sidevault/sidevault/plugins/plugintest"
)

// TestContract runs the program as the sidecar does, against an Acme of its own.
func TestContract(t *testing.T) {
	acme := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer acme_0123456789abcdef" {
			w.WriteHeader(http.StatusUnauthorized)
		}
	}))
	defer acme.Close()
	key := func(text string) plugintest.Credential {
		return plugintest.WithFields(map[string]string{"api_key": text})
	}
	plugintest.Run(t, plugintest.Plugin{
		Path:   plugintest.Build(t, "."),
		Kind:   plugintest.Validator,
		Config: fmt.Sprintf(`{"url": %q}`, acme.URL),
		Good:   []plugintest.Credential{key("acme_0123456789abcdef").Named("current")},
		Bad: []plugintest.Credential{
			key("acme_fedcba9876543210").Named("revoked"), key("").Named("empty"), plugintest.Opaque("acme_0123456789abcdef").Named("in another field"),
			key(strings.Repeat("é\n", 100)).Named("pasted text"),
		},
	})
}
