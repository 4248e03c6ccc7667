package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/sidevault/sidevault/plugins/sdk"
)

// config is the configuration of a binding.
type config struct {
	Request         request  `json:"request"`
	Valid           []status `json:"valid"`
	Invalid         []status `json:"invalid"`
	Expect          *expect  `json:"expect"`
	Message         string   `json:"message"`
	SecretInURL     bool     `json:"secretInURL"`
	AllowPrivate    bool     `json:"allowPrivate"`
	AllowHTTP       bool     `json:"allowHTTP"`
	AllowedHosts    []string `json:"allowedHosts"`
	FollowRedirects bool     `json:"followRedirects"`
	CAFile          string   `json:"caFile"`
}

// request is what is asked of the provider. The strings are templates.
type request struct {
	Method    string            `json:"method"`
	URL       string            `json:"url"`
	Query     map[string]string `json:"query"`
	Headers   map[string]string `json:"headers"`
	BasicAuth *basicAuth        `json:"basicAuth"`
	Form      map[string]string `json:"form"`
	JSON      json.RawMessage   `json:"json"`
	Body      string            `json:"body"`
}

type basicAuth struct {
	User     string `json:"user"`
	Password string `json:"password"`
}

// expect is what an answer must say besides its status.
type expect struct {
	Pointer  string          `json:"pointer"`
	Equals   json.RawMessage `json:"equals"`
	Contains string          `json:"contains"`
}

// status is a status code, or a class of them as in 2xx.
type status struct{ low, high int }

func (s *status) UnmarshalJSON(b []byte) error {
	text := strings.Trim(string(b), `"`)
	if len(text) == 3 && text[0] >= '1' && text[0] <= '5' && text[1:] == "xx" {
		low := int(text[0]-'0') * 100
		*s = status{low, low + 99}
		return nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 100 || n > 599 {
		return fmt.Errorf("%s is not a status: give a number such as 200, or a class such as \"2xx\"", b)
	}
	*s = status{n, n}
	return nil
}

func (s status) has(code int) bool { return s.low <= code && code <= s.high }

// plan is a configuration that has been found sound.
type plan struct {
	config
	to      target
	query   map[string]template
	headers map[string]template
	user    template
	pass    template
	form    map[string]template
	json    any // with a template in place of every string
	body    template
}

var (
	methods = []string{"GET", "HEAD", "POST"}
	tokenRE = regexp.MustCompile("\\A[!#$%&'*+.^_`|~0-9A-Za-z-]+\\z")
	// hopHeaders are net/http's to set, or would lead the request elsewhere.
	hopHeaders = []string{"host", "content-length", "transfer-encoding", "connection", "te", "trailer", "upgrade", "expect", "keep-alive"}
)

func compile(c sdk.Config) (*plan, error) {
	p := new(plan)
	if err := c.Decode(&p.config); err != nil {
		return nil, err
	}
	for _, step := range []func() error{p.compileStart, p.compileHeaders, p.compileBody, p.compileVerdict} {
		if err := step(); err != nil {
			return nil, fmt.Errorf("the config of the catalog: %w", err)
		}
	}
	return p, nil
}

func (p *plan) compileStart() (err error) {
	if p.Request.Method == "" {
		p.Request.Method = "GET"
	}
	if !slices.Contains(methods, p.Request.Method) {
		return fmt.Errorf("request.method must be one of %s: a validator changes nothing", strings.Join(methods, ", "))
	}
	if p.to, err = parseTarget(p.config); err != nil {
		return err
	}
	if p.query, err = parseAll("request.query", p.Request.Query); err != nil {
		return err
	}
	for name, t := range p.query {
		if len(t.fields()) > 0 && !p.SecretInURL {
			return fmt.Errorf("request.query.%s holds a field, and URLs end up in logs: use a header, or say secretInURL: true", name)
		}
	}
	return nil
}

func (p *plan) compileHeaders() (err error) {
	for name := range p.Request.Headers {
		if !tokenRE.MatchString(name) {
			return fmt.Errorf("request.headers: %q is not the name of a header", name)
		}
		if slices.Contains(hopHeaders, strings.ToLower(name)) || strings.HasPrefix(strings.ToLower(name), "proxy-") {
			return fmt.Errorf("request.headers: %s cannot be set", name)
		}
	}
	if p.headers, err = parseAll("request.headers", p.Request.Headers); err != nil {
		return err
	}
	for name, t := range p.headers {
		for _, piece := range t {
			if hasControl(piece.text) {
				return fmt.Errorf("request.headers.%s holds a line break or another control character", name)
			}
		}
	}
	if p.Request.BasicAuth == nil {
		return nil
	}
	for name := range p.headers {
		if strings.EqualFold(name, "authorization") {
			return errors.New("request has both basicAuth and the header Authorization")
		}
	}
	if p.user, err = parse(p.Request.BasicAuth.User); err != nil {
		return fmt.Errorf("request.basicAuth.user: %w", err)
	}
	if p.pass, err = parse(p.Request.BasicAuth.Password); err != nil {
		return fmt.Errorf("request.basicAuth.password: %w", err)
	}
	return nil
}

func (p *plan) compileBody() (err error) {
	r, kinds := p.Request, 0
	for _, given := range []bool{r.Form != nil, len(r.JSON) > 0, r.Body != ""} {
		if given {
			kinds++
		}
	}
	switch {
	case kinds > 1:
		return errors.New("request has more than one of form, json and body")
	case kinds > 0 && r.Method != "POST":
		return errors.New("request has a body, which takes method: POST")
	}
	if p.form, err = parseAll("request.form", r.Form); err != nil {
		return err
	}
	if p.body, err = parse(r.Body, "base64", "json", "query"); err != nil {
		return fmt.Errorf("request.body: %w", err)
	}
	if len(r.JSON) == 0 {
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(r.JSON))
	d.UseNumber()
	var doc any
	if err := d.Decode(&doc); err != nil {
		return fmt.Errorf("request.json: %w", err)
	}
	if p.json, err = parseJSON(doc); err != nil {
		return fmt.Errorf("request.json: %w", err)
	}
	return nil
}

// compileVerdict fills in the statuses, and refuses those that would mean both.
func (p *plan) compileVerdict() error {
	if p.Valid == nil {
		p.Valid = []status{{200, 299}}
	}
	if p.Invalid == nil {
		p.Invalid = []status{{401, 401}, {403, 403}}
	}
	if len(p.Valid) == 0 {
		return errors.New("valid is empty, and would accept nothing")
	}
	for _, v := range p.Valid {
		if slices.ContainsFunc(p.Invalid, func(i status) bool { return v.low <= i.high && i.low <= v.high }) {
			return errors.New("valid and invalid have statuses in common")
		}
	}
	if p.Expect == nil {
		return nil
	}
	e := p.Expect
	switch {
	case e.Contains != "" && e.Equals != nil, e.Contains == "" && e.Equals == nil:
		return errors.New("expect takes one of equals and contains")
	case e.Equals != nil && e.Pointer == "":
		return errors.New("expect.equals takes a pointer, as in /ok")
	case e.Pointer != "" && !strings.HasPrefix(e.Pointer, "/"):
		return errors.New("expect.pointer must begin with / (RFC 6901)")
	case p.Request.Method == "HEAD":
		return errors.New("expect looks at the body, and HEAD gets none")
	}
	return nil
}

func parseAll(key string, texts map[string]string) (map[string]template, error) {
	all := make(map[string]template, len(texts))
	for name, text := range texts {
		t, err := parse(text, "base64")
		if err != nil {
			return nil, fmt.Errorf("%s.%s: %w", key, name, err)
		}
		all[name] = t
	}
	return all, nil
}

func parseJSON(doc any) (_ any, err error) {
	switch d := doc.(type) {
	case string:
		return parse(d, "base64")
	case []any:
		for i := range d {
			if d[i], err = parseJSON(d[i]); err != nil {
				return nil, err
			}
		}
	case map[string]any:
		for k := range d {
			if d[k], err = parseJSON(d[k]); err != nil {
				return nil, err
			}
		}
	}
	return doc, nil
}
