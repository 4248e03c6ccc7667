package rest

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/sidevault/sidevault/vault/suggest"
)

// parameter is one of a query's.
type parameter struct{ name, value string }

// parseQuery holds the query to the parameters that the route takes, each at most
// once.
func (r *request) parseQuery(takes []string) error {
	query, err := parseQuery(r.fewParameters[:0], r.gin.Request.URL.RawQuery)
	if err != nil {
		return invalid("The query string is malformed", "percent-encode what is not a letter or a digit")
	}
	for i, p := range query {
		if !slices.Contains(takes, p.name) {
			return invalid(fmt.Sprintf("Unknown query parameter %q%s", clip(p.name), suggest.Hint(p.name, takes)), knownParameters(takes))
		}
		if n := 1 + timesGiven(query[i+1:], p.name); n > 1 {
			return invalid(fmt.Sprintf("The query parameter %s is given %d times", p.name, n), "give it once")
		}
		if !utf8.ValidString(p.value) || strings.ContainsRune(p.value, 0) {
			return invalid(fmt.Sprintf("The query parameter %s holds a NUL or is not UTF-8", p.name), "")
		}
	}
	r.query = query
	return nil
}

func timesGiven(query []parameter, name string) (n int) {
	for _, p := range query {
		if p.name == name {
			n++
		}
	}
	return n
}

// parseQuery appends the parameters of a query string, as url.ParseQuery reads it but
// in their order.
func parseQuery(list []parameter, query string) ([]parameter, error) {
	for query != "" {
		var pair string
		pair, query, _ = strings.Cut(query, "&")
		if pair == "" {
			continue
		}
		if strings.Contains(pair, ";") {
			return nil, errors.New("a semicolon separates nothing")
		}
		name, value, _ := strings.Cut(pair, "=")
		name, err := url.QueryUnescape(name)
		if err != nil {
			return nil, err
		}
		if value, err = url.QueryUnescape(value); err != nil {
			return nil, err
		}
		list = append(list, parameter{name, value})
	}
	return list, nil
}

func knownParameters(takes []string) string {
	if len(takes) == 0 {
		return "this operation takes none"
	}
	return "this operation takes: " + strings.Join(takes, ", ")
}

// param returns a query parameter, or nil when it is not given.
func (r *request) param(name string) *string {
	for i := range r.query {
		if r.query[i].name == name {
			return &r.query[i].value
		}
	}
	return nil
}

// boolean reads a query parameter that is true or false; nil when not given.
func (r *request) boolean(name string) (*bool, error) {
	p := r.param(name)
	if p == nil {
		return nil, nil
	}
	if *p != "true" && *p != "false" {
		return nil, invalid("The query parameter "+name+" is not true or false", "give one of the two, or leave it out")
	}
	value := *p == "true"
	return &value, nil
}

// flag is boolean with a default.
func (r *request) flag(name string, otherwise bool) (bool, error) {
	b, err := r.boolean(name)
	if b == nil {
		return otherwise, err
	}
	return *b, err
}

// number reads a query parameter that is a whole number from low to high.
func (r *request) number(name string, otherwise, low, high uint64) (uint64, error) {
	p := r.param(name)
	if p == nil {
		return otherwise, nil
	}
	n, err := strconv.ParseUint(*p, 10, 64)
	if err != nil || n < low || n > high {
		return 0, invalid("The query parameter "+name+" is not valid", fmt.Sprintf("it must be a whole number from %d to %d", low, high))
	}
	return n, nil
}

// time reads a query parameter that is an RFC 3339 time; zero when not given.
func (r *request) time(name string) (time.Time, error) {
	p := r.param(name)
	if p == nil {
		return time.Time{}, nil
	}
	at, err := time.Parse(time.RFC3339Nano, *p)
	if err != nil {
		return time.Time{}, invalid("The query parameter "+name+" is not a time", "it must be an RFC 3339 time, as in 2026-04-29T14:00:00Z")
	}
	return at, nil
}

// name reads a query parameter that must not be empty; "" when not given.
func (r *request) name(name string) (string, error) {
	p := r.param(name)
	if p == nil {
		return "", nil
	}
	if *p == "" {
		return "", invalid(fmt.Sprintf("The query parameter %s is empty", name), "give it a value or leave it out")
	}
	return *p, nil
}

// oneOf reads a query parameter that has one of the known values; "" when not
// given.
func (r *request) oneOf(name string, known []string) (string, error) {
	given, err := r.name(name)
	if err == nil && given != "" && !slices.Contains(known, given) {
		return "", invalid("The query parameter "+name+" is not valid"+suggest.Hint(given, known), "it must be one of: "+strings.Join(known, ", "))
	}
	return given, err
}
