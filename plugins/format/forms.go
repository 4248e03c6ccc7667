package main

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/mail"
	"net/url"
	"regexp"
	"strings"
	"unicode/utf8"
)

// form is a well-known format.
type form struct {
	is   string // what a text of it is
	fits func(text string) bool
}

var (
	hostRE    = regexp.MustCompile(`\A[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*\z`)
	integerRE = regexp.MustCompile(`\A-?(0|[1-9][0-9]*)\z`)
	uuidRE    = regexp.MustCompile(`\A[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}\z`)
)

// forms are the values of format.
var forms = map[string]form{
	"base64":    {"base64 (RFC 4648, with padding)", isBase64(base64.StdEncoding)},
	"base64url": {"base64url (RFC 4648, without padding)", isBase64(base64.RawURLEncoding)},
	"email":     {"an e-mail address", isEmail},
	"hex":       {"hexadecimal digits, an even number of them", isHex},
	"hostname":  {"a host name", func(s string) bool { return len(s) <= 253 && hostRE.MatchString(s) }},
	"integer":   {"a whole number", integerRE.MatchString},
	"json":      {"JSON", func(s string) bool { return json.Valid([]byte(s)) }},
	"jwt":       {"a JSON Web Token: three parts with dots between them", isJWT},
	"pem":       {"PEM: blocks between BEGIN and END lines, and nothing else", isPEM},
	"url":       {"an http or https URL with a host, without user and password", isURL},
	"uuid":      {"a UUID", uuidRE.MatchString},
}

func isBase64(e *base64.Encoding) func(string) bool {
	return func(s string) bool {
		_, err := e.Strict().DecodeString(s)
		// The decoder passes over line breaks.
		return err == nil && s != "" && !strings.ContainsAny(s, "\r\n")
	}
}

func isHex(s string) bool {
	_, err := hex.DecodeString(s)
	return err == nil && s != ""
}

func isEmail(s string) bool {
	a, err := mail.ParseAddress(s)
	return err == nil && a.Address == s
}

// isJWT looks at a token's form alone (RFC 7515, compact); its signature is between its
// issuer and its audience.
func isJWT(s string) bool {
	parts := strings.Split(s, ".")
	if len(parts) != 3 {
		return false
	}
	for _, part := range parts[:2] {
		raw, err := base64.RawURLEncoding.DecodeString(part)
		var object map[string]json.RawMessage
		if err != nil || json.Unmarshal(raw, &object) != nil || object == nil {
			return false
		}
	}
	return isBase64(base64.RawURLEncoding)(parts[2])
}

func isPEM(s string) bool {
	rest := bytes.TrimSpace([]byte(s))
	for len(rest) > 0 {
		// Decode looks for a block anywhere; here one must begin at once.
		if !bytes.HasPrefix(rest, []byte("-----BEGIN ")) {
			return false
		}
		block, after := pem.Decode(rest)
		if block == nil || len(block.Bytes) == 0 || bytes.Count(rest[:len(rest)-len(after)], []byte("-----BEGIN ")) != 1 {
			return false
		}
		rest = bytes.TrimSpace(after)
	}
	return strings.TrimSpace(s) != ""
}

func isURL(s string) bool {
	u, err := url.Parse(s)
	return err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Hostname() != "" && u.User == nil
}

// length counts characters, not bytes, as JSON Schema does.
func (f field) length() (check, error) {
	low, high := 0, -1
	if f.MinLength != nil {
		low = *f.MinLength
	}
	if f.MaxLength != nil {
		high = *f.MaxLength
	}
	switch {
	case f.MinLength == nil && f.MaxLength == nil:
		return nil, nil
	case low < 0 || f.MaxLength != nil && high < low:
		return nil, fmt.Errorf("minLength must be at least 0, and maxLength at least minLength")
	}
	return func(text string) string {
		switch n := utf8.RuneCountInString(text); {
		case n < low:
			return fmt.Sprintf("must have at least %d characters", low)
		case high >= 0 && n > high:
			return fmt.Sprintf("must have at most %d characters", high)
		}
		return ""
	}, nil
}
