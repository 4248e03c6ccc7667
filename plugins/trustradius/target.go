package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"regexp"
	"strings"

	"github.com/sidevault/sidevault/plugins/internal/egress"
	"github.com/sidevault/sidevault/plugins/sdk"
	"github.com/sidevault/sidevault/vault/secret"
)

// config is the configuration of a binding.
type config struct {
	Path   string `json:"path"`
	CAFile string `json:"caFile"`
}

const (
	defaultPath  = "/v1/orgs/{org}/credentials/{integration}"
	maxTokenSize = 8 << 10
)

var (
	placeRE = regexp.MustCompile(`\{[^{}]*\}`)
	tokenRE = regexp.MustCompile(`\A[\x21-\x7e]+\z`)
)

// target is where the changes go, and with what.
type target struct {
	base  *url.URL
	path  string
	token secret.Value
	rules egress.Rules
}

// target reads what the operator has given, anew for every call: a token may be
// replaced while the program runs.
func (s syncer) target(c sdk.Config) (target, error) {
	var from config
	if err := c.Decode(&from); err != nil {
		return target{}, err
	}
	if from.Path == "" {
		from.Path = defaultPath
	}
	if err := checkPath(from.Path); err != nil {
		return target{}, fmt.Errorf("the config of the catalog: path: %w", err)
	}
	t := target{path: from.Path, rules: egress.Rules{AllowPrivate: true, CAFile: from.CAFile, Resolver: s.resolver}}
	if err := t.setBase(s.env("TR_URL"), s.env("TR_ALLOW_HTTP") == "true"); err != nil {
		return target{}, err
	}
	var err error
	t.token, err = s.token()
	return t, err
}

func checkPath(path string) error {
	for _, place := range placeRE.FindAllString(path, -1) {
		if place != "{org}" && place != "{integration}" {
			return fmt.Errorf("%s is not known; there are {org} and {integration}", place)
		}
	}
	switch {
	case !strings.HasPrefix(path, "/"):
		return errors.New("must begin with /")
	case strings.ContainsAny(placeRE.ReplaceAllString(path, ""), "{}?# \\"):
		return errors.New("must not have a query, a fragment, white space or a lone brace")
	}
	return nil
}

func (t *target) setBase(text string, allowHTTP bool) error {
	if text == "" {
		return errors.New("TR_URL is not set: give the aggregator's base URL under env of the plugin")
	}
	base, err := url.Parse(text)
	if err != nil {
		return errors.New("TR_URL is not a URL")
	}
	plain, err := egress.IsPlain(base)
	if err != nil {
		return fmt.Errorf("TR_URL: %w", err)
	}
	if base.RawQuery != "" {
		return errors.New("TR_URL: the URL must not have a query (?)")
	}
	t.base, t.rules.LoopbackOnly = base, plain && !allowHTTP
	return nil
}

// url is the resource that a change is about. The place is in the URL, so that DELETE
// needs no body.
func (t target) url(p sdk.Place) string {
	path := strings.NewReplacer("{org}", url.PathEscape(p.Org), "{integration}", url.PathEscape(p.Integration)).Replace(t.path)
	query := url.Values{"name": {p.Name}}
	if p.Environment != "" {
		query.Set("environment", p.Environment)
	}
	return strings.TrimSuffix(t.base.String(), "/") + path + "?" + query.Encode()
}

// token reads the bearer token.
func (s syncer) token() (secret.Value, error) {
	text := s.env("TR_TOKEN")
	if name := s.env("TR_TOKEN_FILE"); name != "" {
		file, err := os.Open(name)
		if err != nil {
			return secret.Value{}, fmt.Errorf("TR_TOKEN_FILE: %w; list it under read of the plugin", err)
		}
		defer file.Close()
		b, err := io.ReadAll(io.LimitReader(file, maxTokenSize))
		if err != nil {
			return secret.Value{}, fmt.Errorf("TR_TOKEN_FILE: %w", err)
		}
		text = string(bytes.TrimSpace(b))
	}
	if text == "" {
		return secret.Value{}, errors.New("there is no token: name its file in TR_TOKEN_FILE under env of the plugin")
	}
	if !tokenRE.MatchString(text) {
		return secret.Value{}, errors.New("the token holds characters that a header cannot have")
	}
	return secret.New(text), nil
}

// payload is the body of PUT.
type payload struct {
	Org          string            `json:"org"`
	Integration  string            `json:"integration"`
	Environment  *string           `json:"environment"` // null: all environments
	Name         string            `json:"name"`
	CredentialID string            `json:"credentialId"`
	Version      uint64            `json:"version"`
	AuthType     *string           `json:"authType"`
	Fields       map[string]string `json:"fields"`
}

func body(r sdk.SyncRequest) ([]byte, error) {
	if r.Change == sdk.Remove {
		return nil, nil
	}
	p := payload{
		Org: r.Place.Org, Integration: r.Place.Integration, Environment: orNull(r.Place.Environment), Name: r.Place.Name,
		CredentialID: r.CredentialID, Version: r.Version, AuthType: orNull(r.AuthType), Fields: map[string]string{},
	}
	for name, v := range r.Fields {
		p.Fields[name] = v.Reveal()
	}
	return json.Marshal(p)
}

func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
