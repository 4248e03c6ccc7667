package catalog

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"regexp/syntax"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/goccy/go-yaml/ast"
	"github.com/sidevault/sidevault/envs"
	"github.com/sidevault/sidevault/vault"
)

// Limits on an entry's texts, in characters; maxPattern in bytes.
const (
	maxDescription = 500
	maxRotation    = 2000
	maxURL         = 1000
	maxPattern     = 512
)

var (
	slugRE  = regexp.MustCompile(`^[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?$`)
	fieldRE = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,64}$`)
)

func checkKey(s string) error {
	if vault.CheckIntegrationKey(s) != nil {
		return fmt.Errorf("%s: 1 to %d of A-Z a-z 0-9 . _ -, a letter or digit first; credentials and categories are reserved",
			quote(s), vault.MaxIntegrationKey)
	}
	return nil
}

func checkSlug(s string) error {
	if !slugRE.MatchString(s) {
		return fmt.Errorf("%s: 1 to 63 of a-z 0-9 _ -, a letter or digit first and last", quote(s))
	}
	return nil
}

func checkField(s string) error {
	if !fieldRE.MatchString(s) {
		return fmt.Errorf("%s: 1 to 64 of A-Z a-z 0-9 _ . -", quote(s))
	}
	return nil
}

func checkEnvironment(s string) error {
	if _, err := envs.New([]envs.Environment{{Name: s}}); err != nil {
		return fmt.Errorf("%s: 1 to 63 of a-z 0-9 -, a letter or digit first and last", quote(s))
	}
	return nil
}

func checkURL(s string) error {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil || len(s) > maxURL || !printable(s, "") {
		return fmt.Errorf("%s: an https URL is expected", quote(s))
	}
	return nil
}

// checkName accepts what the vault accepts of a registered entry's name.
func checkName(s string) error {
	if s == "" || len(s) > vault.MaxName || strings.TrimSpace(s) != s || !printable(s, "") {
		return fmt.Errorf("%s: 1 to %d bytes of printable text, without space at its ends", quote(s), vault.MaxName)
	}
	return nil
}

// prose reads a paragraph or several, less the white space around them.
func prose(to *string, most int) func(ast.Node) error {
	return text(func(s string) error {
		s = strings.TrimSpace(s)
		if !printable(s, "\n") {
			return errors.New("printable text is expected")
		}
		*to = s
		return checkLength(s, most)
	})
}

func checkLength(s string, most int) error {
	if n := utf8.RuneCountInString(s); n == 0 || n > most {
		return fmt.Errorf("1 to %d characters, not %d", most, n)
	}
	return nil
}

// printable excludes, with the control characters, those that reorder or hide
// text.
func printable(s, also string) bool {
	return !strings.ContainsFunc(s, func(c rune) bool {
		return !unicode.IsPrint(c) && !strings.ContainsRune(also, c)
	})
}

// reason shortens an error of package regexp to one that quotes little.
func reason(err error) error {
	if e, ok := errors.AsType[*syntax.Error](err); ok {
		return fmt.Errorf("%s: %s", e.Code, quote(e.Expr))
	}
	return errors.New("not a regular expression (RE2)")
}
