package main

import (
	"strings"
	"testing"

	"github.com/sidevault/sidevault/plugins/internal/trial"
	"github.com/sidevault/sidevault/plugins/pluginpb"
	"github.com/sidevault/sidevault/plugins/plugintest"
	"github.com/sidevault/sidevault/plugins/sdk"
)

func TestProgram(t *testing.T) {
	e := open(t, answering(200))
	p := trial.Start(t, pluginpb.ServiceSyncer, "WEBHOOK_SECRET_FILE="+secretFile(t, key))
	p.Describes(t, "webhook", pluginpb.ServiceSyncer)
	request := &pluginpb.SyncRequest{
		Change: pluginpb.SyncRequest_CHANGE_SET, Place: &pluginpb.Place{Org: "acme", Integration: "github", Name: "default"},
		CredentialId: "cred-1", Version: 1, Fields: map[string]string{"token": canary}, IdempotencyKey: "k", Attempt: 1,
		Config: e.config(`,"includeSecret":true`),
	}
	r, err := p.Syncer.Sync(t.Context(), request)
	if err != nil || r.GetOutcome() != pluginpb.SyncResponse_OUTCOME_DONE || len(e.messages()) != 1 {
		t.Fatalf("%v, %v", r, err)
	}
	m := e.messages()[0]
	verify(t, m, key)
	if !strings.Contains(m.body, canary) || strings.Contains(r.String()+p.Log(), "canary") {
		t.Error("the secret is not in the message, or is in the answer or the log")
	}
	request.Config = strings.Replace(request.Config, `"allowPrivate":true`, `"allowPrivate":false`, 1)
	r, err = p.Syncer.Sync(t.Context(), request)
	if err != nil || r.GetOutcome() != pluginpb.SyncResponse_OUTCOME_FAILED || !strings.Contains(r.GetMessage(), "private") || strings.Contains(r.String()+p.Log(), "canary") {
		t.Errorf("a private address: %v, %v", r, err)
	}
}

func TestContract(t *testing.T) {
	e := open(t, answering(200))
	plugintest.Run(t, plugintest.Plugin{
		Path: plugintest.Build(t, "."), Kind: plugintest.Syncer, Config: e.config(""), Env: []string{"WEBHOOK_SECRET_FILE=" + secretFile(t, key)},
		Good: []plugintest.Credential{plugintest.Opaque("acme_0123456789")},
	})
	if len(e.messages()) == 0 {
		t.Error("nothing was delivered")
	}
}

func TestDocumented(t *testing.T) {
	trial.Documented(t, "webhook", config{})
	var c config
	if err := sdk.Config(trial.Example(t, "webhook").Config).Decode(&c); err != nil {
		t.Fatal(err)
	}
	if rules, err := (syncer{}).rules(c); err != nil || rules.AllowPrivate {
		t.Errorf("the example: %+v, %v", rules, err)
	}
	if !strings.Contains(trial.Section(t, "webhook"), "env: {WEBHOOK_SECRET_FILE: ") {
		t.Error("the page does not give the variable")
	}
}
