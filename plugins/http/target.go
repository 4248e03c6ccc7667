package main

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/sidevault/sidevault/plugins/internal/egress"
	"github.com/sidevault/sidevault/vault/secret"
)

// target is the template of a URL. Where a field stands decides how it is escaped, so
// that no value can leave its component: change the host, climb in the path, or add a
// parameter.
type target struct {
	pieces       template
	parts        []part // of each piece, where it begins
	plain        bool   // http
	allowedHosts []string
}

// part is a component of a URL.
type part uint8

const (
	inHost part = iota
	inPath
	inQuery
)

var (
	hostPartRE  = regexp.MustCompile(`\A[A-Za-z0-9.-]+\z`)
	hostEntryRE = regexp.MustCompile(`\A(\*\.)?[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*\z`)
)

// parseTarget reads the URL of a configuration. The literal text alone decides its
// shape.
func parseTarget(c config) (target, error) {
	t, err := parse(c.Request.URL, "base64", "host")
	if err != nil {
		return target{}, fmt.Errorf("request.url: %w", err)
	}
	for _, entry := range c.AllowedHosts {
		if !hostEntryRE.MatchString(entry) {
			return target{}, fmt.Errorf("allowedHosts: %q is not a host name, nor *. and a domain", entry)
		}
	}
	to := target{pieces: t, allowedHosts: c.AllowedHosts}
	if err := to.place(); err != nil {
		return target{}, fmt.Errorf("request.url: %w", err)
	}
	example, err := url.Parse(to.text(func(piece) string { return "x" }))
	if err != nil {
		return target{}, fmt.Errorf("request.url: %w", err)
	}
	if to.plain, err = egress.IsPlain(example); err != nil {
		return target{}, fmt.Errorf("request.url: %w", err)
	}
	switch inHosts := slices.Contains(to.fieldParts(), inHost); {
	case len(t.fields()) > 0 && !c.SecretInURL:
		return target{}, errors.New("request.url holds a field, and URLs end up in logs: use a header, or say secretInURL: true")
	case inHosts && len(c.AllowedHosts) == 0:
		return target{}, errors.New("request.url takes its host from a field: say in allowedHosts which hosts there can be")
	case !inHosts && len(c.AllowedHosts) > 0 && !allows(c.AllowedHosts, example.Hostname()):
		return target{}, errors.New("request.url has a host that allowedHosts does not list")
	}
	return to, nil
}

// place finds the component in which each piece begins.
func (t *target) place() error {
	if len(t.pieces) == 0 || t.pieces[0].field != "" {
		return errors.New("must begin with https:// or http://")
	}
	at, text := inHost, ""
	for _, p := range t.pieces {
		t.parts = append(t.parts, at)
		if p.field == "" {
			text += p.text
			at = partAfter(text)
			continue
		}
		if slices.Contains(p.filters, "host") && at != inHost {
			return errors.New("the filter host has no use behind the host")
		}
		_, host, _ := strings.Cut(text, "://")
		if at == inHost && (!strings.Contains(text, "://") || strings.ContainsAny(host, ":@[\\")) {
			return errors.New("a field can be the host or a part of it, not the scheme, user or port")
		}
		text += "x"
	}
	if strings.Contains(text, "#") {
		return errors.New("must not have a fragment (#)")
	}
	return nil
}

// partAfter says in which component the next character of a URL stands.
func partAfter(text string) part {
	_, rest, _ := strings.Cut(text, "://")
	switch {
	case strings.Contains(rest, "?"):
		return inQuery
	case strings.Contains(rest, "/"):
		return inPath
	}
	return inHost
}

func (t target) fieldParts() []part {
	var list []part
	for i, p := range t.pieces {
		if p.field != "" {
			list = append(list, t.parts[i])
		}
	}
	return list
}

func (t target) text(fill func(piece) string) string {
	var b strings.Builder
	for i, p := range t.pieces {
		switch {
		case p.field == "":
			b.WriteString(p.text)
		case t.parts[i] == inHost:
			b.WriteString(fill(p))
		case t.parts[i] == inPath:
			b.WriteString(url.PathEscape(fill(p)))
		default:
			b.WriteString(url.QueryEscape(fill(p)))
		}
	}
	return b.String()
}

// url returns the URL for these fields, or what is wrong with a field.
func (t target) url(fields map[string]secret.Value, found problems) *url.URL {
	for i, p := range t.pieces {
		if p.field != "" && t.parts[i] == inHost && !hostPartRE.MatchString(p.fill(fields)) {
			found.add(p.field, "cannot be a part of a host name")
		}
	}
	u, err := url.Parse(t.text(func(p piece) string { return p.fill(fields) }))
	if err != nil || !allows(t.allowedHosts, u.Hostname()) {
		// The error quotes the URL.
		found.addAll(t.pieces.fields(), "leads to a host that is not one of the provider's")
		return nil
	}
	for segment := range strings.SplitSeq(u.EscapedPath(), "/") {
		if segment == "." || segment == ".." {
			found.addAll(t.pieces.fields(), "cannot be a part of a path")
		}
	}
	return u
}

// allows reports whether a host is in the list, in which *.example.com is every name
// below example.com. An empty list is no limit.
func allows(list []string, host string) bool {
	host = strings.ToLower(host)
	return len(list) == 0 || slices.ContainsFunc(list, func(entry string) bool {
		entry = strings.ToLower(entry)
		if suffix, wild := strings.CutPrefix(entry, "*"); wild {
			return len(host) > len(suffix) && strings.HasSuffix(host, suffix)
		}
		return host == entry
	})
}
