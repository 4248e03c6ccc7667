package jwt

import (
	"encoding/base64"
	"errors"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

const (
	// maxToken is how long a token may be, in bytes. Larger ones do not pass most
	// proxies either.
	maxToken = 8 << 10
	// maxKid is how long a key's ID may be, in bytes.
	maxKid = 256
)

// header is what is read of a token's header (RFC 7515, section 4). A member given
// twice is an error, so that no two readers see different ones.
type header struct {
	Alg  string         `json:"alg"`
	Kid  string         `json:"kid"`
	Typ  string         `json:"typ"`
	Crit jsontext.Value `json:"crit"`
}

// kinds are the types of token that authenticate a caller. Others of the same
// issuer (logout+jwt, dpop+jwt, secevent+jwt) are for something else (RFC 8725,
// section 3.11).
var kinds = []string{"", "jwt", "at+jwt"}

func parseHeader(token string) (h header, err error) {
	if len(token) > maxToken {
		return h, errors.New("it is too long")
	}
	parts := strings.Split(token, ".")
	if len(parts) != 3 || slices.Contains(parts, "") || strings.ContainsFunc(token, foreign) {
		return h, errors.New("it does not have the form of a signed token")
	}
	text, err := base64.RawURLEncoding.Strict().DecodeString(parts[0])
	if err != nil || json.Unmarshal(text, &h) != nil {
		return h, errors.New("its header is malformed")
	}
	switch {
	case h.Crit != nil:
		return h, errors.New("its header has critical extensions")
	case h.Kid == "" || len(h.Kid) > maxKid:
		return h, errors.New("its header names no key, or one with too long a name")
	case !slices.Contains(kinds, strings.TrimPrefix(strings.ToLower(h.Typ), "application/")):
		return h, errors.New("it is of a type that is not for authentication")
	}
	return h, nil
}

// foreign reports whether a character is in no compact serialization. Decoders of
// base64 pass over line ends.
func foreign(r rune) bool {
	return !(r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' || r == '_' || r == '.')
}
