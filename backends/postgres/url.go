package postgres

import (
	"errors"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	defaultSchema         = "sidevault"
	defaultConnectTimeout = 2 * time.Second
)

// schemaName leaves room in PostgreSQL's 63 bytes for the channel's prefix.
var schemaName = regexp.MustCompile(`^[a-z_][a-z0-9_]{0,49}$`)

// place is where the records are, for error texts: it holds no password.
type place struct {
	address  string // host:port or a socket's directory, several separated by commas
	database string
	user     string
	schema   string
}

func (p place) String() string { return "postgres://" + p.address + "/" + p.database }

var errURL = errors.New("the storage URL is not of the form postgres://USER:PASSWORD@HOST/DATABASE?sslmode=verify-full: " +
	"correct it, and percent-encode special characters in the password")

// parseURL returns the pool's configuration and the place. Its errors quote
// nothing of the URL: a password with an unescaped character can land anywhere in
// what the parsers quote. net/url does not take several hosts with ports, so it is
// asked about the parts only.
func parseURL(text string) (*pgxpool.Config, place, error) {
	base, rawQuery, _ := strings.Cut(text, "?")
	scheme, rest, _ := strings.Cut(base, "://")
	authority, path, _ := strings.Cut(rest, "/")
	info := authority[:max(0, strings.LastIndex(authority, "@"))]
	if _, err := url.PathUnescape(info); err != nil || scheme != "postgres" && scheme != "postgresql" || strings.Contains(path, "@") {
		return nil, place{}, errURL
	}
	query, err := url.ParseQuery(rawQuery)
	if err != nil {
		return nil, place{}, errors.New("the storage URL is not valid: the part after ? must be NAME=VALUE&NAME=VALUE, percent-encoded")
	}
	schema := defaultSchema
	if query.Has("schema") {
		schema = query.Get("schema")
		query.Del("schema")
	}
	if !schemaName.MatchString(schema) || strings.HasPrefix(schema, "pg_") {
		return nil, place{}, errors.New("the schema in the storage URL must be 1 to 50 of a-z 0-9 _, not beginning with a digit or pg_")
	}
	if !query.Has("connect_timeout") && os.Getenv("PGCONNECT_TIMEOUT") == "" {
		query.Set("connect_timeout", "2")
	}
	config, err := pgxpool.ParseConfig(base + "?" + query.Encode())
	if err != nil {
		_, password, _ := strings.Cut(info, ":")
		return nil, place{}, errors.New("the storage URL is not valid: " + parseFault(err, password, query))
	}
	return config, placeOf(config.ConnConfig.Config, schema), nil
}

// parseFault says what pgx found wrong, unless that could quote a password.
func parseFault(err error, password string, query url.Values) string {
	// Error quotes the whole URL, with the password blanked out as well as pgx
	// can. What follows the quotation is pgx's own text.
	_, inner, _ := strings.Cut(err.Error(), "`: ")
	unescaped, _ := url.PathUnescape(password)
	for _, secret := range []string{password, unescaped, query.Get("password"), query.Get("sslpassword")} {
		if secret != "" && strings.Contains(inner, secret) {
			inner = ""
		}
	}
	if inner == "" || strings.Contains(inner, "://") {
		return "check its parameters"
	}
	return oneLine(inner)
}

func placeOf(c pgconn.Config, schema string) place {
	addresses := []string{address(c.Host, c.Port)}
	for _, f := range c.Fallbacks {
		if a := address(f.Host, f.Port); !slices.Contains(addresses, a) {
			addresses = append(addresses, a)
		}
	}
	return place{address: strings.Join(addresses, ","), database: c.Database, user: c.User, schema: schema}
}

func address(host string, port uint16) string {
	network, address := pgconn.NetworkAddress(host, port)
	if network == "unix" {
		return host
	}
	return address
}
