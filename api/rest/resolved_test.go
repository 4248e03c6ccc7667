package rest

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/sidevault/sidevault/api/wire"
	"github.com/sidevault/sidevault/envs"
	"github.com/sidevault/sidevault/vault"
	"github.com/sidevault/sidevault/vault/seal"
	"github.com/sidevault/sidevault/vault/secret"
)

// What is written by hand is what the encoder makes of the types of the contract.
func TestResolvedIsWrittenAsTheContractSays(t *testing.T) {
	at := time.Date(2026, 4, 29, 14, 0, 0, 123456789, time.FixedZone("", 3600))
	odd := "\"\\\n\x00<\u2028é" + strings.Repeat("x", 300)
	secrets := map[string]seal.Fields{
		`{"value":"v"}`:                     {"value": secret.New("v")},
		`{"value":"\"\\\n<é"}`:              {"value": secret.New("\"\\\n<é")},
		`{"value":"\""}`:                    {"value": secret.New(`"`)},
		`{"host":"h","password":"p\"}"}`:    {"host": secret.New("h"), "password": secret.New(`p"}`)},
		`{"value":"v","x":"y"}`:             {"value": secret.New("v"), "x": secret.New("y")},
		`{"valuer":"v"}`:                    {"valuer": secret.New("v")},
		`{"value":"\\","value2":"\\\\\"}"}`: {"value": secret.New(`\`), "value2": secret.New(`\\"}`)},
	}
	credentials := []vault.Credential{
		{ID: "cred-1", Slot: vault.Slot{Integration: "salesforce", Scope: "production", Name: "default"}, UpdatedAt: at},
		{ID: "cred-2", Slot: vault.Slot{Integration: "slack", Name: odd}, AuthType: "basic", UpdatedAt: at, ExpiresAt: at.Add(time.Hour)},
	}
	for object, fields := range secrets {
		for _, c := range credentials {
			for _, asked := range []envs.Scope{"production", envs.Shared} {
				r := vault.Resolved{Credential: &c, Secret: secret.Hold([]byte(object)), Version: 7, From: c.Slot.Scope}
				slot := c.Slot
				slot.Scope = asked
				got := appendResolved(nil, slot, &r, at)
				want, err := json.Marshal(wire.Envelope[wire.Resolved]{Success: true, Data: resolved(asked, r, fields), Timestamp: wire.Time(at)}, encodingSecrets)
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(got, want) {
					t.Errorf("written: %s\nencoded: %s", got, want)
				}
				if len(got)-len(object) > resolvedSize {
					t.Errorf("%d bytes besides the secret, at most %d are expected", len(got)-len(object), resolvedSize)
				}
			}
		}
	}
}

// resolved is the body's data by the types of the contract.
func resolved(asked envs.Scope, r vault.Resolved, fields seal.Fields) wire.Resolved {
	c := r.Credential
	out := wire.Resolved{
		ID: string(c.ID), IntegrationID: c.Slot.Integration, Environment: asked.Ptr(), ResolvedFrom: r.From.Ptr(), Name: c.Slot.Name,
		AuthType: c.AuthType, Version: r.Version, UpdatedAt: wire.Time(c.UpdatedAt), ExpiresAt: wire.Optional(c.ExpiresAt),
	}
	if value, opaque := fields[vault.ValueField]; opaque && len(fields) == 1 {
		out.Value = &value
	} else {
		out.Fields = fields
	}
	return out
}

// A secret of any size comes through, and no buffer that is used again holds it.
func TestBuffersAreCleared(t *testing.T) {
	f := newFixture(t, inMemory, Options{})
	for _, size := range []int{1, 3000, 8192} {
		value := strings.Repeat("c", size)
		if status, _ := f.do("PUT", "/v1/integrations/salesforce/credentials?environment=staging", fmt.Sprintf(`{"value":%q}`, value), nil); status >= 300 {
			t.Fatalf("status %d", status)
		}
		for range 3 {
			if status, _ := f.do("GET", "/v1/credentials/salesforce?environment=staging", "", nil); status != 200 {
				t.Fatalf("status %d", status)
			}
			for range 10 {
				b := buffers.Get().(*bytes.Buffer)
				if all := b.AvailableBuffer(); bytes.Contains(all[:cap(all)], []byte("ccc")) {
					t.Errorf("a buffer of %d bytes still holds what was in an answer", cap(all))
				}
			}
		}
	}
}
