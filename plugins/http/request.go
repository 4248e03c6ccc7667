package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/sidevault/sidevault/vault/secret"
)

// problems say what is wrong with fields, by their names.
type problems map[string]string

func (p problems) add(field, what string) {
	if _, known := p[field]; !known {
		p[field] = what
	}
}

func (p problems) addAll(fields []string, what string) {
	for _, f := range fields {
		p.add(f, what)
	}
}

// build returns the request for a credential, or what is wrong with its fields.
func (p *plan) build(ctx context.Context, fields map[string]secret.Value) (*http.Request, problems, error) {
	found := problems{}
	for _, name := range p.fields() {
		if fields[name].Len() == 0 {
			found.add(name, "is missing")
		}
	}
	if len(found) > 0 {
		return nil, found, nil
	}
	to := p.to.url(fields, found)
	headers := p.header(fields, found)
	if len(found) > 0 {
		return nil, found, nil
	}
	if len(p.query) > 0 {
		query := to.Query()
		for name, t := range p.query {
			query.Set(name, t.fill(fields))
		}
		to.RawQuery = query.Encode()
	}
	body, kind, err := p.content(fields)
	if err != nil {
		return nil, nil, err
	}
	if kind != "" && headers.Get("Content-Type") == "" {
		headers.Set("Content-Type", kind)
	}
	r := &http.Request{
		Method: p.Request.Method, URL: to, Host: to.Host, Header: headers,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}
	if body != nil {
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
		r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	}
	return r.WithContext(ctx), nil, nil
}

// fields returns the names of all fields that the request is made of.
func (p *plan) fields() []string {
	names := p.to.pieces.fields()
	for _, t := range []template{p.user, p.pass, p.body} {
		names = append(names, t.fields()...)
	}
	for _, all := range []map[string]template{p.query, p.headers, p.form} {
		for _, t := range all {
			names = append(names, t.fields()...)
		}
	}
	names = jsonFields(p.json, names)
	slices.Sort(names)
	return slices.Compact(names)
}

func jsonFields(doc any, names []string) []string {
	switch d := doc.(type) {
	case template:
		return append(names, d.fields()...)
	case []any:
		for _, v := range d {
			names = jsonFields(v, names)
		}
	case map[string]any:
		for _, v := range d {
			names = jsonFields(v, names)
		}
	}
	return names
}

// header refuses what would end a header and begin another one.
func (p *plan) header(fields map[string]secret.Value, found problems) http.Header {
	h := http.Header{"User-Agent": {"sidevault-validator-http"}}
	for _, name := range slices.Sorted(maps.Keys(p.headers)) {
		for _, piece := range p.headers[name] {
			if piece.field != "" && hasControl(piece.fill(fields)) {
				found.add(piece.field, "holds a line break or another control character; often one is pasted along at the end")
			}
		}
		h.Set(name, p.headers[name].fill(fields))
	}
	if p.Request.BasicAuth != nil {
		user := p.user.fill(fields)
		if strings.Contains(user, ":") {
			found.addAll(p.user.fields(), "holds a colon, which the user name of basic authentication cannot have")
		}
		(&http.Request{Header: h}).SetBasicAuth(user, p.pass.fill(fields))
	}
	return h
}

func hasControl(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f })
}

// content returns the body and its media type; nil is no body.
func (p *plan) content(fields map[string]secret.Value) ([]byte, string, error) {
	switch {
	case p.Request.Form != nil:
		form := url.Values{}
		for name, t := range p.form {
			form.Set(name, t.fill(fields))
		}
		return []byte(form.Encode()), "application/x-www-form-urlencoded", nil
	case len(p.Request.JSON) > 0:
		var b bytes.Buffer
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(false)
		err := e.Encode(fillJSON(p.json, fields))
		return b.Bytes(), "application/json", err
	case p.Request.Body != "":
		return []byte(p.body.fill(fields)), "", nil
	}
	return nil, "", nil
}

func fillJSON(doc any, fields map[string]secret.Value) any {
	switch d := doc.(type) {
	case template:
		return d.fill(fields)
	case []any:
		filled := make([]any, len(d))
		for i, v := range d {
			filled[i] = fillJSON(v, fields)
		}
		return filled
	case map[string]any:
		filled := make(map[string]any, len(d))
		for k, v := range d {
			filled[k] = fillJSON(v, fields)
		}
		return filled
	}
	return doc
}
