package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sidevault/sidevault/plugins/internal/trial"
	"github.com/sidevault/sidevault/plugins/pluginpb"
	"github.com/sidevault/sidevault/plugins/plugintest"
	"github.com/sidevault/sidevault/plugins/sdk"
)

func TestProgram(t *testing.T) {
	a := open(t, answering(200, ""), answering(403, `{"message":"not with `+token+` and `+canary+`"}`))
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(token), 0o600); err != nil {
		t.Fatal(err)
	}
	p := trial.Start(t, pluginpb.ServiceSyncer, "TR_URL="+a.URL, "TR_TOKEN_FILE="+file)
	p.Describes(t, "trustradius", pluginpb.ServiceSyncer)
	request := &pluginpb.SyncRequest{
		Change: pluginpb.SyncRequest_CHANGE_SET, Place: &pluginpb.Place{Org: "acme", Integration: "trustradius", Name: "default"},
		CredentialId: "cred-1", Version: 1, Fields: map[string]string{"api_key": canary}, IdempotencyKey: "k", Attempt: 1,
	}
	for i, want := range []pluginpb.SyncResponse_Outcome{pluginpb.SyncResponse_OUTCOME_DONE, pluginpb.SyncResponse_OUTCOME_FAILED} {
		r, err := p.Syncer.Sync(t.Context(), request)
		if err != nil || r.GetOutcome() != want {
			t.Errorf("%d: %v, %v", i, r, err)
		}
		if said := r.String() + p.Log(); strings.Contains(said, "canary") {
			t.Errorf("%d: a secret is in the answer or the log", i)
		}
	}
	if r := a.requests(); len(r) != 2 || !strings.Contains(r[0].body, canary) || r[0].header.Get("Authorization") != "Bearer "+token {
		t.Errorf("%d requests, or not with token and credential", len(r))
	}
}

func TestContract(t *testing.T) {
	a := open(t, answering(200, ""))
	plugintest.Run(t, plugintest.Plugin{
		Path: plugintest.Build(t, "."), Kind: plugintest.Syncer, Config: `{"path":"/{org}/{integration}"}`,
		Env:  []string{"TR_URL=" + a.URL, "TR_TOKEN=" + token},
		Good: []plugintest.Credential{plugintest.Opaque("acme_0123456789")},
	})
	if len(a.requests()) == 0 {
		t.Error("nothing was delivered")
	}
}

func TestDocumented(t *testing.T) {
	trial.Documented(t, "trustradius", config{})
	section := trial.Section(t, "trustradius")
	asked := map[string]bool{}
	env := func(name string) string {
		asked[name] = true
		return map[string]string{"TR_URL": "https://aggregator.example.com", "TR_TOKEN": "x"}[name]
	}
	to, err := syncer{env: env}.target(sdk.Config(trial.Example(t, "trustradius").Config))
	if err != nil || to.path != defaultPath {
		t.Errorf("the example: %v", err)
	}
	for name := range asked {
		if !strings.Contains(section, "\n| "+name+" | ") {
			t.Errorf("%s is not on the page", name)
		}
	}
	if strings.Count(section, "\n| TR_") != len(asked) {
		t.Error("the page has variables that the program does not read")
	}
}
