package secret_test

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"html"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/sidevault/sidevault/vault/secret"
)

func TestStrikeFindsEveryForm(t *testing.T) {
	const value = "s3cr&t/\"Käy\"\n+line"
	quoted, _ := json.Marshal(value)
	s := secret.NewStriker(secret.New(value), secret.New(""), secret.New("other-secret"))
	for name, form := range map[string]string{
		"plain": value, "upper": strings.ToUpper("other-secret"), "json": string(quoted), "go": strconv.Quote(value),
		"html": html.EscapeString(value), "query": url.QueryEscape(value), "path": url.PathEscape(value),
		"base64": base64.StdEncoding.EncodeToString([]byte(value)), "base64url": base64.RawURLEncoding.EncodeToString([]byte(value)),
		"hex": hex.EncodeToString([]byte(value)), "HEX": strings.ToUpper(hex.EncodeToString([]byte(value))),
	} {
		got := s.Strike("before " + form + " after " + form)
		if strings.Count(got, secret.Redacted) != 2 || !strings.HasPrefix(got, "before ") || !s.Finds(form) {
			t.Errorf("%s: not struck out", name)
		}
	}
}

func TestStrikeShort(t *testing.T) {
	s := secret.NewStriker(secret.New("abc"))
	if got := s.Strike("the ABC of it"); got != secret.Redacted {
		t.Errorf("got %q", got)
	}
	if got := s.Strike("nothing of it"); got != "nothing of it" {
		t.Errorf("got %q", got)
	}
}

func TestStrikeLines(t *testing.T) {
	key := "-----BEGIN KEY-----\nMIIEvQIBADANBgkqhkiG9w0B\nAQEFAASCBKcwggSjAgEAAoIB\n-----END KEY-----\n"
	s := secret.NewStriker(secret.New(key))
	if got := s.Strike("log: AQEFAASCBKcwggSjAgEAAoIB"); got != "log: "+secret.Redacted {
		t.Errorf("a line of it is shown: %q", got)
	}
}

func FuzzStrike(f *testing.F) {
	f.Add("secret-value", "a text with secret-value in it")
	f.Add("İstanbul", "İİİ İstanbul ıI")
	f.Fuzz(func(t *testing.T, value, text string) {
		if !utf8.ValidString(value) {
			t.Skip("no such secret is stored")
		}
		s := secret.NewStriker(secret.New(value))
		got := s.Strike(text + value + text)
		if value != "" && !strings.Contains(secret.Redacted, value) && strings.Contains(got, value) && !strings.Contains(value, "<") && !strings.Contains(value, ">") {
			t.Errorf("value shown by Strike")
		}
		s.Strike(text)
	})
}
