package vault

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"

	"github.com/sidevault/sidevault/envs"
)

// What is written by hand is what the standard library writes.
func TestEntriesAreEncodedAsBefore(t *testing.T) {
	production := "production"
	for name, b := range map[string]auditBody{
		"nothing": {},
		"everything": {
			Action: ActionSet, Actor: Actor{Email: "a@example.com", ID: "1", Kind: "api_key", Name: `a "b" \ <é> & c`}, CredentialID: "cred-1",
			Environment: &production, Name: "default", Org: "default", Outcome: OutcomeSuccess, Peer: "127.0.0.1", Realm: "r", RequestID: "q",
			Source: "rest", TargetID: "salesforce", TargetType: "integration", Time: "2026-04-29T14:00:00.000Z", Version: 18446744073709551615,
			Metadata: map[string]any{
				"wasUpdate": true, "text": "<&>", "names": []string{"b", "a"}, "number": 7, "version": uint64(8), "none": nil, "scope": &production,
				"nested": map[string]any{"z": 1, "a": "x"}, "missing": (*string)(nil), "status": StatusActive,
			},
		},
		"no metadata": {Metadata: map[string]any{}, Outcome: "forbidden"},
	} {
		t.Run(name, func(t *testing.T) { wantEncoded(t, b, b) })
	}
	counted := auditBody{Action: ActionRead, read: readNote{given: true, from: envs.Scope(production), count: 3, since: time.Date(2026, 4, 29, 14, 0, 0, 0, time.UTC)}}
	wantEncoded(t, counted, auditBody{Action: ActionRead, Metadata: map[string]any{"count": 3, "resolvedFrom": "production", "since": "2026-04-29T14:00:00.000Z"}})
	one := auditBody{Action: ActionRead, read: readNote{given: true, from: envs.Shared}}
	wantEncoded(t, one, auditBody{Action: ActionRead, Metadata: map[string]any{"resolvedFrom": nil}})
	wantEncoded(t, auditBody{Name: "a\xffb"}, auditBody{Name: "a\ufffdb"})
}

func wantEncoded(t *testing.T, b, same auditBody) {
	t.Helper()
	got, err := b.encode(nil)
	if err != nil {
		t.Fatal(err)
	}
	var want bytes.Buffer
	enc := json.NewEncoder(&want)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(same); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, bytes.TrimSuffix(want.Bytes(), []byte("\n"))) {
		t.Errorf("%s\nwant %s", got, want.Bytes())
	}
}
