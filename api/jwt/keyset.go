package jwt

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Limits of a key set.
const (
	maxSet  = 256 << 10 // bytes
	maxKeys = 100
	// RSA keys below the minimum can be broken (NIST SP 800-131A), those above the
	// maximum cost too much to check a signature with.
	minRSA = 2048
	maxRSA = 8192
)

// key verifies signatures.
type key struct {
	public any    // *rsa.PublicKey, *ecdsa.PublicKey or ed25519.PublicKey
	alg    string // the only algorithm that it is for; "" for each that it fits
}

// fits reports whether the key is for an algorithm: by its own alg, its type and
// its curve.
func (k key) fits(alg string) bool {
	if k.alg != "" && k.alg != alg {
		return false
	}
	switch public := k.public.(type) {
	case *rsa.PublicKey:
		return strings.HasPrefix(alg, "RS") || strings.HasPrefix(alg, "PS")
	case *ecdsa.PublicKey:
		return alg == map[string]string{"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}[public.Curve.Params().Name]
	case ed25519.PublicKey:
		return alg == "EdDSA"
	}
	return false
}

// keySet is the usable keys by their kid.
type keySet map[string]key

// parseKeys reads a key set (RFC 7517, section 5). Keys that cannot be used are
// left out, and why is in refused: a set may hold keys for other purposes.
func parseKeys(data []byte) (set keySet, refused []string, err error) {
	var document struct {
		Keys []jsontext.Value `json:"keys"`
	}
	// The decoder's text could quote a private key.
	if json.Unmarshal(data, &document) != nil || document.Keys == nil {
		return nil, nil, errors.New("not a JSON Web Key Set")
	}
	if len(document.Keys) > maxKeys {
		return nil, nil, fmt.Errorf("a key set of %d keys; at most %d are read", len(document.Keys), maxKeys)
	}
	set = keySet{}
	given := map[string]int{}
	for i, raw := range document.Keys {
		kid, k, err := parseKey(raw)
		if kid != "" {
			given[kid]++
		}
		if err != nil {
			refused = append(refused, fmt.Sprintf("key %d: %s", i+1, err))
			continue
		}
		set[kid] = k
	}
	for kid, times := range given {
		if _, usable := set[kid]; usable && times > 1 {
			delete(set, kid)
			refused = append(refused, fmt.Sprintf("%d keys have one and the same kid", times))
		}
	}
	return set, refused, nil
}

// parameters are what is looked at of a JWK before it is decoded.
type parameters struct {
	Kty    string         `json:"kty"`
	Kid    string         `json:"kid"`
	Use    string         `json:"use"`
	KeyOps []string       `json:"key_ops"`
	D      jsontext.Value `json:"d"`
	K      jsontext.Value `json:"k"`
}

func parseKey(raw []byte) (kid string, k key, err error) {
	var p parameters
	if json.Unmarshal(raw, &p) != nil {
		return "", key{}, errors.New("not a JSON Web Key")
	}
	switch {
	case p.Kid == "" || len(p.Kid) > maxKid:
		return "", key{}, errors.New("its kid is missing or too long")
	case p.Kty == "oct" || p.K != nil:
		err = errors.New("it is symmetric")
	case p.D != nil:
		err = errors.New("it is private, and known to all who read the set")
	case p.Use != "" && p.Use != "sig", len(p.KeyOps) > 0 && !slices.Contains(p.KeyOps, "verify"):
		err = errors.New("it is not for signatures")
	default:
		k, err = decodeKey(raw)
	}
	return p.Kid, k, err
}

func decodeKey(raw []byte) (key, error) {
	var jwk jose.JSONWebKey
	if err := jwk.UnmarshalJSON(raw); err != nil {
		return key{}, errors.New("it is malformed, or of a type that is not known")
	}
	switch public := jwk.Key.(type) {
	case *rsa.PublicKey:
		if n := public.N.BitLen(); n < minRSA || n > maxRSA {
			return key{}, fmt.Errorf("an RSA key of %d bits; %d to %d are accepted", n, minRSA, maxRSA)
		}
		if public.E < 3 || public.E%2 == 0 {
			return key{}, errors.New("an RSA key with an exponent that does not verify anything")
		}
	case *ecdsa.PublicKey, ed25519.PublicKey:
	default:
		return key{}, errors.New("it is not a public key for signatures")
	}
	return key{public: jwk.Key, alg: jwk.Algorithm}, nil
}
