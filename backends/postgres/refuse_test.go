package postgres

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/sidevault/sidevault/backends"
	"github.com/sidevault/sidevault/backends/testserver"
)

// refused opens url, which must fail at once with one line that holds what was
// wanted and no secret.
func refused(t *testing.T, url string, want string, secrets ...string) error {
	t.Helper()
	start := time.Now()
	b, err := Open(t.Context(), url, nil)
	if err == nil {
		b.Close()
		t.Fatalf("opened, want %q", want)
	}
	checkLine(t, err, want, secrets...)
	if took := time.Since(start); took > 4*time.Second {
		t.Errorf("it took %v to say so", took)
	}
	return err
}

func checkLine(t *testing.T, err error, want string, secrets ...string) {
	t.Helper()
	t.Log(err)
	line := fmt.Sprintf("%v %+v %#v", err, err, errors.Unwrap(err))
	if !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
		t.Errorf("got %q, want one line with %q", err, want)
	}
	for _, secret := range secrets {
		if secret != "" && strings.Contains(line, secret) {
			t.Errorf("the error holds the password")
		}
	}
}

func TestRefusedByServer(t *testing.T) {
	s := testserver.Postgres(t)
	database := s.NewDatabase(t)
	good := s.URL(database, testserver.PostgresOwner)
	password := s.Password(testserver.PostgresOwner)
	with := func(change func(u *url.URL)) string {
		u, err := url.Parse(good)
		if err != nil {
			t.Fatal(err)
		}
		change(u)
		return u.String()
	}
	const wrong = "hunter2-secret"
	t.Run("password", func(t *testing.T) {
		err := refused(t, with(func(u *url.URL) { u.User = url.UserPassword("vault", wrong) }), `refuses the password of the user "vault"`, wrong)
		if !errors.Is(err, backends.ErrUnavailable) {
			t.Error("want ErrUnavailable")
		}
	})
	t.Run("user", func(t *testing.T) {
		refused(t, with(func(u *url.URL) { u.User = url.UserPassword("nobody", wrong) }), `"nobody"`, wrong)
	})
	t.Run("database", func(t *testing.T) {
		refused(t, with(func(u *url.URL) { u.Path = "/absent" }), `there is no database "absent": create it`, password)
	})
	t.Run("connect", func(t *testing.T) {
		closed := s.NewDatabase(t)
		s.Admin(t, "postgres", "REVOKE ALL ON DATABASE "+closed+" FROM PUBLIC, vault")
		s.Admin(t, "postgres", "ALTER DATABASE "+closed+" OWNER TO postgres")
		refused(t, s.URL(closed, testserver.PostgresOwner), `the user "vault" lacks a privilege`, password)
	})
	t.Run("create", func(t *testing.T) {
		poor := s.NewDatabase(t)
		s.Admin(t, "postgres", "ALTER DATABASE "+poor+" OWNER TO postgres")
		at := s.URL(poor, testserver.PostgresOwner)
		refused(t, at, `CREATE SCHEMA "sidevault" AUTHORIZATION "vault"`, password)
		s.Admin(t, poor, `CREATE SCHEMA "sidevault" AUTHORIZATION "vault"`)
		open(t, at, nil)
	})
	t.Run("encoding", func(t *testing.T) {
		s.Admin(t, "postgres", "CREATE DATABASE latin OWNER vault TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'")
		refused(t, s.URL("latin", testserver.PostgresOwner), "create it with ENCODING 'UTF8'", password)
	})
	t.Run("no TLS", func(t *testing.T) {
		refused(t, with(func(u *url.URL) { u.RawQuery = "sslmode=require" }), "TLS: the server does not offer it", password)
	})
	t.Run("connections", func(t *testing.T) {
		s.Admin(t, "postgres", "ALTER DATABASE "+database+" CONNECTION LIMIT 0")
		refused(t, good, `the server has no connection left`, password)
	})
}

func TestRefusedURLs(t *testing.T) {
	const secret = "hunter2-secret"
	missing := filepath.Join(t.TempDir(), "ca.pem")
	for at, want := range map[string]string{
		"":                                                                                "postgres://USER:PASSWORD@HOST/DATABASE",
		"mysql://u:" + secret + "@h/d":                                                    "postgres://USER:PASSWORD@HOST/DATABASE",
		"postgres://u:%zz" + secret + "@h/d":                                              "percent-encode",
		"postgres://u:" + secret + "/x@h/d":                                               "percent-encode",
		"postgres://u:" + secret + "@h:port/d":                                            "invalid port",
		"postgres://u:" + secret + "@h:99999/d":                                           "not valid",
		"postgres://u:" + secret + "@h/d?sslmode=sometimes":                               "sslmode",
		"postgres://u:" + secret + "@h/d?pool_max_conns=0":                                "pool_max_conns",
		"postgres://u:" + secret + "@h/d?pool_max_conns=" + secret:                        "not valid",
		"postgres://u:" + secret + "@h/d?connect_timeout=x":                               "connect_timeout",
		"postgres://u@h/d?password=" + secret + "&sslmode=x":                              "sslmode",
		"postgres://u:" + secret + "@h/d?schema=":                                         "the schema in the storage URL",
		"postgres://u:" + secret + "@h/d?schema=Robert%22":                                "the schema in the storage URL",
		"postgres://u:" + secret + "@h/d?schema=a;drop":                                   "NAME=VALUE",
		"postgres://u:" + secret + "@h/d?schema=pg_catalog":                               "the schema in the storage URL",
		"postgres://u:" + secret + "@h/d?sslrootcert=" + missing + "&sslmode=verify-full": missing,
	} {
		refused(t, at, want, secret)
	}
}

// TestSeveralHosts passes over a host that is down.
func TestSeveralHosts(t *testing.T) {
	s := testserver.Postgres(t)
	good, err := url.Parse(s.URL(s.NewDatabase(t), testserver.PostgresOwner))
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	down := l.Addr().String()
	l.Close()
	good.Host = down + "," + s.Address()
	b := open(t, good.String(), nil)
	if want := "postgres://" + good.Host + good.Path; b.place.String() != want {
		t.Errorf("the place is %s, want %s", b.place, want)
	}
	if _, err := b.Commit(t.Context(), put("a", 0, "x")); err != nil {
		t.Error(err)
	}
}

// TestServerErrors explains what is hard to bring about in a test.
func TestServerErrors(t *testing.T) {
	p := place{address: "db:5432", database: "d", user: "u", schema: "s"}
	for code, want := range map[string]string{
		codeDiskFull: "the server's disk is full: make room there", codeStarting: "try again", "XX000": "SQLSTATE XX000",
	} {
		err := p.explain(fmt.Errorf("query: %w", &pgconn.PgError{Severity: "ERROR", Code: code, Message: "two\nlines"}))
		if !errors.Is(err, backends.ErrUnavailable) {
			t.Errorf("%s: %v", code, err)
		}
		checkLine(t, err, want)
	}
}

func TestUnreachable(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	at := "postgres://vault:hunter2-secret@" + address + "/x?sslmode=disable"
	// Connections to it are accepted by the system and answered by nobody.
	refused(t, at, "did not answer in time", "hunter2-secret")
	l.Close()
	err = refused(t, at, "cannot be reached", "hunter2-secret")
	if !errors.Is(err, backends.ErrUnavailable) {
		t.Error("want ErrUnavailable")
	}
	refused(t, "postgres://vault:hunter2-secret@host.invalid/x", "host.invalid", "hunter2-secret")
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := Open(ctx, "postgres://vault:x@"+address+"/x", nil); !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, backends.ErrUnavailable) {
		t.Errorf("with a context that ends: %v", err)
	}
}

// TestOldServer speaks to a server that says it is PostgreSQL 13, counting the
// connections to it: one is enough to learn that.
func TestOldServer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var connections atomic.Int64
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			connections.Add(1)
			go greet(c, "13.14 (Debian 13.14-1)")
		}
	}()
	refused(t, "postgres://vault:hunter2-secret@"+l.Addr().String()+"/x?sslmode=disable", `upgrade it to 14 or newer`, "hunter2-secret")
	if n := connections.Load(); n != 1 {
		t.Errorf("%d connections were made, want 1", n)
	}
}

// greet is the start of a server's side of the protocol.
func greet(c net.Conn, version string) {
	defer c.Close()
	b := pgproto3.NewBackend(c, c)
	if _, err := b.ReceiveStartupMessage(); err != nil {
		return
	}
	b.Send(&pgproto3.AuthenticationOk{})
	b.Send(&pgproto3.ParameterStatus{Name: "server_version", Value: version})
	b.Send(&pgproto3.ParameterStatus{Name: "server_encoding", Value: "UTF8"})
	b.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
	b.Flush()
	b.Receive()
}

func TestTLS(t *testing.T) {
	s := testserver.StartPostgres(t, testserver.PostgresConfig{TLS: true, NoSync: true, Settings: []string{"listen_addresses=127.0.0.1,127.0.0.2"}})
	good := s.URL(s.NewDatabase(t), testserver.PostgresOwner)
	password := s.Password(testserver.PostgresOwner)
	b := open(t, good, nil)
	var encrypted bool
	if err := b.pool.QueryRow(t.Context(), "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()").Scan(&encrypted); err != nil || !encrypted {
		t.Errorf("the connection is encrypted: %t, %v", encrypted, err)
	}
	if _, err := b.Commit(t.Context(), put("a", 0, "over TLS")); err != nil {
		t.Error(err)
	}
	unknown := strings.Replace(good, "sslrootcert="+s.CA+"&", "", 1)
	unknown = strings.Replace(unknown, "sslrootcert="+s.CA, "", 1)
	refused(t, unknown, "TLS: the server's certificate is signed by an authority that is not known here", password)
	other := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(other, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	refused(t, strings.Replace(good, s.CA, other, 1), "CA", password)
	refused(t, strings.Replace(good, "127.0.0.1", "127.0.0.2", 1), "use the name in the certificate", password)
}

// TestReplica makes the server of a running handle a read-only replica.
func TestReplica(t *testing.T) {
	s := testserver.StartPostgres(t, testserver.PostgresConfig{NoSync: true})
	at := s.URL(s.NewDatabase(t), testserver.PostgresOwner)
	b := open(t, at, nil)
	if _, err := b.Commit(t.Context(), put("a", 0, "x")); err != nil {
		t.Fatal(err)
	}
	s.Demote(t)
	err := refused(t, at, "read-only replica: give the address of the primary", s.Password(testserver.PostgresOwner))
	if !errors.Is(err, backends.ErrUnavailable) {
		t.Error("want ErrUnavailable")
	}
	if _, err = b.Commit(t.Context(), put("b", 0, "x")); !errors.Is(err, backends.ErrUnavailable) {
		t.Errorf("Commit to a replica: %v", err)
	} else {
		checkLine(t, err, "read-only replica")
	}
}

func TestReadOnlyMode(t *testing.T) {
	s := testserver.Postgres(t)
	database := s.NewDatabase(t)
	at := s.URL(database, testserver.PostgresOwner)
	first := open(t, at, nil)
	if _, err := first.Commit(t.Context(), put("a", 0, "x")); err != nil {
		t.Fatal(err)
	}
	s.Admin(t, "postgres", "ALTER DATABASE "+database+" SET default_transaction_read_only = on")
	b := open(t, at, nil)
	_, err := b.Commit(t.Context(), put("b", 0, "x"))
	if !errors.Is(err, backends.ErrUnavailable) {
		t.Fatalf("Commit: %v", err)
	}
	checkLine(t, err, "the server is read-only")
	if r, err := b.Get(t.Context(), "a"); err != nil || string(r.Value) != "x" {
		t.Errorf("Get: %q, %v", r.Value, err)
	}
}
