package main

import (
	"net/http"
	"strings"
	"testing"

	"github.com/sidevault/sidevault/plugins/internal/trial"
	"github.com/sidevault/sidevault/plugins/pluginpb"
	"github.com/sidevault/sidevault/plugins/plugintest"
)

// onlyGood is a provider that knows one token.
func onlyGood(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Authorization") != "Bearer good-token-1" {
		w.WriteHeader(http.StatusUnauthorized)
	}
}

func TestProgram(t *testing.T) {
	provider := open(t, onlyGood)
	p := trial.Start(t, pluginpb.ServiceValidator)
	p.Describes(t, "http", pluginpb.ServiceValidator)
	for value, want := range map[string]pluginpb.ValidateResponse_Verdict{
		"good-token-1": pluginpb.ValidateResponse_VERDICT_VALID, canary: pluginpb.ValidateResponse_VERDICT_REJECTED,
	} {
		r, err := p.Validator.Validate(t.Context(), &pluginpb.ValidateRequest{
			Fields: map[string]string{"value": value}, Config: provider.config(bearer),
		})
		if err != nil || r.GetVerdict() != want {
			t.Errorf("%v, %v", r, err)
		}
		if strings.Contains(r.String()+p.Log(), canary) {
			t.Error("the value is in the answer or the log")
		}
	}
	private := strings.Replace(provider.config(bearer), `"allowPrivate":true,`, "", 1)
	_, err := p.Validator.Validate(t.Context(), &pluginpb.ValidateRequest{Fields: map[string]string{"value": canary}, Config: private})
	if err == nil || !strings.Contains(err.Error(), "private") || strings.Contains(err.Error(), canary) {
		t.Errorf("a private address: %v", err)
	}
	if n := len(provider.requests()); n != 2 {
		t.Errorf("%d requests", n)
	}
}

func TestContract(t *testing.T) {
	provider := open(t, onlyGood)
	plugintest.Run(t, plugintest.Plugin{
		Path: plugintest.Build(t, "."), Kind: plugintest.Validator, Config: provider.config(bearer),
		Good: []plugintest.Credential{plugintest.Opaque("good-token-1")},
		Bad:  []plugintest.Credential{plugintest.Opaque("another-token"), plugintest.Opaque("line\nbreak")},
	})
}
