package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/sidevault/sidevault/plugins/internal/egress"
	"github.com/sidevault/sidevault/plugins/sdk"
)

// config is the configuration of a binding.
type config struct {
	URL           string `json:"url"`
	SecretFile    string `json:"secretFile"`
	IncludeSecret bool   `json:"includeSecret"`
	AllowPrivate  bool   `json:"allowPrivate"`
	CAFile        string `json:"caFile"`
}

// goneFor is when an endpoint that is gone is tried again: the specification asks to
// disable it, which only the catalog can.
const goneFor = 24 * time.Hour

type syncer struct {
	env      func(string) string
	resolver *net.Resolver // nil: the system's
}

// message is the body.
type message struct {
	Type      string `json:"type"`      // credential.set, credential.removed
	Timestamp string `json:"timestamp"` // when it was sent
	Data      data   `json:"data"`
}

type data struct {
	Org          string            `json:"org"`
	Integration  string            `json:"integration"`
	Environment  *string           `json:"environment"` // null: all environments
	Name         string            `json:"name"`
	CredentialID string            `json:"credentialId"`
	Version      uint64            `json:"version"`
	Fields       map[string]string `json:"fields,omitempty"` // with includeSecret alone
}

// Sync sends the message once. Whatever is not a 2xx is a failure, which the sidecar
// repeats.
func (s syncer) Sync(ctx context.Context, r sdk.SyncRequest) (sdk.SyncResult, error) {
	var c config
	if err := r.Config.Decode(&c); err != nil {
		return sdk.SyncResult{}, err
	}
	rules, err := s.rules(c)
	if err != nil {
		return sdk.SyncResult{}, fmt.Errorf("the config of the catalog: %w", err)
	}
	request, err := s.request(ctx, c, r)
	if err != nil {
		return sdk.SyncResult{}, err
	}
	client, err := rules.Client()
	if err != nil {
		return sdk.SyncResult{}, err
	}
	response, err := client.Do(request)
	if err != nil {
		return sdk.Fail("the endpoint %s", egress.Explain(err)), nil
	}
	response.Body.Close()
	return judge(response), nil
}

func (s syncer) rules(c config) (egress.Rules, error) {
	if c.URL == "" {
		return egress.Rules{}, errors.New("url is missing")
	}
	u, err := url.Parse(c.URL)
	if err != nil {
		return egress.Rules{}, errors.New("url is not a URL")
	}
	plain, err := egress.IsPlain(u)
	if err != nil {
		return egress.Rules{}, fmt.Errorf("url: %w", err)
	}
	return egress.Rules{
		AllowPrivate: c.AllowPrivate, LoopbackOnly: plain && c.IncludeSecret, CAFile: c.CAFile, Resolver: s.resolver,
	}, nil
}

func (s syncer) request(ctx context.Context, c config, r sdk.SyncRequest) (*http.Request, error) {
	name := c.SecretFile
	if name == "" {
		name = s.env("WEBHOOK_SECRET_FILE")
	}
	if name == "" {
		return nil, errors.New("there is no signing secret: name its file in secretFile, or in WEBHOOK_SECRET_FILE under env of the plugin")
	}
	keys, err := readKeys(name)
	if err != nil {
		return nil, err
	}
	now, id := time.Now(), messageID(r.IdempotencyKey)
	body, err := json.Marshal(compose(r, c.IncludeSecret, now))
	if err != nil {
		return nil, errors.New("the credential cannot be written as JSON")
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, c.URL, bytes.NewReader(body))
	if err != nil {
		return nil, errors.New("the config of the catalog: url is not a URL")
	}
	h := request.Header
	h.Set("Content-Type", "application/json")
	h.Set("User-Agent", "sidevault-syncer-webhook")
	h.Set("webhook-id", id)
	h.Set("webhook-timestamp", strconv.FormatInt(now.Unix(), 10))
	h.Set("webhook-signature", keys.sign(id, now, body))
	return request, nil
}

func compose(r sdk.SyncRequest, includeSecret bool, now time.Time) message {
	m := message{
		Type: "credential.set", Timestamp: now.UTC().Format("2006-01-02T15:04:05.000Z"),
		Data: data{
			Org: r.Place.Org, Integration: r.Place.Integration, Name: r.Place.Name,
			CredentialID: r.CredentialID, Version: r.Version,
		},
	}
	if r.Place.Environment != "" {
		m.Data.Environment = &r.Place.Environment
	}
	if r.Change == sdk.Remove {
		m.Type = "credential.removed"
	}
	if includeSecret && r.Change == sdk.Set {
		m.Data.Fields = make(map[string]string, len(r.Fields))
		for name, v := range r.Fields {
			m.Data.Fields[name] = v.Reveal()
		}
	}
	return m
}

// judge reads the status alone. What an endpoint says beyond it is not passed on.
func judge(r *http.Response) sdk.SyncResult {
	switch code := r.StatusCode; {
	case code >= 200 && code <= 299:
		return sdk.Done()
	case code == http.StatusGone:
		return sdk.Fail("the endpoint is gone (410): give its new url in the catalog, or take the binding out").RetryAfter(goneFor)
	case code >= 300 && code <= 399:
		return sdk.Fail("the endpoint answered %d, a redirect, which is not followed: give the final url in the catalog", code)
	default:
		return sdk.Fail("the endpoint answered %d", code).RetryAfter(egress.RetryAfter(r, time.Now()))
	}
}
